/**
 * Reloads under open streams, with certificates that change: every byte of every stream arrives, in order, and new
 * handshakes get the new certificate; then a token is deleted, and its streams, a fifth of them, are cut.
 * GUARDBEE_RELOADS and GUARDBEE_STREAMS make it longer and wider.
 */
import assert from 'node:assert/strict';
import type { TLSSocket } from 'node:tls';
import { test } from 'node:test';
import { TestAuthority, writeKeyPair } from '../support/certificates.js';
import { startGuard } from '../support/guard.js';
import { RawConnection, type Target, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { tokenPair } from '../support/policy-builder.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { adminOf, hangUp, rewrite } from './reloading-guard.js';

const RELOADS = Number(process.env['GUARDBEE_RELOADS'] ?? 20);
/** Of each kind; half of them over TLS. */
const STREAMS = Number(process.env['GUARDBEE_STREAMS'] ?? 25);

/** Between two messages of a stream: many at once say less each. */
const EVERY_MS = Math.max(20, STREAMS);

/** Every so many streams are of somebody whose token is deleted in the end. */
const LEAVERS = 5;
/** A second is promised. */
const CUT_MS = 1000;

/** Messages with numbers, by which a lost, doubled or exchanged one shows. */
class Numbered {
  readonly connection: RawConnection;
  readonly #say: ((number: number) => void) | null;
  #next = 0;
  #text = '';

  /** @param say where the client begins each turn */
  constructor(connection: RawConnection, say: ((number: number) => void) | null) {
    this.connection = connection;
    this.#say = say;
    connection.socket.on('data', () => {
      this.#look();
    });
    this.#look();
    say?.(0);
  }

  get count(): number {
    return this.#next;
  }

  #look(): void {
    const { pending } = this.connection;
    if (pending.length === 0) return;
    void this.connection.readBytes(pending.length);
    this.#text += pending.toString('latin1');
    for (;;) {
      const found = /<(\d+)>/.exec(this.#text);
      if (found === null) return;
      assert.equal(Number(found[1]), this.#next, 'the next message is the one that was sent next');
      this.#text = this.#text.slice(found.index + found[0].length);
      this.#next += 1;
      this.#say?.(this.#next);
    }
  }
}

test('nothing of them is lost, cut or out of order', { timeout: 600_000 }, async (t) => {
  const numbers = respond.silentEvents([]);
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) => {
      if (asked.header('upgrade') !== null) {
        void respond.webSocket()(asked, connection);
        return;
      }
      void numbers(asked, connection);
      let number = 0;
      const timer = setInterval(() => {
        const data = `data: <${String(number)}>\n\n`;
        connection.write(`${data.length.toString(16)}\r\n${data}\r\n`);
        number += 1;
      }, EVERY_MS);
      connection.socket.once('close', () => {
        clearInterval(timer);
      });
    },
  });
  const leaver = tokenPair();
  await using guard = await startGuard({
    upstream: upstream.url,
    tokens: [{ name: 'leaver', sha256: leaver.sha256, roles: ['operator'] }],
    top: { admin: { bind: '127.0.0.1:0' } },
  });
  const authority = await TestAuthority.create();
  const streams: Numbered[] = [];
  for (let i = 0; i < STREAMS; i += 1) {
    const target = i % 2 === 0 ? guard.plain : guard.secure;
    const token = i % LEAVERS === 0 ? leaver.token : guard.token;
    const events = await RawConnection.connect(target);
    events.write(requestBytes(target, { path: `/events/${String(i)}`, token }));
    assert.equal((await events.readHead()).status, 200);
    streams.push(new Numbered(events, null));
    const opened = await openWebSocket(target, { path: `/socket/${String(i)}`, token });
    assert.ok(opened.socket !== null, 'the handshake was answered');
    const { connection } = opened;
    // What comes back is what was sent, byte for byte: masked or not is no matter of the proxy.
    const say = (number: number): void => {
      setTimeout(() => {
        if (!connection.closed) connection.write(frame(`<${String(number)}>`));
      }, EVERY_MS / 2);
    };
    streams.push(new Numbered(connection, say));
  }
  const began = performance.now();
  let slowest = 0;
  for (let i = 0; i < RELOADS; i += 1) {
    const pair = await authority.issue();
    writeKeyPair(guard.directory, pair);
    rewrite(guard, (policy) => {
      policy['roles'] = { ...policy['roles'], [`role_${String(i)}`]: ['read'] } as never;
    });
    const started = performance.now();
    const line = await hangUp(guard);
    slowest = Math.max(slowest, performance.now() - started);
    assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
    assert.equal(line['guardbee.exchanges_refused'], 0);
    const secure: Target = { port: guard.secure.port, tls: { ca: authority.ca } };
    using fresh = await RawConnection.connect(secure);
    const shown = (fresh.socket as TLSSocket).getPeerX509Certificate();
    assert.ok(pair.cert.includes(shown?.toString().trim() ?? '-'), 'a new handshake gets the new certificate');
    const counts = streams.map(({ count }) => count);
    await waitUntil(() => streams.every(({ count }, n) => count > (counts[n] ?? 0)), 'every stream to go on', 60_000);
  }
  const messages = streams.reduce((sum, { count }) => sum + count, 0);
  t.diagnostic(
    `${String(RELOADS)} reloads in ${String(Math.round(performance.now() - began))} ms, the slowest ${String(Math.round(slowest))} ms; ${String(streams.length)} streams, ${String(messages)} messages`,
  );
  for (const { connection } of streams) assert.equal(connection.ended, null, 'nobody was cut');

  // Two of each number: events, and a WebSocket.
  const isLeaving = (_: Numbered, n: number): boolean => Math.floor(n / 2) % LEAVERS === 0;
  const leaving = streams.filter(isLeaving);
  const staying = streams.filter((one, n) => !isLeaving(one, n));
  rewrite(guard, ({ authenticators }) => {
    const tokens = authenticators?.['keys']?.['tokens'] as { name: string }[] | undefined;
    assert.ok(tokens?.length === 2);
    tokens.splice(1, 1);
  });
  const asked = performance.now();
  const line = await hangUp(guard);
  const told = performance.now();
  assert.equal(line['guardbee.exchanges_refused'], leaving.length);
  await waitUntil(() => leaving.every(({ connection }) => connection.ended !== null), 'the streams to be cut');
  const cutMs = performance.now() - told;
  t.diagnostic(
    `${String(leaving.length)} streams of a deleted token: cut ${String(Math.round(cutMs))} ms after the reload, ` +
      `${String(Math.round(performance.now() - asked))} ms after SIGHUP`,
  );
  assert.ok(cutMs < CUT_MS, `${String(cutMs)} ms`);
  const counts = staying.map(({ count }) => count);
  await waitUntil(() => staying.every(({ count }, n) => count > (counts[n] ?? 0)), 'the others to go on', 60_000);
  for (const { connection } of staying) assert.equal(connection.ended, null, 'nobody else was cut');
  for (const { connection } of streams) connection.close();
  const metrics = (await request(await adminOf(guard), { path: '/metrics' })).text();
  assert.match(metrics, new RegExp(`^guardbee_reloads_total\\{result="ok"\\} ${String(RELOADS + 1)}$`, 'm'));
  assert.match(metrics, /^guardbee_reloads_total\{result="failed"\} 0$/m);
  assert.match(metrics, /^guardbee_reload_last_successful 1$/m);
});

/** A text frame of a client whose mask changes nothing. */
function frame(text: string): Buffer {
  return Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);
}
