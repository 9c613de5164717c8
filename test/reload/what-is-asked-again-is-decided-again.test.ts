/**
 * A client that sends the same bytes on its connection again and again is decided each time: by the clock, the policy and
 * the limits of that moment. What the upstream is told is of that request.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Guard, startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { tokenPair } from '../support/policy-builder.js';
import { RawConnection, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { hangUp, rewrite } from './reloading-guard.js';

/** Asks on its connection, each time the same; resolves to the status. */
interface Client {
  ask(): Promise<number>;
  close(): void;
}

async function overHttp1({ plain }: Guard, path: string, token: string): Promise<Client> {
  const connection = await RawConnection.connect(plain);
  const bytes = requestBytes(plain, { path, token });
  return {
    ask: async () => {
      connection.write(bytes);
      return (await connection.readResponse()).status;
    },
    close: () => {
      connection.close();
    },
  };
}

async function overHttp2({ secure }: Guard, path: string, token: string): Promise<Client> {
  const session = await h2Connect(secure);
  return {
    ask: async () => (await h2Request(session, { ':path': path, authorization: `Bearer ${token}` })).status,
    close: () => {
      session.destroy();
    },
  };
}

for (const [way, connect] of [
  ['HTTP/1.1', overHttp1],
  ['HTTP/2', overHttp2],
] as const) {
  test(`what is asked again over ${way} is decided again`, async (t) => {
    await using upstream = await RecordingUpstream.start();
    const [gone, demoted, ending] = [tokenPair(), tokenPair(), tokenPair()];
    // Long enough for a guard to start, and for the first requests.
    const endsAtMs = Math.ceil(Date.now() / 1_000) * 1_000 + 8_000;
    await using guard = await startGuard({
      upstream: upstream.url,
      tokens: [
        { name: 'gone', sha256: gone.sha256, roles: ['operator'] },
        { name: 'demoted', sha256: demoted.sha256, roles: ['operator'] },
        { name: 'ending', sha256: ending.sha256, roles: ['operator'], not_after: new Date(endsAtMs).toISOString() },
      ],
      routes: [
        { name: 'few', path: '/few', methods: 'any', require: 'write', limits: { rate: { requests: 3, per: '1h' } } },
        { name: 'closing', path: '/closing', methods: 'any', require: 'write' },
        { name: 'rest', path: '/**', methods: 'any', require: 'write' },
      ],
    });
    const clients = {
      gone: await connect(guard, '/gone', gone.token),
      demoted: await connect(guard, '/demoted', demoted.token),
      ending: await connect(guard, '/ending', ending.token),
      closing: await connect(guard, '/closing', guard.token),
      few: await connect(guard, '/few', guard.token),
      on: await connect(guard, '/on', guard.token),
    };
    t.after(() => {
      for (const client of Object.values(clients)) client.close();
    });
    for (let i = 0; i < 3; i += 1) {
      for (const [name, client] of Object.entries(clients)) assert.equal(await client.ask(), 200, name);
    }
    assert.ok(Date.now() < endsAtMs, 'the first requests came too late');
    const ids = upstream.requests.map((one) => one.header('x-request-id'));
    assert.equal(new Set(ids).size, 18, 'each has an id of its own');

    assert.equal(await clients.few.ask(), 429, 'the fourth of three');
    rewrite(guard, ({ authenticators, listeners }) => {
      const keys = authenticators?.['keys'];
      assert.ok(keys !== undefined);
      const tokens = keys['tokens'] as unknown as Record<string, unknown>[];
      keys['tokens'] = tokens
        .filter(({ name }) => name !== 'gone')
        .map((one) => (one['name'] === 'demoted' ? { ...one, roles: ['viewer'] } : one)) as never;
      for (const listener of Object.values(listeners ?? {})) {
        const routes = listener['routes'] as unknown as Record<string, unknown>[];
        listener['routes'] = routes.map((one) =>
          one['name'] === 'closing' ? { name: 'closing', path: '/closing', methods: 'any', deny: true } : one,
        ) as never;
      }
    });
    assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
    const before = upstream.requests.length;
    for (let i = 0; i < 2; i += 1) {
      assert.deepEqual(
        [await clients.gone.ask(), await clients.demoted.ask(), await clients.closing.ask()],
        [401, 403, 403],
        'by the policy of now',
      );
    }
    assert.equal(upstream.requests.length, before, 'the upstream saw none of them');
    assert.equal(await clients.on.ask(), 200);
    await waitUntil(() => (Date.now() >= endsAtMs ? true : null), 'the end of a token', 15_000);
    assert.equal(await clients.ending.ask(), 401, 'its time is up');
    assert.equal(await clients.on.ask(), 200);
    assert.equal(upstream.requests.length, before + 2);
  });
}
