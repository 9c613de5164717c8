import assert from 'node:assert/strict';
import type { ClientHttp2Session } from 'node:http2';
import { after } from 'node:test';
import { DENIALS, type DenialReason } from '../../src/denial.js';
import { startGuard, type Guard, type GuardOptions } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { RawConnection, request, type RawResponse, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond, type RecordedRequest, type Respond } from '../support/recording-upstream.js';
import { H2Wire, type H2Outcome, type WireFields } from './h2-wire.js';

/**
 * Why a test is skipped where Node's parser is older than llhttp 9 (before Node 20.19.2, CVE-2025-23167). It takes some
 * line ends and chunks that it should not; what it makes of them is still judged, and written anew for the service.
 */
export const OLD_PARSER =
  Number.parseInt(process.versions['llhttp'] ?? '9', 10) < 9 ? 'needs a Node whose parser is llhttp 9 or newer' : false;

export interface HiveOptions extends Omit<GuardOptions, 'upstream'> {
  readonly respond?: Respond;
}

/** Field that tells attacks apart which break off in their bodies. */
const BROKEN = 'x-broken';

const USUAL: HiveOptions = {};

/** One path that is closed, one that is public, and two that allow encoded slashes. */
export const FENCED: HiveOptions = {
  routes: [
    { name: 'admin', path: '/admin/**', deny: true },
    { name: 'public', path: '/public/**', methods: ['GET'], public: true, unsafe_public: true },
    { name: 'files', path: '/files/{name}', methods: ['GET'], encoded_slash: 'allow', require: 'read' },
    { name: 'any', path: '/any/**', methods: ['GET'], encoded_slash: 'allow', require: 'read' },
    { name: 'read', path: '/**', methods: ['GET'], require: 'read' },
  ],
};

/** Connections with nothing to do are closed soon. */
export const BRISK: HiveOptions = { listener: { timeouts: { keep_alive: '500ms' } } };

/** Waits for nobody longer than a test can, and reads larger heads than usual. */
export const IMPATIENT: HiveOptions = {
  listener: { timeouts: { handshake: '2s', keep_alive: '500ms' }, limits: { head: '32KiB', fields: 100 } },
};

const SHARED = new Map<HiveOptions, Promise<Hive>>();

/** What of a request reached the service, every byte of it. */
export interface Arrived {
  readonly request: RecordedRequest;
  readonly body: Buffer;
  /** The request as it came over the wire. */
  readonly bytes: string;
}

/**
 * What attacks are tried on: guardbee as a process of its own before a service that takes whatever it gets and records
 * every byte. Attacks carry a valid token, so that what refuses them is not the lack of one.
 */
export class Hive implements AsyncDisposable {
  readonly guard: Guard;
  readonly upstream: RecordingUpstream;
  readonly #toldOf: { readonly attack: string; readonly requestId: string; readonly reason: DenialReason }[] = [];
  #session: ClientHttp2Session | null = null;
  #broken = 0;

  private constructor(guard: Guard, upstream: RecordingUpstream) {
    this.guard = guard;
    this.upstream = upstream;
  }

  static async open(options: HiveOptions = {}): Promise<Hive> {
    const upstream = await RecordingUpstream.start({ respond: options.respond ?? respond.echo() });
    try {
      return new Hive(await startGuard({ ...options, upstream: upstream.url }), upstream);
    } catch (error) {
      await upstream.close();
      throw error;
    }
  }

