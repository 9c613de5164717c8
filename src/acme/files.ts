/**
 * What outlives the process, below `acme/` of the state directory (all 0600, folders 0700): for each authority the
 * account and its key, for each host the certificate with its key in one file, so that one never is without the other,
 * the order that is underway, and what became of the last attempt.
 */
import { type KeyObject, X509Certificate } from 'node:crypto';
import { mkdir, readdir, unlink } from 'node:fs/promises';
import * as path from 'node:path';
import { createSecureContext } from 'node:tls';
import type { CertificatePair } from '../policy/policy.js';
import { sha256Hex } from '../secret/digest.js';
import { type FileFault, LARGEST_SECRET, currentReader, readFile } from '../secret/files.js';
import { Secret } from '../secret/secret.js';
import { replaceStateFile, syncDirectory, why } from '../state/state-directory.js';
import { StateError } from '../state/store.js';
import { keyFromPem, keyToPem, newKey } from './account-key.js';

/** A file with a key in it that others may read or exchange. The message names it and says what to do. */
export class AcmeFileError extends Error {
  override readonly name = 'AcmeFileError';
}

/** An order that has not become a certificate yet. */
export interface PendingOrder {
  /** Of the authority that has it. */
  readonly directory: string;
  readonly order: string;
  /** Of the certificate to be. */
  readonly key: KeyObject;
}

/** What became of attempts; times in epoch milliseconds. */
export interface HostStatus {
  /** In a row. */
  readonly failures: number;
  /** What the operator is told; null: the last attempt went well. */
  readonly lastFailure: { readonly atMs: number; readonly why: string } | null;
  /** The authority wants to be left alone until then. */
  readonly notBeforeMs: number | null;
  /** Directory of that authority. */
  readonly limitedBy: string | null;
  readonly lastSuccessMs: number | null;
}

export const NOTHING_TRIED: HostStatus = {
  failures: 0,
  lastFailure: null,
  notBeforeMs: null,
  limitedBy: null,
  lastSuccessMs: null,
};

/** A certificate that was issued here. */
export interface Issued {
  readonly pair: CertificatePair;
  readonly certificate: X509Certificate;
  /** Of the authority that issued it. */
  readonly directory: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/g;
const KEY = /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----\n?/;
const ISSUED_BY = /^# issued by (https:\/\/\S+)$/m;

export function acmeDirectory(stateDir: string): string {
  return path.join(stateDir, 'acme');
}

/** The text of a file of ours. Null: there is none. @throws AcmeFileError, StateError */
async function readPrivate(file: string): Promise<string | null> {
  const { bytes, fault } = await readFile(file, 'private', LARGEST_SECRET, currentReader({}));
  if (fault === null && bytes !== null) return bytes.toString('utf8');
  if (fault === null || fault.kind === 'missing') return null;
  if (fault.kind === 'too_open') {
    throw new AcmeFileError(`${file} holds a private key and is open to others (${fault.why}): ${fault.fix}`);
  }
  throw new StateError(`${file} cannot be read: ${inWords(fault)}`);
}

function inWords(fault: Exclude<FileFault, { readonly kind: 'too_open' }>): string {
  switch (fault.kind) {
    case 'missing':
      return 'it is not there';
    case 'unreadable':
      return fault.why;
    case 'not_a_file':
      return `it is ${fault.what}`;
    case 'too_large':
      return 'it is far too large';
  }
}

async function makeDirectory(dir: string): Promise<void> {
  try {
    const made = await mkdir(dir, { recursive: true, mode: 0o700 });
    if (made !== undefined) await syncDirectory(path.dirname(dir));
  } catch (error) {
    throw new StateError(`${dir} cannot be made: ${why(error)}`);
  }
}

async function remove(file: string): Promise<void> {
  try {
    await unlink(file);
    await syncDirectory(path.dirname(file));
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) {
      throw new StateError(`${file} cannot be removed: ${why(error)}`);
    }
  }
}

/** What a kill -9 in the middle of a write leaves. */
async function sweep(dir: string): Promise<void> {
  const names = await readdir(dir).catch(() => []);
  for (const name of names) if (/\.[0-9a-f]{12}\.tmp$/.test(name)) await remove(path.join(dir, name));
}

