import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { hashSync } from 'bcryptjs';
import { startGuard, type Guard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { RawConnection, request, requestBytes, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';

const basic = (name: string, password: string): [string, string] => [
  'Authorization',
  `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}`,
];

/** Cost 12, as the documentation says: a quarter of a second of one core for each. */
describe('logins slow nobody else', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({ respond: respond.echo() });
    guard = await startGuard({
      upstream: upstream.url,
      listener: { authenticate: ['dashboard', 'keys'] },
      authenticators: { dashboard: { type: 'basic', htpasswd_file: 'users.htpasswd', roles: ['viewer'] } },
      prepare: (directory) => {
        writeFileIn(directory, 'users.htpasswd', `alice:${hashSync('right', 12)}\n`);
      },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** 99th percentile of requests with a token, one after another on one connection, in milliseconds. */
  async function p99(requests: number): Promise<number> {
    using connection = await RawConnection.connect(guard.plain);
    const bytes = requestBytes(guard.plain, { token: guard.token });
    const times: number[] = [];
    for (let i = 0; i < requests; i++) {
      const started = performance.now();
      connection.write(bytes);
      assert.equal((await connection.readResponse()).status, 200);
      times.push(performance.now() - started);
    }
    times.sort((a, b) => a - b);
    return times[Math.floor(times.length * 0.99)] ?? Infinity;
  }

  /** Wrong logins, as many at once as are said, each followed by another, until stopped. */
  function flood(
    target: Target,
    atOnce: number,
  ): { readonly stop: () => Promise<void>; readonly answered: () => number } {
    let going = true;
    let serial = 0;
    let answered = 0;
    const connections: RawConnection[] = [];
    const one = async (): Promise<void> => {
      const connection = await RawConnection.connect(target);
      connections.push(connection);
      while (going) {
        connection.write(requestBytes(target, { headers: [basic('alice', `wrong ${++serial}`)] }));
        const answer = await connection.readResponse('GET', 60_000).catch(() => null);
        if (answer === null) return;
        assert.equal(answer.status, 401);
        answered += 1;
      }
    };
    const all = Promise.all(Array.from({ length: atOnce }, one));
    return {
      stop: async () => {
        going = false;
        for (const connection of connections) connection.close();
        await all;
      },
      answered: () => answered,
    };
  }

  test('50 wrong ones at once leave the 99th percentile of other requests where it was', async (t) => {
    await p99(300);
    const alone = Math.min(await p99(300), await p99(300));
    const load = flood({ ...guard.plain, localAddress: '127.0.0.21' }, 50);
    let best = Infinity;
    // Best of several: what another program does to this machine is not under test.
    for (let run = 0; run < 30 && (load.answered() < 3 || (run < 5 && best > 20)); run++)
      best = Math.min(best, await p99(300));
    t.diagnostic(`p99 ${alone.toFixed(1)} ms without logins, ${best.toFixed(1)} ms with, ${load.answered()} answered`);
    assert.ok(best < Math.max(50, alone * 3), `${best} ms, ${alone} ms without logins`);

    // A right one from elsewhere waits for two turns, not for fifty, and is then known.
    const target = { ...guard.plain, localAddress: '127.0.0.22' };
    const before = load.answered();
    const right = await request(target, { headers: [basic('alice', 'right')], timeoutMs: 60_000 });
    assert.equal(right.status, 200);
    assert.ok(load.answered() - before <= 10, `${load.answered() - before} wrong ones came first`);
    const started = load.answered();
    const again = await request(target, { headers: [basic('alice', 'right')] });
    assert.equal(again.status, 200);
    assert.ok(load.answered() - started <= 2);
    await load.stop();
  });
});
