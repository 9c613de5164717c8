/**
 * Certificates of our own listeners: made when there is none (`self_signed`), described for logs and warnings, and
 * picked by the name a client asks for (SNI, RFC 6066 §3).
 *
 * No error of this file carries anything of a private key, nor the error of the library underneath, which might.
 */
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { SecureContext, SecureContextOptions } from 'node:tls';
import { formatAddress, parseAddress } from '../net/address.js';
import type { CertificatePair } from '../policy/policy.js';
import { Secret } from '../secret/secret.js';

export type CertificateErrorCode =
  /** A name for a self-signed certificate is neither a DNS name nor an IP address, or there is none. */
  | 'bad_name'
  /** Not a PEM certificate, or one with unreadable dates. */
  | 'bad_certificate'
  /** Not a PEM private key. */
  | 'bad_key'
  | 'key_encrypted'
  | 'key_mismatch'
  /** OpenSSL refuses the pair, e.g. because the key is too short. */
  | 'unusable'
  /** A private key that others than its owner may read. */
  | 'key_too_open'
  /** A directory in which others may exchange the private key. */
  | 'dir_too_open'
  /** A file in the place of a generated one that guardbee did not make, and will not overwrite. */
  | 'not_ours'
  /** The directory or a file in it could not be read or written. */
  | 'io';

/** Why a certificate cannot be used. The message is one sentence for the operator, with the file and the fix. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError';
  readonly code: CertificateErrorCode;
  /** The file or directory that it is about, where there is one. */
  readonly file: string | null;

  constructor(code: CertificateErrorCode, message: string, file: string | null = null) {
    super(message);
    this.code = code;
    this.file = file;
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Reading

export interface CertificateDescription {
  /** One line: `CN=queen.lan, O=Example`. Empty when the certificate names nobody. */
  readonly subject: string;
  readonly issuer: string;
  /** DNS names (lower case) and IP addresses (canonical) of the SAN; a CN is no name (RFC 9525 §2). */
  readonly names: readonly string[];
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SHA-256 of the certificate, `AA:BB:…`. */
  readonly fingerprint256: string;
  readonly selfSigned: boolean;
}

/**
 * Says what the first certificate of a PEM text is.
 *
 * @throws CertificateError `bad_certificate`
 */
export function describeCertificate(pem: string): CertificateDescription {
  return describe(readCertificate(pem, null));
}

function readCertificate(pem: string, file: string | null): X509Certificate {
  // X509Certificate reads DER as well, which createSecureContext does not.
  if (pem.includes('-----BEGIN ')) {
    try {
      return new X509Certificate(pem);
    } catch {
      // Said below.
    }
  }
  throw new CertificateError('bad_certificate', `${file ?? 'this'} is not a PEM certificate`, file);
}

function describe(certificate: X509Certificate, file: string | null = null): CertificateDescription {
  const notBefore = new Date(certificate.validFrom);
  const notAfter = new Date(certificate.validTo);
  if (Number.isNaN(notBefore.getTime()) || Number.isNaN(notAfter.getTime())) {
    throw new CertificateError('bad_certificate', `the dates of ${file ?? 'the certificate'} cannot be read`, file);
  }
  return {
    subject: oneLine(certificate.subject),
    issuer: oneLine(certificate.issuer),
    names: subjectNames(certificate.subjectAltName),
    notBefore,
    notAfter,
    fingerprint256: certificate.fingerprint256,
    selfSigned: isSelfSigned(certificate),
  };
}

/** Node writes one attribute a line, and gives undefined for a name without any, whatever its types say. */
function oneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ');
}

/** Not by `checkIssued`, which asks for an authority (keyCertSign), and ours is none. */
function isSelfSigned(certificate: X509Certificate): boolean {
  if (certificate.subject !== certificate.issuer) return false;
  try {
    return certificate.verify(certificate.publicKey);
  } catch {
    // A key of a kind that OpenSSL does not know.
    return false;
  }
}

