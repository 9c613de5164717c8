/**
 * What the owner and a worker say to each other: messages over a pair of sockets that nobody else has an end of. All that
 * is said in one turn of the loop goes in one frame: a length of four bytes, and the messages as `v8.serialize` writes
 * them.
 */
import type { Duplex } from 'node:stream';
import { deserialize, serialize } from 'node:v8';

const HEAD_BYTES = 4;
/** A policy with all that it names, and all revocations, fit many times over. */
const LARGEST_FRAME = 256 * 1024 * 1024;
/** Questions that may wait for their answers: far more than a worker can have requests. */
const MOST_ASKED = 65_536;
/** Bytes that may wait for the other side to read them, before what may be lost is. */
const CONGESTED_BYTES = 16 * 1024 * 1024;

/** The other side did not answer: it is gone, or hangs, or too much is being asked of it. */
export class LinkError extends Error {
  override readonly name = 'LinkError';
}

/** Each kind of message by its name: what is said, and what is answered (`undefined`: nothing is). */
export type Protocol = Readonly<Record<string, (said: never) => unknown>>;

type Said<P extends Protocol, K extends keyof P> = Parameters<P[K]>[0];
type Answered<P extends Protocol, K extends keyof P> = Awaited<ReturnType<P[K]>>;

/** What a side does when it is told or asked something. */
export type Listening<P extends Protocol> = {
  readonly [K in keyof P]: (said: Said<P, K>) => ReturnType<P[K]> | Promise<Awaited<ReturnType<P[K]>>>;
};

interface Waiting {
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: LinkError) => void;
  /** Looks for which it may wait still. */
  looks: number;
}

/** `[kind, said]` is told; with an id it is asked; `[id, answer]` and `[id]` (it could not be) are answers. */
type Message = readonly [kind: string, said: unknown, id?: number] | readonly [id: number, answer?: unknown];

export interface LinkEvents {
  /** The other side is gone, or what comes from it is none of ours. Said once. */
  closed(): void;
  /** A question was not answered in its time. */
  late(kind: string): void;
  /** What was asked of this side broke it: a bug of ours. */
  broke(error: unknown): void;
}

/**
 * What may wait is counted in looks, not by the clock: a process that was stopped for a while (a frozen container, a debugger)
 * comes to its timers before it comes to the answers that are there.
 */
const LOOK_MS = 500;

