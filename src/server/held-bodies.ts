import type { DenialReason } from '../denial.js';
import type { HeldBody, WantedBody } from '../gate/decide.js';
import type { Underway } from '../gate/underway.js';
import type { FailureReason } from '../failure.js';
import { RequestBody } from '../proxy/request-body.js';

/** For all bodies that are held at once, whoever sent them. */
const BUDGET_BYTES = 64 * 1024 ** 2;

/**
 * Bodies that are held until they were judged. A stated length is taken from the budget before anything is read, others as
 * they arrive; what does not fit is refused, and nothing waits for room. All of it is given back when the body is with
 * the upstream, or at the latest when its exchange is over, however that ends.
 */
export class HeldBodies {
  readonly #budget: number;
  #bytes = 0;

  constructor(budget = BUDGET_BYTES) {
    this.#budget = budget;
  }

  /** Taken from the budget at present. */
  get bytes(): number {
    return this.#bytes;
  }

  readonly hold = (underway: Underway, wanted: WantedBody): HeldBody | Promise<HeldBody> => {
    const { framing } = wanted;
    const stated = framing.kind === 'length' ? framing.bytes : 0;
    const share = new Share(this.#take);
    if (!share.take(stated)) return { ok: false, reason: 'body_budget_exhausted' };
    underway.whenFinished(() => {
      share.release();
    });
    if (framing.kind !== 'streamed' && stated === 0) return held(Buffer.alloc(0), share);
    if (wanted.expectsContinue) underway.answer.sendContinue();
    return read(underway, wanted, framing.kind === 'length' ? stated : null, share);
  };

  readonly #take = (bytes: number): boolean => {
    if (this.#bytes + bytes > this.#budget) return false;
    this.#bytes += bytes;
    return true;
  };
}

/** What one body has of the budget. */
class Share {
  readonly #from: (bytes: number) => boolean;
  #bytes = 0;
  #released = false;

  /** @param from takes from the budget, or gives back what is negative; false: there is not so much */
  constructor(from: (bytes: number) => boolean) {
    this.#from = from;
  }

  take(bytes: number): boolean {
    if (this.#released || !this.#from(bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  release(): void {
    this.#released = true;
    this.#from(-this.#bytes);
    this.#bytes = 0;
  }
}

function held(bytes: Buffer, share: Share): HeldBody {
  return {
    ok: true,
    bytes,
    release: () => {
      share.release();
    },
  };
}

/** @param stated null: it has no stated length */
function read(underway: Underway, wanted: WantedBody, stated: number | null, share: Share): Promise<HeldBody> {
  return new Promise((resolve) => {
    // Both are let go of at the end: what listens for the exchange's end lives as long as that.
    let whole = stated === null ? null : Buffer.allocUnsafeSlow(stated);
    let pieces: Buffer[] = [];
    let length = 0;
    const refuse = (reason: DenialReason): void => {
      body.destroy();
      whole = null;
      pieces = [];
      share.release();
      resolve({ ok: false, reason });
    };
    const body = new RequestBody(underway.answer.body, {
      idleMs: wanted.idleMs,
      most: wanted.most,
      onBytes: (count) => {
        underway.bytesIn += count;
      },
      onFailure: (reason) => {
        refuse(DENIED_FOR[reason] ?? 'body_incomplete');
      },
    });
    // Whoever waits for it must hear that nobody does any more.
    underway.whenFinished(() => {
      refuse('body_incomplete');
    });
    body.on('data', (piece: Buffer) => {
      if (whole !== null) {
        piece.copy(whole, length);
      } else if (share.take(piece.length)) {
        pieces.push(piece);
      } else {
        refuse('body_budget_exhausted');
        return;
      }
      length += piece.length;
    });
    body.once('end', () => {
      if (whole === null) resolve(held(Buffer.concat(pieces), share));
      else if (length === stated) resolve(held(whole, share));
      else refuse('body_incomplete');
      whole = null;
      pieces = [];
    });
  });
}

/** What a failure is called where nothing was permitted yet. */
const DENIED_FOR: Readonly<Partial<Record<FailureReason, DenialReason>>> = {
  client_body_timeout: 'body_timeout',
  client_body_too_large: 'body_too_large',
};
