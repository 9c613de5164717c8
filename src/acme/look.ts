/** What the disk says of a host, for who asks from outside of the process that cares for it. */
import { StateError } from '../state/store.js';
import { AcmeFileError, HostFiles, type HostStatus, type Issued, NOTHING_TRIED } from './files.js';
import { renewalTime } from './renewal.js';

export interface Look {
  /** Null: none that could be served. */
  readonly issued: Issued | null;
  /** Epoch milliseconds; null where there is nothing to renew. */
  readonly renewAtMs: number | null;
  readonly status: HostStatus;
  /** Why nothing can be said. */
  readonly fault: string | null;
}

export async function look(stateDir: string, host: string): Promise<Look> {
  const files = new HostFiles(stateDir, host);
  try {
    const issued = await files.readCertificate();
    const status = await files.readStatus();
    const renewAtMs = issued === null ? null : renewalTime(issued, issued.certificate.fingerprint256);
    return { issued, renewAtMs, status, fault: null };
  } catch (error) {
    if (!(error instanceof AcmeFileError) && !(error instanceof StateError)) throw error;
    return { issued: null, renewAtMs: null, status: NOTHING_TRIED, fault: error.message };
  }
}
