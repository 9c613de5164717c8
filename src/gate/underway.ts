import type { Readable } from 'node:stream';

/** The request that is being decided, as far as deciding needs more of it than its head. */
export interface Underway {
  /** Bytes of the request's body that came in so far. */
  bytesIn: number;
  /** Calls back once when it is over, however it ends: what was taken for it is given back there. */
  whenFinished(call: () => void): void;
  /** Ends it when that moment comes, unless it is over by then. Said again, the earlier of both counts. Epoch milliseconds. */
  endBy(atMs: number): void;
  readonly answer: {
    readonly body: Readable;
    sendContinue(): void;
  };
}