function parse(text: string | null): Readonly<Record<string, unknown>> {
  try {
    const read = JSON.parse(text ?? '{}') as unknown;
    return typeof read === 'object' && read !== null ? (read as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** The account at one authority. */
export class AccountFile {
  readonly #dir: string;
  readonly #file: string;
  readonly #directory: string;
  #key: KeyObject | null = null;
  #url: string | null = null;
  /** The address that the authority was told. */
  contact: string | null = null;

  constructor(stateDir: string, directory: string) {
    this.#directory = directory;
    this.#dir = path.join(acmeDirectory(stateDir), 'accounts', sha256Hex(directory).slice(0, 16));
    this.#file = path.join(this.#dir, 'account.json');
  }

  /**
   * Makes a key where there is no file, and has it on the disk before anybody hears of it. A file that is damaged stays as
   * it is: external accounts, CAA records (RFC 8657) and limits may hang on its account, so whether there is to be another
   * is for the operator to say.
   *
   * @throws AcmeFileError, StateError
   */
  async open(): Promise<{ readonly key: KeyObject; readonly url: string | null }> {
    if (this.#key === null) {
      await makeDirectory(this.#dir);
      await sweep(this.#dir);
      const text = await readPrivate(this.#file);
      if (text === null) {
        this.#key = newKey();
        await this.#write();
      } else {
        const { key, url, contact } = parse(text);
        this.#key = typeof key === 'string' ? keyFromPem(key) : null;
        if (this.#key === null) {
          throw new StateError(
            `${this.#file} is damaged: it holds no key of an account; put it back from a backup, or move it away: another account is opened then`,
          );
        }
        this.#url = typeof url === 'string' ? url : null;
        this.contact = typeof contact === 'string' ? contact : null;
      }
    }
    return { key: this.#key, url: this.#url };
  }

  async known(url: string, contact: string | null): Promise<void> {
    this.#url = url;
    this.contact = contact;
    await this.#write();
  }

  async forget(): Promise<void> {
    this.#url = null;
    await this.#write();
  }

  async #write(): Promise<void> {
    if (this.#key === null) throw new TypeError('the account was not opened');
    const content = {
      directory: this.#directory,
      url: this.#url,
      contact: this.contact,
      key: keyToPem(this.#key),
    };
    await replaceStateFile(this.#file, `${JSON.stringify(content, null, 2)}\n`);
  }
}

/**
 * Whether OpenSSL takes them: it refuses a chain for any of its certificates, also one behind our own whose key is too short.
 * What it refuses would keep a listener, and with it the next start, from all its certificates.
 */
export function isServable(chainPem: string, keyPem: string): boolean {
  try {
    createSecureContext({ minVersion: 'TLSv1.2', cert: chainPem, key: keyPem });
    return true;
  } catch {
    return false;
  }
}

/** What is kept of one host. */
export class HostFiles {
  readonly #host: string;
  readonly #dir: string;

  /** @param host a DNS name, lower case: what the policy takes begins with no dot and holds no slash */
  constructor(stateDir: string, host: string) {
    this.#host = host;
    this.#dir = path.join(acmeDirectory(stateDir), 'hosts', host);
  }

  /** With its key. */
  get certificateFile(): string {
    return path.join(this.#dir, 'certificate.pem');
  }

  get #pendingFile(): string {
    return path.join(this.#dir, 'order.json');
  }

  get #statusFile(): string {
    return path.join(this.#dir, 'status.json');
  }

  /** Makes the folder, and clears away what a kill left. For who has the state directory to itself. */
  async prepare(): Promise<void> {
    await makeDirectory(this.#dir);
    await sweep(this.#dir);
    // The certificate of that order is there: killed between the two.
    const pending = await this.readPending();
    if (pending === null) return;
    const issued = await this.readCertificate();
    if (issued?.certificate.checkPrivateKey(pending.key) === true) await this.forgetPending();
  }

  /** Null: there is none that could be served. @throws AcmeFileError, StateError */
  async readCertificate(): Promise<Issued | null> {
    const file = this.certificateFile;
    const text = await readPrivate(file);
    if (text === null) return null;
    const chain = text.match(CERTIFICATE);
    const key = keyFromPem(KEY.exec(text)?.[0] ?? '');
    if (chain === null || key === null) return null;
    let certificate: X509Certificate;
    try {
      certificate = new X509Certificate(chain[0]);
      if (!certificate.checkPrivateKey(key)) return null;
    } catch {
      return null;
    }
    if (certificate.checkHost(this.#host, { subject: 'never' }) === undefined) return null;
    if (!isServable(chain.join(''), keyToPem(key))) return null;
    const notBeforeMs = Date.parse(certificate.validFrom);
    const notAfterMs = Date.parse(certificate.validTo);
    if (Number.isNaN(notBeforeMs) || Number.isNaN(notAfterMs)) return null;
    return {
      pair: { certFile: file, keyFile: file, certPem: chain.join(''), key: Secret.fromText(keyToPem(key)) },
      certificate,
      directory: ISSUED_BY.exec(text)?.[1] ?? '',
      notBeforeMs,
      notAfterMs,
    };
  }

  /** @param chain PEM, @param key PEM */
  async writeCertificate(chain: string, key: string, directory: string): Promise<void> {
    await replaceStateFile(this.certificateFile, `# issued by ${directory}\n${key}${chain}`);
  }

  async readPending(): Promise<PendingOrder | null> {
    const { directory, order, key } = parse(await readPrivate(this.#pendingFile));
    if (typeof directory !== 'string' || typeof order !== 'string' || typeof key !== 'string') return null;
    if (!order.startsWith('https://') || !URL.canParse(order)) return null;
    const read = keyFromPem(key);
    return read === null ? null : { directory, order, key: read };
  }

  async writePending({ directory, order, key }: PendingOrder): Promise<void> {
    await replaceStateFile(this.#pendingFile, `${JSON.stringify({ directory, order, key: keyToPem(key) }, null, 2)}\n`);
  }

  async forgetPending(): Promise<void> {
    await remove(this.#pendingFile);
  }

  async readStatus(): Promise<HostStatus> {
    const read = parse(await readPrivate(this.#statusFile));
    const time = (value: unknown): number | null =>
      typeof value === 'number' && Number.isFinite(value) ? value : null;
    const { failures, last_failure: failure, why: reason, limited_by: limitedBy } = read;
    const failedAt = time(failure);
    return {
      failures: typeof failures === 'number' && Number.isInteger(failures) && failures > 0 ? failures : 0,
      lastFailure: failedAt === null || typeof reason !== 'string' ? null : { atMs: failedAt, why: reason },
      notBeforeMs: time(read['not_before']),
      limitedBy: typeof limitedBy === 'string' ? limitedBy : null,
      lastSuccessMs: time(read['last_success']),
    };
  }

  async writeStatus({ failures, lastFailure, notBeforeMs, limitedBy, lastSuccessMs }: HostStatus): Promise<void> {
    const content = {
      failures,
      last_failure: lastFailure?.atMs ?? null,
      why: lastFailure?.why ?? null,
      not_before: notBeforeMs,
      limited_by: limitedBy,
      last_success: lastSuccessMs,
    };
    await replaceStateFile(this.#statusFile, `${JSON.stringify(content, null, 2)}\n`);
  }
}
