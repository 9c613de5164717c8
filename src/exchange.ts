import type { Readable } from 'node:stream';
import { DENIALS, type DenialReason } from './denial.js';
import type { ExchangeRecord, Outcome, OwnPage } from './exchange-record.js';
import { FAILURES, type FailureReason } from './failure.js';
import type { Permit, Refusal } from './gate/authorize.js';
import type { Identity } from './identity/identity.js';
import type { Message, RawHead } from './http/message.js';
import type { HttpListener, Route } from './policy/policy.js';

/**
 * The client's side of an exchange, the same for HTTP/1.1, HTTP/2 and for the refusal of an upgrade. The adapters are
 * in `server/`; nothing above them knows which protocol it speaks.
 */
export interface Answer {
  readonly headSent: boolean;
  /** The request body as it arrives. */
  readonly body: Readable;
  /** Says that the head announced no body: there is none to wait for or to throw away. */
  expectNoBody(): void;
  /** Field names are lower case. `bodiless`: nothing follows, by definition. */
  sendHead(status: number, fields: readonly string[], bodiless: boolean): void;
  /** The bytes may be overwritten once it returns. False: wait for `onDrain`. */
  write(chunk: Buffer): boolean;
  /**
   * Body in the chunks of HTTP/1.1 (RFC 9112 §7.1), whole and plainly written; the bytes may be overwritten once it returns.
   * False: nothing was sent, and `write` must have the content.
   */
  writeChunks(bytes: Buffer, from: number, to: number): boolean;
  end(): void;
  /** A whole answer of our own; the rest of the request body is not read any further than it must be. */
  sendWhole(status: number, fields: readonly string[], body: Buffer): void;
  /** No other request is taken on this connection once the answer is out. Said before the answer is begun. */
  closeAfterwards(): void;
  /** `100 Continue` (RFC 9110 §10.1.1). */
  sendContinue(): void;
  /** Ends the connection or stream at once, so that the client sees that the answer is cut. */
  abort(): void;
  /** Set by whoever writes the body. */
  onDrain: (() => void) | null;
  /** Called once: true when everything was sent and flushed, false when the client went first. */
  onClose: ((flushed: boolean) => void) | null;
}

/** Told when an exchange becomes a long stream, and when it ends. */
export interface ExchangeSink {
  /** `stream` says which. Its end is told later. */
  opened(record: ExchangeRecord): void;
  /** What is returned is waited for before an answer of ours leaves. Null: nothing need be. */
  finished(record: ExchangeRecord): Promise<void> | null;
}

/** A Node timer set for longer fires at once: https://nodejs.org/api/timers.html#settimeoutcallback-delay-args */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The clock, as the rest of the code may see it. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Monotonic milliseconds. */
  ticks(): number;
}

/** What is known of who asks for a page of our own. */
export interface Known {
  /** After trusted proxies. */
  readonly client: string;
  /** A request id that a trusted proxy gave. */
  readonly requestId: string | null;
  readonly identity: Identity | null;
  readonly fingerprint: string | null;
}

/**
 * One request and its answer: one object, one policy, one ending, one record. It collects what is known; it decides
 * nothing.
 */
export class Exchange {
  #requestId: string;
  readonly listener: HttpListener;
  readonly answer: Answer;
  readonly peer: string;
  readonly startedAtMs: number;
  readonly #raw: RawHead;
  readonly #sink: ExchangeSink;
  readonly #clock: Clock;
  readonly #startedTicks: number;
  #message: Message | null = null;
  #decision: Permit | Refusal | null = null;
  #known: Known | null = null;
  #finished = false;
  #granted = false;
  #status = 0;
  #upstreamTicks: number | null = null;
  #stream: 'none' | 'sse' | 'ws' = 'none';
  bytesIn = 0;
  bytesOut = 0;
  /** Set by whoever forwards: ends both sides at once, for a reason of ours. */
  onCut: ((reason: FailureReason) => void) | null = null;
  /** Told of a throw where an answer that had waited was sent. */
  onBroken: ((error: unknown) => void) | null = null;
  /** Most exchanges have nobody who waits for their end. */
  #afterwards: (() => void)[] | null = null;
  #endsAtMs: number | null = null;
  #timer: NodeJS.Timeout | null = null;