/**
 * The DNS names and IP addresses of `subjectAltName` as Node prints it: `DNS:a.example, IP Address:10.0.0.1, …`.
 * A value with unusual characters is printed as a JSON string (CVE-2021-44532), and is no host name.
 */
function subjectNames(subjectAltName: string | undefined): string[] {
  const names = new Set<string>();
  const entry = /([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy;
  for (const [, type, value = ''] of (subjectAltName ?? '').matchAll(entry)) {
    if (type === 'DNS' && value !== '' && !value.startsWith('"')) names.add(value.toLowerCase());
    const address = type === 'IP Address' ? parseAddress(value) : null;
    if (address !== null) names.add(formatAddress(address));
  }
  return [...names];
}

// ---------------------------------------------------------------------------------------------------------------
// Choosing

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

/** The stable code of an error of Node or OpenSSL: a word of their source, never of their input. */
function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
}

// ---------------------------------------------------------------------------------------------------------------
// Making

export interface SelfSigned {
  readonly certFile: string;
  readonly keyFile: string;
  readonly certPem: string;
  readonly keyPem: Secret;
  /** False when a certificate made earlier serves on. */
  readonly created: boolean;
}

const CERT_NAME = 'self-signed.crt';
const KEY_NAME = 'self-signed.key';

/** Of every certificate made here; one without it is somebody's own and is not overwritten. */
const ORGANISATION = 'guardbee self-signed';

const DAY_MS = 86_400_000;
/** What public authorities may issue at most (CA/Browser Forum, until March 2026: 398), so what clients put up with. */
const VALID_DAYS = 397;
const RENEW_DAYS = 30;
/** A client whose clock is behind must not find it "not valid yet". */
const BACKDATE_MS = 3_600_000;

/** Bytes: more than any certificate or key of ours; what is longer is not read. */
const LONGEST_FILE = 65_536;

/**
 * The self-signed certificate in `dir` (`self-signed.crt`, 0644, and `self-signed.key`, 0600) for exactly these names:
 * the one that is there, when it was made for the same names and lasts for more than 30 days, else a new one, ECDSA
 * P-256, for 397 days. A directory that is made is 0700. Keep one directory for each set of names.
 *
 * The certificate is no authority (CA:FALSE). It can still be trusted by itself (`curl --cacert self-signed.crt`), and
 * whoever trusts it trusts these names alone: were it an authority, a stolen key could vouch for any site. Rust's
 * webpki also refuses an authority as a server's certificate.
 *
 * @param names DNS names (also `*.example.lan`) and IP addresses
 * @param nowMs epoch milliseconds
 * @throws CertificateError `bad_name`, `key_too_open`, `dir_too_open`, `not_ours` or `io`
 */
export function ensureSelfSigned(
  dir: string,
  names: readonly string[],
  nowMs: number = Date.now(),
): Promise<SelfSigned> {
  // One after the other in one directory, or two listeners that start together leave the key of one and the
  // certificate of the other.
  const before = underway.get(dir) ?? Promise.resolve();
  const mine = before.then(() => ensure(dir, names, nowMs));
  const settled = mine.then(
    () => undefined,
    () => undefined,
  );
  underway.set(dir, settled);
  void settled.then(() => {
    if (underway.get(dir) === settled) underway.delete(dir);
  });
  return mine;
}

const underway = new Map<string, Promise<void>>();

async function ensure(dir: string, names: readonly string[], nowMs: number): Promise<SelfSigned> {
  const wanted = canonicalNames(names);
  const certFile = join(dir, CERT_NAME);
  const keyFile = join(dir, KEY_NAME);
  try {
    await makePrivateDirectory(dir);
    const key = await readKey(keyFile);
    const certPem = (await readRegularFile(certFile))?.bytes.toString('utf8') ?? null;
    if (certPem !== null && servesOn(certPem, certFile, key, wanted, nowMs) && key !== null) {
      return { certFile, keyFile, certPem, keyPem: key, created: false };
    }
    const made = await generateSelfSigned(wanted, nowMs);
    // The key first: a certificate whose key is missing or another one is simply replaced at the next start.
    await writeAtomically(dir, KEY_NAME, made.keyPem.reveal(), 0o600);
    await writeAtomically(dir, CERT_NAME, made.certPem, 0o644);
    return { certFile, keyFile, ...made, created: true };
  } catch (error) {
    if (error instanceof CertificateError) throw error;
    throw new CertificateError('io', `the self-signed certificate in ${dir} cannot be kept: ${codeOf(error)}`, dir);
  }
}

/** Sorted, each once; names in lower case without a dot at the end, addresses in canonical form. */
function canonicalNames(names: readonly string[]): string[] {
  if (names.length === 0) throw new CertificateError('bad_name', 'a self-signed certificate needs at least one name');
  const canonical = names.map((name) => {
    const address = parseAddress(name);
    if (address !== null) return formatAddress(address);
    const lower = name.toLowerCase().replace(/\.$/u, '');
    if (!isDnsName(lower)) {
      throw new CertificateError(
        'bad_name',
        `${JSON.stringify(name.slice(0, 64))} is neither a DNS name nor an IP address (no port, no brackets; international names as xn--…)`,
      );
    }
    return lower;
  });
  return [...new Set(canonical)].sort();
}

/** Letters, digits, `-` and the `_` of Compose services; the last label has a letter, or it would read as an address. */
function isDnsName(name: string): boolean {
  const labels = (name.startsWith('*.') ? name.slice(2) : name).split('.');
  return (
    name.length <= 253 &&
    labels.every((label) => /^[a-z\d_](?:[a-z\d_-]{0,61}[a-z\d_])?$/u.test(label)) &&
    /[a-z]/u.test(labels.at(-1) ?? '') &&
    !/^0x[\da-f]*$/u.test(labels.at(-1) ?? '')
  );
}

function servesOn(
  certPem: string,
  certFile: string,
  key: Secret | null,
  wanted: readonly string[],
  nowMs: number,
): boolean {
  let certificate: X509Certificate;
  let description: CertificateDescription;
  try {
    certificate = readCertificate(certPem, certFile);
    description = describe(certificate, certFile);
  } catch {
    // Nothing that anybody could still use: replaced.
    return false;
  }
  if (!description.selfSigned || !description.subject.split(', ').includes(`O=${ORGANISATION}`)) {
    throw new CertificateError(
      'not_ours',
      `${certFile} was not made by guardbee, which would overwrite it: move it away, or name it and its key in tls.cert and tls.key`,
      certFile,
    );
  }
  if (key === null) return false;
  if (description.notBefore.getTime() > nowMs) return false;
  if (description.notAfter.getTime() <= nowMs + RENEW_DAYS * DAY_MS) return false;
  if (!sameNames([...description.names].sort(), wanted)) return false;
  try {
    return certificate.checkPrivateKey(createPrivateKey({ key: key.reveal(), format: 'pem' }));
  } catch {
    return false;
  }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, i) => name === b[i]);
}

