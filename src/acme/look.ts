/** What the disk says of a host, for who asks from outside of the process that cares for it. */
import { stat } from 'node:fs/promises';
import type { Policy } from '../policy/policy.js';
import { StateError } from '../state/store.js';
import { AcmeFileError, HostFiles, type HostStatus, type Issued, NOTHING_TRIED } from './files.js';
import { limitInForce, renewalTime } from './renewal.js';

export interface Look {
  /** Where the certificate is, or will be. */
  readonly file: string;
  /** Null: none that could be served. */
  readonly issued: Issued | null;
  /** There is a file, and nothing in it that could be served. */
  readonly isUnusable: boolean;
  /** Another authority issued it than the policy names, so the next one is ordered at once. */
  readonly isOfAnother: boolean;
  /** Epoch milliseconds; null where there is nothing to renew, and where that is done at once. */
  readonly renewAtMs: number | null;
  readonly status: HostStatus;
  /** Why nothing can be said, and what to do about it. */
  readonly fault: { readonly why: string; readonly fix: string } | null;
}

export async function look(
  { stateDir, acme }: Pick<Policy, 'stateDir' | 'acme'>,
  host: string,
  nowMs: number,
): Promise<Look> {
  const files = new HostFiles(stateDir, host);
  const file = files.certificateFile;
  try {
    const issued = await files.readCertificate();
    const status = await files.readStatus();
    if (issued === null) {
      const isUnusable = await stat(file).then(
        () => true,
        () => false,
      );
      return { file, issued, isUnusable, isOfAnother: false, renewAtMs: null, status, fault: null };
    }
    const isOfAnother = issued.directory !== acme?.directory;
    const dueMs = renewalTime(issued, issued.certificate.fingerprint256);
    // An authority that wants to be left alone is.
    const renewAtMs = isOfAnother ? null : Math.max(dueMs, limitInForce(status, acme.directory, nowMs) ?? dueMs);
    return { file, issued, isUnusable: false, isOfAnother, renewAtMs, status, fault: null };
  } catch (error) {
    if (!(error instanceof AcmeFileError) && !(error instanceof StateError)) throw error;
    const nothing = { issued: null, isUnusable: false, isOfAnother: false, renewAtMs: null, status: NOTHING_TRIED };
    const fix =
      error instanceof AcmeFileError
        ? 'put its mode right'
        : 'let the user that guardbee runs as read it, and ask as that user; or move it away';
    return { file, ...nothing, fault: { why: error.message, fix } };
  }
}
