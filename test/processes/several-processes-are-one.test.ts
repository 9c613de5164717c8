/**
 * One guardbee of two workers: what is counted is counted for both, what one is told both know, and what one dies of
 * ends its own connections alone. The program is shared by the tests, in their order.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AuditRecord, readRecord } from '../../src/observe/audit/record.js';
import { adminOf, hangUp, rewrite } from '../reload/reloading-guard.js';
import { type Guard, startGuard } from '../support/guard.js';
import { tokenPair } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY } from '../support/process.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

const SOON_MS = 20_000;

/** The processes that this one has begun. */
function workersOf(pid: number): number[] {
  return readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8')
    .split(' ')
    .filter((text) => text !== '')
    .map(Number);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${String(pid)}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

describe('two workers are one guardbee', { timeout: 120_000 }, () => {
  const audited = new TemporaryDirectory();
  const other = tokenPair();
  let upstream: RecordingUpstream;
  let guard: Guard;

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: (asked, connection) => {
        if (asked.target.startsWith('/events')) void respond.silentEvents()(asked, connection);
        else void respond.status(200, [], 'ok')(asked, connection);
      },
    });
    guard = await startGuard({
      upstream: upstream.url,
      tokens: [{ name: 'other', sha256: other.sha256, roles: ['operator'] }],
      routes: [
        {
          name: 'rated',
          path: '/rated',
          methods: ['GET'],
          require: 'read',
          limits: { rate: { requests: 5, per: '1h' } },
        },
        { name: 'events', path: '/events', methods: ['GET'], require: 'read', limits: { streams: 2 } },
        { name: 'closed', path: '/closed', methods: 'any', deny: true },
        { name: 'rest', path: '/**', methods: 'any', require: 'read' },
      ],
      top: { processes: 2, audit: { dir: audited.file('trail'), min_free: '1KiB' }, admin: { bind: '127.0.0.1:0' } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream[Symbol.asyncDispose]();
    audited.remove();
  });

  const connected = async (): Promise<RawConnection> => await RawConnection.connect(guard.plain);
  const ask = async (on: RawConnection, path: string, token = guard.token): Promise<number> => {
    on.write(requestBytes(guard.plain, { path, token }));
    return (await on.readResponse()).status;
  };
  const figure = async (name: string): Promise<number> => {
    const page = (await request(await adminOf(guard), { path: '/metrics' })).text();
    const line = page.split('\n').find((one) => one.startsWith(`${name} `));
    assert.ok(line !== undefined, `no ${name} in the metrics`);
    return Number(line.slice(name.length + 1));
  };
  const opened = async (token = guard.token): Promise<RawConnection> => {
    const stream = await connected();
    stream.write(requestBytes(guard.plain, { path: '/events', token }));
    assert.equal((await stream.readHead()).status, 200);
    return stream;
  };
  const records = (): AuditRecord[] => {
    const dir = audited.file('trail');
    const segments = readdirSync(dir).filter((name) => name.endsWith('.ndjson'));
    return segments.sort().flatMap((name) =>
      readFileSync(join(dir, name), 'utf8')
        .split('\n')
        .flatMap((line) => {
          const read = readRecord(Buffer.from(line));
          return read.ok ? [read.record] : [];
        }),
    );
  };

  test('a rate counts what both let through; the metrics are of both', async () => {
    // Each goes to the worker that has fewer.
    using one = await connected();
    using two = await connected();
    const statuses: number[] = [];
    for (let nth = 0; nth < 4; nth += 1) statuses.push(await ask(one, '/rated'), await ask(two, '/rated'));
    assert.deepEqual(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert.equal(upstream.requests.filter(({ target }) => target === '/rated').length, 5);
    const counted = (code: string): string =>
      `guardbee_http_requests_total{listener="main",route="rated",method="GET",code="${code}"}`;
    assert.equal(await figure(counted('200')), 5);
    assert.equal(await figure(counted('429')), 3);
    assert.equal(await figure('guardbee_connections{listener="main"}'), 2);
  });

  test('kill -9 of a worker: its own connections end, its places are given back, another is begun', async () => {
    const streams = [await opened(), await opened()];
    using third = await connected();
    assert.equal(await ask(third, '/events'), 429, 'two streams are all that there may be');
    // Others are refused meanwhile, and each refusal that was seen is on record.
    let refused = 0;
    const over = new AbortController();
    const load = (async (): Promise<void> => {
      while (!over.signal.aborted) {
        try {
          if ((await request(guard.plain, { path: '/closed', token: guard.token })).status === 403) refused += 1;
        } catch {
          // It was the dead one's.
        }
      }
    })();
    const [victim] = workersOf(guard.pid);
    assert.ok(victim !== undefined);
    process.kill(victim, 'SIGKILL');
    const cut = await waitUntil(() => {
      const ended = streams.filter((stream) => stream.ended !== null);
      return ended.length === 0 ? null : ended;
    }, 'a stream to end with its worker');
    assert.equal(cut.length, 1, 'the other worker has the other stream, which goes on');
    await guard.process.waitForLog((line) => line['event.name'] === 'worker.died');
    using again = await connected();
    again.write(requestBytes(guard.plain, { path: '/events', token: guard.token }));
    assert.equal((await again.readHead()).status, 200, 'the place of the dead one is free');
    await waitUntil(
      () => guard.process.logLines.filter((line) => line['event.name'] === 'worker.ready').length === 3,
      'another worker to serve',
      SOON_MS,
    );
    over.abort();
    await load;
    assert.equal(await figure('guardbee_worker_restarts_total'), 1);
    assert.equal(await figure('guardbee_workers{state="ready"}'), 2);
    // Counted where it is not lost: nobody gets a rate again.
    using rated = await connected();
    assert.equal(await ask(rated, '/rated'), 429);
    const verified = spawnSync(process.execPath, [GUARDBEE_ENTRY, 'audit', 'verify', '--dir', audited.file('trail')]);
    assert.equal(verified.status, 0, verified.stdout.toString('utf8'));
    const onRecord = records();
    assert.ok(onRecord.filter(({ route, result }) => route === 'closed' && result === 'denied').length >= refused);
    assert.ok(refused > 0);
    assert.equal(onRecord.filter(({ event }) => event === 'worker_died').length, 1);
    for (const stream of streams) stream.close();
  });

  test('a reload is of both: who is gone is refused by both, and cut in both', async () => {
    const streams = [await opened(other.token), await opened(other.token)];
    rewrite(guard, ({ authenticators }) => {
      const keys = authenticators?.['keys'];
      assert.ok(keys !== undefined);
      const tokens = keys['tokens'] as unknown as Record<string, unknown>[];
      keys['tokens'] = tokens.filter(({ name }) => name !== 'other') as never;
    });
    const line = await hangUp(guard);
    assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
    assert.equal(line['guardbee.exchanges_refused'], 2);
    for (const stream of streams) await stream.waitForEnd();
    using one = await connected();
    using two = await connected();
    assert.deepEqual([await ask(one, '/', other.token), await ask(two, '/', other.token)], [401, 401]);
    assert.deepEqual([await ask(one, '/'), await ask(two, '/')], [200, 200]);
    rewrite(guard, (policy) => {
      (policy as Record<string, unknown>)['processes'] = 3;
    });
    assert.equal((await hangUp(guard))['event.name'], 'policy.reload_failed');
    assert.deepEqual([await ask(one, '/'), await ask(two, '/')], [200, 200], 'the one before stays in force');
  });

  test('SIGTERM to all of them drains, ends with 0, and leaves none', async () => {
    const workers = workersOf(guard.pid);
    assert.equal(workers.length, 2);
    using long = await opened();
    for (const pid of [...workers, guard.pid]) process.kill(pid, 'SIGTERM');
    await guard.process.waitForLog((line) => line['event.name'] === 'signal');
    assert.equal(long.ended, null, 'what is open goes on');
    long.close();
    assert.deepEqual(await guard.process.exited, { code: 0, signal: null });
    assert.deepEqual(workers.filter(isAlive), []);
    assert.equal(records().at(-1)?.event, 'checkpoint');
  });
});

test('workers end with their owner', { timeout: 60_000 }, async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({ upstream: upstream.url, top: { processes: 2 } });
  const workers = workersOf(guard.pid);
  assert.equal(workers.length, 2);
  using open = await RawConnection.connect(guard.plain);
  open.write(requestBytes(guard.plain, { path: '/', token: guard.token }));
  assert.equal((await open.readResponse()).status, 200);
  process.kill(guard.pid, 'SIGKILL');
  await guard.process.exited;
  await waitUntil(() => workers.every((pid) => !isAlive(pid)), 'the workers to end');
  await open.waitForEnd();
});