/** @typeParam Out what this side says @typeParam In what it hears */
export class Link<Out extends Protocol, In extends Protocol> {
  readonly #stream: Duplex;
  readonly #events: LinkEvents;
  readonly #listening: Listening<In>;
  readonly #asked = new Map<number, Waiting>();
  #nextId = 1;
  #outgoing: Message[] = [];
  #flushing: NodeJS.Immediate | null = null;
  #pieces: Buffer[] = [];
  #length = 0;
  #closed = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(stream: Duplex, listening: Listening<In>, events: LinkEvents) {
    this.#stream = stream;
    this.#listening = listening;
    this.#events = events;
    stream.on('data', (piece: Buffer) => {
      this.#read(piece);
    });
    stream.once('end', () => {
      this.close();
    });
    stream.on('error', () => {
      this.close();
    });
    stream.once('close', () => {
      this.close();
    });
  }

  /** So much waits to be read over there that what may be lost should be. */
  get congested(): boolean {
    return this.#stream.writableLength > CONGESTED_BYTES;
  }

  tell<K extends keyof Out & string>(kind: K, said: Said<Out, K>): void {
    this.#send([kind, said]);
  }

  /** @param patienceMs Infinity: until the other side is gone @throws LinkError when there is no answer in time */
  ask<K extends keyof Out & string>(kind: K, said: Said<Out, K>, patienceMs: number): Promise<Answered<Out, K>> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#asked.size >= MOST_ASKED) {
        reject(new LinkError(this.#closed ? 'the other process is gone' : 'too much is being asked'));
        return;
      }
      const id = this.#nextId++;
      this.#asked.set(id, {
        // What is answered is what the kind says: both sides are of one build.
        resolve: resolve as (answer: unknown) => void,
        reject,
        looks: Math.ceil(patienceMs / LOOK_MS) + 1,
      });
      this.#send([kind, said, id]);
      this.#timer ??= setTimeout(() => {
        this.#look();
      }, LOOK_MS);
    });
  }

  /** Writes what there is; resolves when the system has it. */
  async flush(): Promise<void> {
    this.#flushNow();
    if (this.#closed) return;
    await new Promise<void>((resolve) => {
      this.#stream.write('', () => {
        resolve();
      });
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#flushNow();
    this.#closed = true;
    if (this.#flushing !== null) clearImmediate(this.#flushing);
    if (this.#timer !== null) clearTimeout(this.#timer);
    for (const { reject } of this.#asked.values()) reject(new LinkError('the other process is gone'));
    this.#asked.clear();
    this.#stream.destroy();
    this.#events.closed();
  }

  #send(message: Message): void {
    if (this.#closed) return;
    this.#outgoing.push(message);
    this.#flushing ??= setImmediate(() => {
      this.#flushing = null;
      this.#flushNow();
    });
  }

  #flushNow(): void {
    if (this.#outgoing.length === 0 || this.#closed) return;
    const body = serialize(this.#outgoing);
    this.#outgoing = [];
    const head = Buffer.allocUnsafe(HEAD_BYTES);
    head.writeUInt32LE(body.length);
    this.#stream.cork();
    this.#stream.write(head);
    this.#stream.write(body);
    this.#stream.uncork();
  }

  #look(): void {
    this.#timer = null;
    for (const [id, waiting] of this.#asked) {
      waiting.looks -= 1;
      if (waiting.looks > 0) continue;
      this.#asked.delete(id);
      waiting.reject(new LinkError('the other process does not answer'));
      this.#events.late(String(id));
      if (this.#closed) return;
    }
    if (this.#asked.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#look();
    }, LOOK_MS);
  }

  #read(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    while (this.#length >= HEAD_BYTES && !this.#closed) {
      const first = this.#pieces[0];
      if (first === undefined) return;
      if (first.length < HEAD_BYTES) {
        this.#pieces = [Buffer.concat(this.#pieces)];
        continue;
      }
      const length = first.readUInt32LE(0);
      if (length > LARGEST_FRAME) {
        this.close();
        return;
      }
      if (this.#length < HEAD_BYTES + length) return;
      const all = this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces);
      const rest = all.subarray(HEAD_BYTES + length);
      this.#pieces = rest.length === 0 ? [] : [rest];
      this.#length = rest.length;
      this.#heard(all.subarray(HEAD_BYTES, HEAD_BYTES + length));
    }
  }

  #heard(frame: Buffer): void {
    const messages = deserialize(frame) as readonly Message[];
    for (const message of messages) {
      if (this.#closed) return;
      const [first, second, id] = message;
      if (typeof first === 'number') this.#answered(first, message);
      else this.#do(first, second, id);
    }
  }

  #answered(id: number, message: Message): void {
    const waiting = this.#asked.get(id);
    if (waiting === undefined) return;
    this.#asked.delete(id);
    if (message.length > 1) waiting.resolve(message[1]);
    else waiting.reject(new LinkError('the other process could not answer'));
  }

  #do(kind: string, said: unknown, id: number | undefined): void {
    const listening = this.#listening[kind] as ((said: unknown) => unknown) | undefined;
    const failed = (error: unknown): void => {
      if (id !== undefined) this.#send([id]);
      this.#events.broke(error);
    };
    try {
      if (listening === undefined) throw new TypeError('nothing of this kind is listened to');
      const answer = listening(said);
      if (answer instanceof Promise) {
        answer.then((late: unknown) => {
          if (id !== undefined) this.#send([id, late]);
        }, failed);
      } else if (id !== undefined) this.#send([id, answer]);
    } catch (error) {
      failed(error);
    }
  }
}
