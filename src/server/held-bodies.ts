import type { DenialReason } from '../denial.js';
import type { HeldBody, WantedBody } from '../gate/decide.js';
import type { Underway } from '../gate/underway.js';
import type { FailureReason } from '../failure.js';
import { RequestBody } from '../proxy/request-body.js';

/** For all bodies that are held at once, whoever sent them. */
const BUDGET_BYTES = 64 * 1024 ** 2;

/**
 * Bodies that are held until they were judged. A stated length is taken from the budget before anything is read, others as
 * they arrive; what does not fit is refused, and nothing waits for room. But nobody keeps the room from others: whoever
 * holds most loses what has not come in whole yet to somebody who holds less. All of it is given back when the body is
 * with the upstream, or at the latest when its exchange is over, however that ends.
 */
export class HeldBodies {
  readonly #budget: number;
  #bytes = 0;
  /** By whom it is held; nobody is in it who holds nothing. */
  readonly #byHolder = new Map<string, number>();
  /** Bodies of which more is to come, the oldest first. */
  readonly #coming = new Set<Share>();

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
    const share = new Share(wanted.by, this.#take, this.#giveBack);
    if (!share.take(stated)) return { ok: false, reason: 'body_budget_exhausted' };
    underway.whenFinished(() => {
      share.release();
    });
    if (framing.kind !== 'streamed' && stated === 0) return held(Buffer.alloc(0), share);
    if (wanted.expectsContinue) underway.answer.sendContinue();
    this.#coming.add(share);
    const body = read(underway, wanted, framing.kind === 'length' ? stated : null, share);
    return body.finally(() => {
      this.#coming.delete(share);
    });
  };

  readonly #take = (by: string, bytes: number): boolean => {
    if (this.#bytes + bytes > this.#budget && !this.#makeRoom(by, bytes)) return false;
    this.#count(by, bytes);
    return true;
  };

  readonly #giveBack = (by: string, bytes: number): void => {
    this.#count(by, -bytes);
  };

  #count(by: string, bytes: number): void {
    this.#bytes += bytes;
    const sum = (this.#byHolder.get(by) ?? 0) + bytes;
    if (sum === 0) this.#byHolder.delete(by);
    else this.#byHolder.set(by, sum);
  }

  /** Takes it from those who hold more than the one that it is for would then hold; all that is missing, or nothing. */
  #makeRoom(by: string, bytes: number): boolean {
    const wouldHold = (this.#byHolder.get(by) ?? 0) + bytes;
    const sums = new Map([...this.#byHolder].filter(([, sum]) => sum > wouldHold));
    if (sums.size === 0) return false;
    const coming = new Map<string, Share[]>();
    for (const share of this.#coming) {
      if (share.onLost === null || share.bytes === 0 || !sums.has(share.by)) continue;
      const theirs = coming.get(share.by);
      if (theirs === undefined) coming.set(share.by, [share]);
      else theirs.push(share);
    }
    const lost: Share[] = [];
    let missing = this.#bytes + bytes - this.#budget;
    while (missing > 0) {
      let greatest: string | null = null;
      for (const [holder, sum] of sums) {
        if (greatest === null || sum > (sums.get(greatest) ?? 0)) greatest = holder;
      }
      if (greatest === null) return false;
      // The newest is the last.
      const share = coming.get(greatest)?.pop();
      const left = (sums.get(greatest) ?? 0) - (share?.bytes ?? 0);
      if (share !== undefined) {
        lost.push(share);
        missing -= share.bytes;
      }
      if (share === undefined || left <= wouldHold) sums.delete(greatest);
      else sums.set(greatest, left);
    }
    for (const share of lost) share.lose();
    return true;
  }
}

/** What one body has of the budget. */
class Share {
  /** Who it is held for. */
  readonly by: string;
  readonly #take: (by: string, bytes: number) => boolean;
  readonly #giveBack: (by: string, bytes: number) => void;
  #bytes = 0;
  #released = false;
  /** Called when somebody else gets it. Null: there is nothing to call back, since the body is whole or not begun. */
  onLost: (() => void) | null = null;

  /** @param take false: there is not so much */
  constructor(by: string, take: (by: string, bytes: number) => boolean, giveBack: (by: string, bytes: number) => void) {
    this.by = by;
    this.#take = take;
    this.#giveBack = giveBack;
  }

  get bytes(): number {
    return this.#bytes;
  }

  take(bytes: number): boolean {
    if (this.#released || !this.#take(this.by, bytes)) return false;
    this.#bytes += bytes;
    return true;
  }

  release(): void {
    this.#released = true;
    if (this.#bytes > 0) this.#giveBack(this.by, this.#bytes);
    this.#bytes = 0;
  }

  lose(): void {
    this.release();
    this.onLost?.();
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
    share.onLost = () => {
      refuse('body_budget_exhausted');
    };
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
      share.onLost = null;
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
