#!/bin/sh
# A private authority, and a certificate of each machine for both ends of a link. Run it once, on a machine that you trust:
#
#     sh make-certificates.sh river.lan runner-1.lan
#
# Then give each machine ca.crt and its own NAME.crt and NAME.key. Nobody needs ca.key but whoever makes the next one:
# with ca.key and ca.crt beside it the script goes on with the same authority. One for a name that has one is made anew.
set -eu
umask 077
[ $# -gt 0 ] || { echo "usage: sh make-certificates.sh NAME…" >&2; exit 2; }

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [ ! -e ca.key ]; then
  new_key ca.key
  openssl req -x509 -new -key ca.key -out ca.crt -days 3650 -subj "/CN=authority of the nodes" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"
fi
for name in "$@"; do
  new_key "$name.key"
  openssl req -new -key "$name.key" -subj "/CN=$name" -out "$name.csr"
  printf '%s\n' "subjectAltName=DNS:$name" "basicConstraints=critical,CA:FALSE" \
    "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth,clientAuth" >"$name.ext"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 397 -extfile "$name.ext" -out "$name.crt"
  rm -f "$name.csr" "$name.ext"
done
chmod 644 ./*.crt