async function generateSelfSigned(
  names: readonly string[],
  nowMs: number,
): Promise<{ readonly certPem: string; readonly keyPem: Secret }> {
  // A tenth of a second to load, and most starts need no new certificate.
  const { generate } = await import('selfsigned');
  const notBeforeMs = nowMs - BACKDATE_MS;
  const made = await generate(
    [
      // Two of them may stand in one bundle of trusted certificates, where readers look for the subject first.
      { name: 'commonName', value: `guardbee ${randomBytes(4).toString('hex')}` },
      { name: 'organizationName', value: ORGANISATION },
    ],
    {
      keyType: 'ec',
      curve: 'P-256',
      algorithm: 'sha256',
      notBeforeDate: new Date(notBeforeMs),
      notAfterDate: new Date(notBeforeMs + VALID_DAYS * DAY_MS),
      extensions: [
        { name: 'basicConstraints', cA: false, critical: true },
        { name: 'keyUsage', digitalSignature: true, critical: true },
        { name: 'extKeyUsage', serverAuth: true },
        {
          name: 'subjectAltName',
          altNames: names.map((name) =>
            parseAddress(name) === null ? { type: 2, value: name } : { type: 7, ip: name },
          ),
        },
      ],
    },
  );
  // Without a line end, `cat a.crt b.crt` would join the last line of one to the first of the other.
  return { certPem: `${made.cert.trimEnd()}\n`, keyPem: Secret.fromText(made.private) };
}

