import type { Running } from '../program.js';
import type { Setting } from '../setting.js';

/** Something that clients reach the service through. */
export interface Peer {
  /** As the table says it. */
  readonly name: string;
  /** The Debian package that has to be installed; null: there is nothing to install. */
  readonly package: string | null;
  readonly http2: boolean;
  start(setting: Setting): Promise<Guard>;
}

export interface Guard {
  /** `https://127.0.0.1:PORT`, `http:` of the service itself. */
  readonly url: string;
  /** Shown as `Authorization: Bearer`. */
  readonly credential: string;
  /** Of guardbee alone. */
  readonly policy?: string;
  /** Null: the service itself. */
  readonly running: Running | null;
}
