import type { Readable } from 'node:stream';

/** The request that is being decided, as far as deciding needs more of it than its head. */
export interface Underway {
  /** Calls back once when it is over, however it ends: what was taken for it is given back there. */
  whenFinished(call: () => void): void;
  readonly answer: {
    readonly body: Readable;
    sendContinue(): void;
  };
}