// ---------------------------------------------------------------------------------------------------------------
// Files

/** Makes it with mode 0700 when absent; refuses one in which somebody else could exchange files. */
async function makePrivateDirectory(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(dir);
  if ((mode & 0o022) !== 0 || isForeign(uid)) {
    throw new CertificateError(
      'dir_too_open',
      `others may write to ${dir} (mode ${octal(mode)}), so they could exchange the key in it: chmod 700 ${dir}, owned by the user that runs guardbee`,
      dir,
    );
  }
}

/** Owned by neither us nor root. */
function isForeign(uid: number): boolean {
  const own = process.getuid?.();
  return own !== undefined && uid !== own && uid !== 0;
}

function octal(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

async function readKey(keyFile: string): Promise<Secret | null> {
  const read = await readRegularFile(keyFile);
  if (read === null) return null;
  const { mode, uid, bytes } = read;
  if ((mode & 0o077) !== 0 || isForeign(uid)) {
    bytes.fill(0);
    throw new CertificateError(
      'key_too_open',
      `${keyFile} holds a private key and is open to others (mode ${octal(mode)}): delete it to have a new one made, or chmod 600 ${keyFile} if nobody else can have read it`,
      keyFile,
    );
  }
  return Secret.fromBytes(bytes);
}

/**
 * Content, mode and owner of one and the same file; null when there is none.
 *
 * @throws CertificateError `not_ours` for a symbolic link, a pipe, a directory or something far too long
 */
async function readRegularFile(file: string): Promise<{ mode: number; uid: number; bytes: Buffer } | null> {
  const refuse = (): CertificateError =>
    new CertificateError('not_ours', `${file} is not a file that guardbee made: move it away`, file);
  let handle: FileHandle;
  try {
    // A link could point at any file of ours, and a pipe would make us wait for ever.
    handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    if (codeOf(error) === 'ELOOP') throw refuse();
    throw error;
  }
  try {
    const { mode, uid, size } = await handle.stat().then((stats) => {
      if (!stats.isFile() || stats.size > LONGEST_FILE) throw refuse();
      return stats;
    });
    const bytes = Buffer.alloc(size);
    const { bytesRead } = await handle.read(bytes, 0, size, 0);
    return { mode, uid, bytes: bytes.subarray(0, bytesRead) };
  } finally {
    await handle.close();
  }
}

/** The whole new content or the whole old one, also after a crash. */
async function writeAtomically(dir: string, name: string, content: string, mode: number): Promise<void> {
  const temporary = join(dir, `.${name}.${randomBytes(8).toString('hex')}.tmp`);
  const handle = await open(temporary, 'wx', mode);
  try {
    // The mode given to open() is narrowed by the umask; this one is not.
    await handle.chmod(mode);
    await handle.writeFile(content);
    await handle.sync();
    await handle.close();
    await rename(temporary, join(dir, name));
  } catch (error) {
    await handle.close().catch(() => undefined);
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  const directory = await open(dir, constants.O_RDONLY);
  try {
    // Without it the rename itself may be lost in a power cut.
    await directory.sync();
  } finally {
    await directory.close();
  }
}