  /**
   * One for all files of a test process that ask with the same options, ended with the last test. Starting guardbee
   * takes longer than most of these tests together.
   */
  static async shared(options: HiveOptions = USUAL): Promise<Hive> {
    let opening = SHARED.get(options);
    if (opening === undefined) {
      opening = Hive.open(options);
      SHARED.set(options, opening);
      const hive = await opening;
      after(() => hive[Symbol.asyncDispose]());
    }
    return await opening;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#sumUp();
    } finally {
      this.#session?.destroy();
      await this.guard[Symbol.asyncDispose]();
      await this.upstream.close();
    }
  }

  /** The log is written a little behind the answers, so it is held against them once, at the end. */
  async #sumUp(): Promise<void> {
    for (const { attack, requestId, reason } of this.#toldOf) {
      const record = await this.guard.record(requestId);
      assert.equal(record['guardbee.reason'], reason, `the log on ${attack}`);
    }
    assert.equal(this.guard.process.status, null, 'guardbee has ended');
    for (const request of this.upstream.requests.filter((one) => one.header(BROKEN) !== null)) {
      await assert.rejects(request.body, /ended before the body/);
      await this.upstream.waitForClose(request.connection);
    }
    const marks = this.upstream.requests.map((request) => request.header(BROKEN)).filter((mark) => mark !== null);
    assert.equal(new Set(marks).size, marks.length, 'a request that was broken off came twice');
    const smuggled = this.upstream.requests.filter(({ target }) => target === '/smuggled');
    assert.deepEqual(smuggled, [], 'a smuggled request came after all');
  }

  /** Over both of these HTTP/1.1 is spoken, by the same rules. */
  get doors(): readonly Target[] {
    return [this.guard.plain, this.guard.secure];
  }

  /** `Authorization` of somebody who may do everything, without a line end. */
  get pass(): string {
    return `Authorization: Bearer ${this.guard.token}`;
  }

  /** A request without a body: the line, Host, the token, then these fields. */
  get(target: string, ...fields: readonly string[]): string {
    return this.head('GET', target, ...fields);
  }

  /** A head, and whatever follows it is for the caller to add. */
  head(method: string, target: string, ...fields: readonly string[]): string {
    return [`${method} ${target} HTTP/1.1`, 'Host: queen.lan', this.pass, ...fields, '', ''].join('\r\n');
  }

  /**
   * The attack is refused for this reason and no other, once, and nothing that follows it on the connection is
   * answered; the service has not seen a byte. A function gets the scheme of the door.
   */
  async refuses(attack: string | ((scheme: 'http' | 'https') => string), reason: DenialReason): Promise<void> {
    const seen = this.upstream.bytesSeen;
    await Promise.all(
      this.doors.map(async (door) => {
        const bytes = typeof attack === 'string' ? attack : attack(door.tls === undefined ? 'http' : 'https');
        const answer = await this.#only(door, bytes);
        assert.equal(answer.status, DENIALS[reason].status, answer.text());
        this.#refused(bytes, answer.header('content-type'), answer.header('x-request-id'), reason);
      }),
    );
    assert.equal(this.upstream.bytesSeen, seen, 'the service has seen the attack');
  }

  #refused(attack: string, type: string | null, requestId: string | null, reason: DenialReason): void {
    assert.equal(type, 'application/problem+json');
    assert.ok(requestId !== null);
    this.#toldOf.push({ attack: JSON.stringify(attack.slice(0, 400)), requestId, reason });
  }

  /** The one answer to bytes that may hold more than one request. */
  async #only(door: Target, bytes: string): Promise<RawResponse> {
    using client = await RawConnection.connect(door);
    client.write(bytes);
    const answer = await client.readResponse(bytes.slice(0, Math.max(bytes.indexOf(' '), 0)));
    client.end();
    assert.equal((await client.readToEnd()).toString('latin1'), '', 'more than one answer');
    return answer;
  }

  /**
   * The body breaks the rules after a head that keeps them: the connection ends, without an answer or with a refusal,
   * and the service gets nothing that it could take for a whole request. `chunks` come at once with the head, and then
   * after a first chunk that has reached the service.
   */
  async breaksOff(head: string, chunks: string): Promise<void> {
    for (const door of this.doors) {
      for (const first of ['', '5\r\nfirst\r\n']) {
        const before = this.upstream.requests.length;
        this.#broken += 1;
        const mark = String(this.#broken);
        using client = await RawConnection.connect(door);
        client.write(head.replace('\r\n', `\r\n${BROKEN}: ${mark}\r\n`) + first);
        if (first !== '') await this.upstream.waitForRequest((request) => request.header(BROKEN) === mark);
        client.write(chunks);
        const answered = (await client.readToEnd()).toString('latin1');
        assert.match(answered, /^(?:HTTP\/1\.1 4\d\d [^]*)?$/);
        assert.ok(answered.split('HTTP/1.1 ').length <= 2, `more than one answer: ${answered}`);
        // What was sent before the fault showed may still be on its way: how it ends is looked at when all is over.
        const more = this.upstream.requests.slice(before).filter((request) => request.header(BROKEN) === null);
        assert.deepEqual(more, [], 'the service has seen another request');
      }
    }
  }

  /** The request is permitted, and the service has seen it as one and nothing beside it; over each door in turn. */
  async permits(bytes: string, check: (arrived: Arrived) => void): Promise<void> {
    for (const door of this.doors) {
      const before = this.upstream.requests.length;
      const answer = await this.#only(door, bytes);
      assert.equal(answer.status, 200, answer.text());
      check(await this.arrivedSince(before, answer.header('x-request-id')));
    }
  }

  /**
   * The only request since `before` were there, or the one with this id; fails where something came that guardbee has
   * not given an id, or bytes that belong to none.
   */
  async arrivedSince(before: number, requestId: string | null = null): Promise<Arrived> {
    const since = this.upstream.requests.slice(before).filter((request) => request.header(BROKEN) === null);
    const isMeant = (id: string | null): boolean => id === null || requestId === null || id === requestId;
    const [arrived, ...more] = since.filter((request) => isMeant(request.header('x-request-id')));
    assert.ok(arrived !== undefined, 'the service has seen nothing');
    assert.deepEqual(
      more.map((other) => `${other.method} ${other.target}`),
      [],
      'the service has seen more than one request',
    );
    const { bytes: body } = await arrived.body;
    const { text } = arrived.connection;
    const bytes = text.slice(text.lastIndexOf(arrived.rawHead.toString('latin1')));
    const after = bytes.slice(arrived.rawHead.length);
    if (arrived.header('transfer-encoding') === null) assert.equal(after, body.toString('latin1'));
    else assert.match(after, /(?:^|\r\n)0\r\n\r\n$/);
    return { request: arrived, body, bytes };
  }

  /** One request as HTTP/2 frames, on a connection of its own, and what came back for it. */
  async overHttp2(fields: WireFields, body: string | null = null): Promise<H2Outcome> {
    using wire = await H2Wire.connect(this.guard.secure);
    wire.headers(1, fields, { endStream: body === null });
    if (body !== null) wire.data(1, body, { endStream: true });
    return await wire.outcome(1);
  }

  /** The same as `refuses`, of one HTTP/2 request. */
  async refusesHttp2(fields: WireFields, reason: DenialReason, body?: string): Promise<void> {
    const seen = this.upstream.bytesSeen;
    if (this.#session === null || this.#session.destroyed) this.#session = await h2Connect(this.guard.secure);
    const answer = await h2Request(this.#session, Object.fromEntries(fields), body);
    assert.equal(answer.status, DENIALS[reason].status, answer.body.toString());
    const { 'content-type': type = null, 'x-request-id': requestId = null } = answer.headers;
    this.#refused(JSON.stringify(fields), type, typeof requestId === 'string' ? requestId : null, reason);
    assert.equal(this.upstream.bytesSeen, seen, 'the service has seen the attack');
  }

  /** HTTP/2 itself calls the request malformed (RFC 9113 §8.1.1): it is cut off, and nobody else hears of it. */
  async cutsHttp2(fields: WireFields, body: string | null = null): Promise<void> {
    const seen = this.upstream.bytesSeen;
    const outcome = await this.overHttp2(fields, body);
    assert.notEqual(outcome.kind, 'answer', JSON.stringify(outcome));
    assert.equal(this.upstream.bytesSeen, seen, 'the service has seen the attack');
  }

  /** Pseudo-header fields of an ordinary request, and the token. */
  http2(path: string, method = 'GET'): [string, string][] {
    return [
      [':method', method],
      [':scheme', 'https'],
      [':authority', 'queen.lan'],
      [':path', path],
      ['authorization', `Bearer ${this.guard.token}`],
    ];
  }

  /** Somebody else is served as ever. */
  async stillServes(timeoutMs = 10_000): Promise<void> {
    const answer = await request(this.guard.secure, { path: '/ordinary', token: this.guard.token, timeoutMs });
    assert.equal(answer.status, 200);
  }
}
