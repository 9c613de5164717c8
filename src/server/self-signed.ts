/** Certificates that are made for our own listeners when there are none (`self_signed`), and kept. */
import { createPrivateKey, randomBytes } from 'node:crypto';
import type { X509Certificate } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open, rename, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { formatAddress, parseAddress } from '../net/address.js';
import { Secret } from '../secret/secret.js';
import { CertificateError, codeOf, describe, readCertificate } from './certificate.js';
import type { CertificateDescription } from './certificate.js';

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