  constructor(init: {
    readonly requestId: string;
    readonly listener: HttpListener;
    readonly answer: Answer;
    readonly peer: string;
    readonly raw: RawHead;
    readonly sink: ExchangeSink;
    readonly clock: Clock;
  }) {
    this.#requestId = init.requestId;
    this.listener = init.listener;
    this.answer = init.answer;
    this.peer = init.peer;
    this.#raw = init.raw;
    this.#sink = init.sink;
    this.#clock = init.clock;
    this.startedAtMs = init.clock.now();
    this.#startedTicks = init.clock.ticks();
  }

  get requestId(): string {
    return this.#requestId;
  }

  get finished(): boolean {
    return this.#finished;
  }

  /** Null until somebody has proved who asks. */
  get identity(): Identity | null {
    return this.#decision?.identity ?? null;
  }

  /** Null until the head was read. */
  get message(): Message | null {
    return this.#message;
  }

  /** Ends an exchange that is underway. */
  cut(reason: FailureReason): void {
    if (!this.#finished) this.onCut?.(reason);
  }

  /** What it has become, if it is one without an expected end. */
  get stream(): 'none' | 'sse' | 'ws' {
    return this.#stream;
  }

  get protocol(): RawHead['protocol'] {
    return this.#raw.protocol;
  }

  /** Ends it then with `deadline_exceeded`. Without a call of this there is no timer. */
  endBy(atMs: number): void {
    if (this.#finished || (this.#endsAtMs !== null && this.#endsAtMs <= atMs)) return;
    this.#endsAtMs = atMs;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#wait();
  }

  /** The moment of `endBy`; null where there is none. */
  get endsAtMs(): number | null {
    return this.#endsAtMs;
  }

  /** How long it has been going on, and the moment it is now by the clock of `endsAtMs`. */
  get elapsed(): { readonly ms: number; readonly nowMs: number } {
    const ms = this.#clock.ticks() - this.#startedTicks;
    return { ms, nowMs: this.startedAtMs + ms };
  }

  #wait(): void {
    // Read once from the clock on the wall: setting that clock moves no deadline of what is underway.
    const leftMs = (this.#endsAtMs ?? Number.POSITIVE_INFINITY) - this.elapsed.nowMs;
    this.#timer = setTimeout(
      () => {
        if (leftMs > LONGEST_TIMER_MS) this.#wait();
        else this.cut('deadline_exceeded');
      },
      Math.min(Math.max(0, Math.ceil(leftMs)), LONGEST_TIMER_MS),
    );
  }

  #stopWaiting(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  /** Calls back once when it is over, however it ends; at once where it is over already. */
  whenFinished(call: () => void): void {
    if (this.#finished) call();
    else if (this.#afterwards === null) this.#afterwards = [call];
    else this.#afterwards.push(call);
  }

  read(message: Message): void {
    this.#message = message;
  }

  decided(decision: Permit | Refusal): void {
    this.#decision = decision;
    // A refusal may be held back on purpose, and no deadline makes it come sooner.
    if (!decision.allow) this.#stopWaiting();
    // A trusted proxy has named the request already; one name through both logs is what finds it.
    if (decision.allow) this.#requestId = decision.admission.requestId ?? this.#requestId;
  }

  /** For pages of our own, which no rule of the policy decides. */
  knows(known: Known): void {
    this.#known = known;
    this.#requestId = known.requestId ?? this.#requestId;
  }

  /** A page of our own is the answer. @param send sends it, when the record of it is where it must be */
  answeredBy(page: OwnPage, status: number, send: () => void): void {
    this.#sendAfter(this.#finish({ kind: 'answered', by: page }, status), send);
  }

  /** The first byte of the upstream's answer is here. */
  answered(status: number): void {
    this.#status = status;
    this.#upstreamTicks = this.#clock.ticks();
  }

  /** From here on this is a stream without an expected end. */
  becomes(kind: 'sse' | 'ws'): void {
    if (this.#finished || this.#stream !== 'none') return;
    this.#stream = kind;
    this.#sink.opened(this.soFar);
    this.#granted = true;
  }

  permitted(): void {
    void this.#finish({ kind: 'permitted' }, this.#status);
  }

  /** @param send sends the refusal, when the record of it is where it must be */
  denied(reason: DenialReason, send: () => void): void {
    this.#sendAfter(this.#finish({ kind: 'denied', reason }, DENIALS[reason].status), send);
  }

  failed(reason: FailureReason): void {
    const sent = this.answer.headSent && this.#status !== 0;
    void this.#finish({ kind: 'failed', reason }, sent ? this.#status : FAILURES[reason].status);
  }

  /** What it is about to do has been recorded. */
  recorded(): void {
    this.#granted = true;
  }

  /** What is known before it is over. */
  get soFar(): ExchangeRecord {
    return this.#record('underway', { kind: 'permitted' }, this.#status);
  }

  #sendAfter(recorded: Promise<void> | null, send: () => void): void {
    if (recorded === null) {
      send();
      return;
    }
    recorded
      .then(() => {
        // Meanwhile somebody may have said that we are broken.
        if (!this.answer.headSent) send();
      })
      .catch((error: unknown) => {
        if (this.onBroken === null) this.answer.abort();
        else this.onBroken(error);
      });
  }

  #finish(outcome: Outcome, status: number): Promise<void> | null {
    if (this.#finished) return null;
    this.#finished = true;
    this.#stopWaiting();
    if (this.#afterwards !== null) {
      for (const call of this.#afterwards) call();
      this.#afterwards = null;
    }
    return this.#sink.finished(this.#record('over', outcome, status));
  }

  #record(stage: ExchangeRecord['stage'], outcome: Outcome, status: number): ExchangeRecord {
    const message = this.#message;
    const decision = this.#decision;
    const route: Route | null = decision?.route ?? null;
    const invalid = decision?.allow === false ? (decision.particulars?.invalid ?? null) : null;
    const target = this.#raw.target;
    const mark = target.indexOf('?');
    return {
      stage,
      granted: this.#granted,
      requestId: this.requestId,
      startedAtMs: this.startedAtMs,
      durationMs: this.#clock.ticks() - this.#startedTicks,
      listener: this.listener.name,
      scheme: this.#raw.scheme,
      protocol: this.#raw.protocol,
      method: this.#raw.method,
      // A value that broke its check is written nowhere, and where it stood in the path its route's pattern says.
      path:
        (invalid?.place === 'path' ? route?.pattern : message?.target.path) ??
        (mark === -1 ? target : target.slice(0, mark)),
      query: message === null ? (mark === -1 ? null : target.slice(mark + 1)) : message.target.query,
      host: message?.authority.text ?? null,
      upgrade: message?.webSocket != null,
      userAgent: message?.userAgent ?? null,
      peer: this.peer,
      client:
        decision === null
          ? (this.#known?.client ?? null)
          : decision.allow
            ? decision.admission.client
            : decision.client,
      route,
      identity: decision?.identity ?? this.#known?.identity ?? null,
      credentialFingerprint: decision?.fingerprint ?? this.#known?.fingerprint ?? null,
      outcome,
      invalid,
      status,
      upstream: decision?.allow === true && hasHeard(outcome) ? decision.upstream.name : null,
      upstreamMs: this.#upstreamTicks === null ? null : this.#upstreamTicks - this.#startedTicks,
      bytesIn: this.bytesIn,
      bytesOut: this.bytesOut,
      stream: this.#stream,
    };
  }
}

/** Of what is refused in spite of a permit the upstream has heard only where its answer was one stream too many. */
function hasHeard(outcome: Outcome): boolean {
  return outcome.kind !== 'denied' || outcome.reason === 'streams_exceeded';
}
