/** Of the certificates of a listener the one for the name that a client asks for (SNI, RFC 6066 §3). */
import { createPrivateKey } from 'node:crypto';
import type { KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { SecureContext, SecureContextOptions } from 'node:tls';
import type { CertificatePair } from '../policy/policy.js';
import type { Secret } from '../secret/secret.js';
import { CertificateError, codeOf, describe, readCertificate } from './certificate.js';

export interface SniContexts {
  /** Of the first pair: for clients that name no server. */
  readonly defaultContext: SecureContext;
  /**
   * What `tls.createServer` and `server.setSecureContext` need for `defaultContext`: they make their own from cert and
   * key, and Node does not call SNICallback for a client that sends no name. Holds the key in the clear: pass it on,
   * keep it nowhere.
   */
  defaultOptions(): SecureContextOptions;
  /**
   * The context for a server name: a certificate with that very name, else one with the wildcard for it (one label,
   * RFC 9525 §6.3), else the default. In any case of letters; of several pairs with one name the first.
   */
  select(servername: string): SecureContext;
  /** What an authority is shown that looks whether a name is ours. Null: no authority is asked here. */
  readonly challenged: Challenged | null;
}

/** The context for the one handshake that answers it; null: nobody looks for this name. */
export type Challenged = (servername: string) => SecureContext | null;

/** Names whose certificates an authority issues, one after the other. */
export interface Awaited {
  /** Lower case; names that there is no certificate for yet. */
  readonly missing: readonly string[];
  readonly challenged: Challenged;
}

/**
 * Of TLS 1.2 what RFC 9325, section 4.2 recommends: ephemeral keys and authenticated encryption, no CBC (Lucky13) and
 * no RSA key exchange, which Node's own list has. A handshake goes by the context
 * that it began with, whichever certificate its name picks.
 */
const CIPHERS = [
  ...['TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256'],
  ...['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ...['ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
  ...['ECDHE-ECDSA-CHACHA20-POLY1305', 'ECDHE-RSA-CHACHA20-POLY1305'],
].join(':');

/** What a key of each type signs a handshake with, as OpenSSL orders it. */
const SIGNATURES: readonly (readonly [type: string, names: readonly string[]])[] = [
  ['ec', ['ecdsa_secp256r1_sha256', 'ecdsa_secp384r1_sha384', 'ecdsa_secp521r1_sha512']],
  ['ed25519', ['ed25519']],
  ['ed448', ['ed448']],
  ['rsa-pss', ['rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512']],
  [
    'rsa',
    [
      ...['rsa_pss_rsae_sha256', 'rsa_pss_rsae_sha384', 'rsa_pss_rsae_sha512'],
      ...['rsa_pkcs1_sha256', 'rsa_pkcs1_sha384', 'rsa_pkcs1_sha512'],
    ],
  ],
];

/**
 * Makes a TLS context for each certificate.
 *
 * @param pairs the first is the default
 * @param tlsOptions for every context; TLS 1.2 is the least, with `CIPHERS`, unless it says otherwise
 * @throws CertificateError `bad_certificate`, `bad_key`, `key_encrypted`, `key_mismatch` or `unusable`, naming the file
 * @param awaited null: there are all that there will be. Else handshakes fail for a name that has none yet: with the
 *   certificate of another name they would fail as well, and teach somebody to pass over it
 * @throws TypeError when there is no pair, and none is awaited
 */
export function createSniContexts(
  pairs: readonly CertificatePair[],
  tlsOptions: SecureContextOptions = {},
  awaited: Awaited | null = null,
): SniContexts {
  const byName = new Map<string, SecureContext>();
  const keyTypes: (string | undefined)[] = [];
  const contexts = pairs.map((pair) => {
    const { context, names, keyType } = contextOf(pair, tlsOptions);
    keyTypes.push(keyType);
    for (const name of names) if (!byName.has(name)) byName.set(name, context);
    return context;
  });
  const [defaultPair] = pairs;
  const preferences = new Set(keyTypes).size > 1 ? lastOfAll(keyTypes[0]) : {};
  const certified = contexts[0];
  if (certified === undefined && awaited === null) throw new TypeError('no certificate given');
  // Without a certificate OpenSSL ends the handshake by itself, with the alert handshake_failure.
  const none = createSecureContext(bareOptions(tlsOptions));
  const defaultContext = certified ?? none;
  const missing = new Set(awaited?.missing ?? []);
  const challenged = awaited?.challenged ?? null;
  return {
    defaultContext,
    // A context without a certificate takes none away that the server itself has: as long as a name has none, the
    // server has none either, and clients that name no server wait with those that name this one.
    defaultOptions: () =>
      defaultPair === undefined || missing.size > 0
        ? bareOptions(tlsOptions)
        : optionsOf(defaultPair, { ...preferences, ...tlsOptions }),
    challenged,
    select(servername) {
      const name = servername.toLowerCase().replace(/\.$/u, '');
      // TLS 1.2 picks a certificate before the protocol: the handshake of an authority must come as far as that.
      if (missing.has(name)) return challenged?.(name) ?? none;
      const dot = name.indexOf('.');
      const wildcard = dot > 0 ? byName.get(`*${name.slice(dot)}`) : undefined;
      return byName.get(name) ?? wildcard ?? defaultContext;
    },
  };
}

function bareOptions(tlsOptions: SecureContextOptions): SecureContextOptions {
  return { minVersion: 'TLSv1.2', ciphers: CIPHERS, ...tlsOptions };
}

/**
 * Of several certificates whose keys are of several types: Node puts the one that a name picks beside the one that the
 * server itself has (SSL_use_certificate), where it takes its place only if both keys are of one type. OpenSSL then has
 * two, and takes the type that the server prefers. So the type of the server's own comes last.
 */
function lastOfAll(type: string | undefined): SecureContextOptions {
  const own = SIGNATURES.filter(([one]) => one === type);
  const others = SIGNATURES.filter(([one]) => one !== type);
  // In TLS 1.2 the cipher suite is picked first, and says the type (EdDSA is of ECDSA's).
  const suites = CIPHERS.split(':');
  const rsa = suites.filter((one) => one.startsWith('ECDHE-RSA-'));
  const rest = suites.filter((one) => !rsa.includes(one));
  return {
    sigalgs: [...others, ...own].flatMap(([, names]) => names).join(':'),
    ciphers: (type?.startsWith('rsa') === true ? [...rest, ...rsa] : [...rsa, ...rest]).join(':'),
  };
}

function optionsOf(pair: CertificatePair, tlsOptions: SecureContextOptions): SecureContextOptions {
  return { ...bareOptions(tlsOptions), cert: pair.certPem, key: pair.key.reveal() };
}

function contextOf(
  pair: CertificatePair,
  tlsOptions: SecureContextOptions,
): { readonly context: SecureContext; readonly names: readonly string[]; readonly keyType: string | undefined } {
  const certificate = readCertificate(pair.certPem, pair.certFile);
  checkKey(certificate, pair);
  const { names } = describe(certificate, pair.certFile);
  try {
    const keyType = certificate.publicKey.asymmetricKeyType;
    return { context: createSecureContext(optionsOf(pair, tlsOptions)), names, keyType };
  } catch (error) {
    throw new CertificateError(
      'unusable',
      `${pair.certFile} and ${pair.keyFile} cannot be used for TLS: ${codeOf(error)}`,
      pair.certFile,
    );
  }
}

function checkKey(certificate: X509Certificate, pair: CertificatePair): void {
  const key = readPrivateKey(pair.key, pair.keyFile);
  let matches = false;
  try {
    matches = certificate.checkPrivateKey(key);
  } catch {
    // A certificate whose key OpenSSL cannot read matches nothing.
  }
  if (!matches) {
    throw new CertificateError('key_mismatch', `${pair.keyFile} is not the key of ${pair.certFile}`, pair.keyFile);
  }
}

function readPrivateKey(key: Secret, file: string): KeyObject {
  const pem = key.reveal();
  try {
    return createPrivateKey({ key: pem, format: 'pem' });
  } catch {
    // Asked of the text (RFC 7468 §11, RFC 1421 §4.6.1.1): the error for it differs with the version of OpenSSL.
    if (pem.includes('-----BEGIN ENCRYPTED PRIVATE KEY-----') || pem.includes('Proc-Type: 4,ENCRYPTED')) {
      throw new CertificateError(
        'key_encrypted',
        `${file} is encrypted with a passphrase, which nobody could type at a start: decrypt it (openssl pkey) and keep it at mode 0600`,
        file,
      );
    }
    throw new CertificateError('bad_key', `${file} is not a PEM private key`, file);
  }
}
