import { createPrivateKey, sign } from 'node:crypto';

/** An element of DER. */
function der(tag: number, ...content: readonly Buffer[]): Buffer {
  const inside = Buffer.concat(content);
  const length =
    inside.length < 0x80
      ? [inside.length]
      : inside.length < 0x100
        ? [0x81, inside.length]
        : [0x82, inside.length >> 8, inside.length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), inside]);
}

function time(ms: number): Buffer {
  const text = new Date(ms)
    .toISOString()
    .replace(/[-:T]|\.\d+/g, '')
    .slice(2);
  return der(0x17, Buffer.from(text, 'latin1'));
}

/** ecdsa-with-SHA256. */
const ALGORITHM = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
/** commonName. */
const CN = der(0x06, Buffer.from('550403', 'hex'));

/** A revocation list (RFC 5280 §5.1) in PEM that revokes nobody, as an authority with a key of P-256 signs it. */
export function revocationList(issuer: string, key: string, nextUpdateMs: number): string {
  const name = der(0x30, der(0x31, der(0x30, CN, der(0x0c, Buffer.from(issuer)))));
  const list = der(0x30, der(0x02, Buffer.from([1])), ALGORITHM, name, time(Date.UTC(2025, 0)), time(nextUpdateMs));
  const signature = der(0x03, Buffer.from([0]), sign('sha256', list, createPrivateKey(key)));
  const base64 = der(0x30, list, ALGORITHM, signature).toString('base64');
  return `-----BEGIN X509 CRL-----\n${(base64.match(/.{1,64}/g) ?? []).join('\n')}\n-----END X509 CRL-----\n`;
}
