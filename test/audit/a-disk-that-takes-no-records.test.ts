/** Full, read-only, broken, nearly full, of somebody else: what the policy says happens, nothing is lost silently. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type TestContext, describe, test } from 'node:test';
import { EXIT } from '../../src/cli/exit-code.js';
import { assertUntouched } from '../support/guard.js';
import { simplePolicy, writePolicy } from '../support/policy-builder.js';
import { startGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { AuditedGuard } from './audited-guard.js';
import { REFUSED, TrailPlace } from './opened-trail.js';

const STOPPED = { event: 'stopped', result: 'noted' } as const;
const ADMIN = { top: { admin: { bind: '127.0.0.1:0' } } };

async function page({ guard }: AuditedGuard, name: string): Promise<{ status: number; text: string }> {
  const { 'url.full': url } = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  const answer = await fetch(`${String(url).replace(/\/$/, '')}${name}`);
  return { status: answer.status, text: await answer.text() };
}

/** A file system of its own. Null: this machine lets us mount none, and the test is skipped. */
function mountTmpfs(t: TestContext, directory: TemporaryDirectory, options: string): string | null {
  const dir = directory.file('mounted');
  mkdirSync(dir);
  const made = spawnSync('mount', ['-t', 'tmpfs', '-o', `${options},mode=0700`, 'none', dir]);
  if (made.status !== 0) {
    t.skip('no file system can be mounted here');
    directory.remove();
    return null;
  }
  t.after(() => {
    spawnSync('umount', ['-l', dir]);
    directory.remove();
  });
  return dir;
}

describe('a disk that fails while it is written', () => {
  for (const code of ['EROFS', 'EIO'] as const) {
    test(`${code}, on_failure: deny: said, 503, upstream untouched, not ready; then as before, nothing lost`, async () => {
      await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
      await using audited = await AuditedGuard.start({ upstream: upstream.url, ...ADMIN });
      const { guard } = audited;
      assert.equal((await page(audited, '/readyz')).status, 200);
      audited.disk(code);
      const token = guard.token;
      assert.equal((await request(guard.plain, { path: '/refused-1' })).status, 401);
      await guard.process.waitForLog((line) => line['event.name'] === 'audit.failing' && line['error.type'] === code);
      assert.equal((await request(guard.plain, { token })).status, 503);
      assert.equal((await request(guard.plain, { method: 'POST', token, body: 'x' })).status, 503);
      assert.equal((await request(guard.plain, { path: '/refused-2' })).status, 401);
      assertUntouched(upstream);
      const ready = await page(audited, '/readyz');
      assert.equal(ready.status, 503);
      assert.match(ready.text, /"audit": \{\s*"status": "failed",\s*"detail": "cannot be written: /);
      assert.match((await page(audited, '/metrics')).text, /^guardbee_audit_up 0$/m);
      audited.disk('');
      await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
      assert.equal((await page(audited, '/readyz')).status, 200);
      assert.equal((await request(guard.plain, { token })).status, 200);
      await audited.record(({ result, status }) => result === 'permitted' && status === 200);
      const { records } = audited;
      assert.deepEqual(
        records.filter(({ result }) => result === 'denied').map(({ reason }) => reason),
        ['credential_missing', 'audit_unavailable', 'audit_unavailable', 'credential_missing'],
      );
      assert.deepEqual(
        records.map(({ seq }) => seq),
        records.map((_, index) => index + 1),
      );
    });
  }

  test('on_failure: allow: requests go on, readiness says so and stays', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({
      upstream: upstream.url,
      ...ADMIN,
      audit: { on_failure: 'allow' },
    });
    const { guard } = audited;
    audited.disk('EIO');
    const asked = { method: 'POST', token: guard.token, body: 'x' };
    for (let number = 0; number < 5; number += 1) assert.equal((await request(guard.plain, asked)).status, 200);
    const ready = await page(audited, '/readyz');
    assert.equal(ready.status, 200);
    assert.match(ready.text, /"audit": \{\s*"status": "unknown"/);
    audited.disk('');
    await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
    await waitUntil(
      () => audited.records.filter(({ event }) => event === 'exchange_ended').length === 5,
      'all records to be there after all',
    );
  });

  test('failing from the first moment: it starts, says so, and lets nobody through', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, ...ADMIN }, 'EIO');
    const { guard } = audited;
    assert.equal((await request(guard.plain, { token: guard.token })).status, 503);
    assert.equal((await page(audited, '/readyz')).status, 503);
    assertUntouched(upstream);
  });
});

describe('less is free than is to be', () => {
  test('on_failure: deny: said at the start, 503; what is refused is still recorded', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({
      upstream: upstream.url,
      ...ADMIN,
      audit: { min_free: '1024GiB' },
    });
    const { guard } = audited;
    await guard.process.waitForLog((line) => line['error.type'] === 'low_space');
    assert.equal((await request(guard.plain, { token: guard.token })).status, 503);
    assertUntouched(upstream);
    assert.equal((await request(guard.plain, { path: '/x' })).status, 401);
    assert.equal(audited.records.at(-1)?.reason, 'credential_missing');
    assert.match((await page(audited, '/readyz')).text, /less is free than audit\.min_free/);
  });

  test('on_failure: allow: they go on', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    const audit = { min_free: '1024GiB', on_failure: 'allow' };
    await using audited = await AuditedGuard.start({ upstream: upstream.url, ...ADMIN, audit });
    assert.equal((await request(audited.guard.plain, { token: audited.guard.token })).status, 200);
    assert.equal((await page(audited, '/readyz')).status, 200);
  });

  test('room again is seen though nobody asks anything', async (t) => {
    const directory = new TemporaryDirectory();
    const dir = mountTmpfs(t, directory, 'size=4m');
    if (dir === null) return;
    writeFileSync(`${dir}/ballast`, Buffer.alloc(3 * 1024 * 1024));
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url, audit: { dir, min_free: '2MiB' } });
    const { guard } = audited;
    await guard.process.waitForLog((line) => line['error.type'] === 'low_space');
    rmSync(`${dir}/ballast`);
    await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
    assert.equal((await request(guard.plain, { token: guard.token })).status, 200);
  });
});

test('a file system that is full: kept in memory, written when there is room, in order', async (t) => {
  const directory = new TemporaryDirectory();
  const dir = mountTmpfs(t, directory, 'size=256k');
  if (dir === null) return;
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
  await using audited = await AuditedGuard.start({ upstream: upstream.url, audit: { dir } });
  const { guard } = audited;
  const ballast = spawnSync('dd', ['if=/dev/zero', `of=${dir}/ballast`, 'bs=4k']);
  assert.notEqual(ballast.status, 0);
  // What is left of the last page is enough for some.
  for (let number = 0; number < 20; number += 1) {
    assert.equal((await request(guard.plain, { path: `/refused-${String(number)}` })).status, 401);
  }
  await guard.process.waitForLog((line) => line['error.type'] === 'ENOSPC');
  assert.equal((await request(guard.plain, { method: 'POST', token: guard.token, body: 'x' })).status, 503);
  assertUntouched(upstream);
  rmSync(`${dir}/ballast`);
  await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
  await audited.record(({ reason }) => reason === 'audit_unavailable');
  assert.deepEqual(
    audited.records.filter(({ reason }) => reason === 'credential_missing').map(({ resource }) => resource),
    Array.from({ length: 20 }, (_, number) => `/refused-${String(number)}`),
  );
});

test('a limit on the size of files (EFBIG): the same, where nothing can be mounted', async () => {
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
  await using audited = await AuditedGuard.start({ upstream: upstream.url });
  const { guard } = audited;
  const limit = (bytes: string): void => {
    const set = spawnSync('prlimit', [`--fsize=${bytes}`, '--pid', String(guard.pid)], { encoding: 'utf8' });
    assert.equal(set.status, 0, set.stderr);
  };
  limit('6000:unlimited');
  for (let number = 0; number < 20; number += 1) {
    assert.equal((await request(guard.plain, { path: `/refused-${String(number)}` })).status, 401);
  }
  await guard.process.waitForLog((line) => line['error.type'] === 'EFBIG');
  assert.equal((await request(guard.plain, { token: guard.token })).status, 503);
  assertUntouched(upstream);
  limit('unlimited:unlimited');
  await guard.process.waitForLog((line) => line['event.name'] === 'audit.recovered');
  await audited.record(({ reason }) => reason === 'audit_unavailable');
  assert.deepEqual(
    audited.records.filter(({ reason }) => reason === 'credential_missing').map(({ resource }) => resource),
    Array.from({ length: 20 }, (_, number) => `/refused-${String(number)}`),
  );
});

describe('more than memory holds meanwhile', () => {
  test('is counted, said in the chain with its number, and nothing else is lost or changes its place', async () => {
    using disk = new TemporaryDirectory();
    process.env['DISK_DOES'] = disk.file('disk');
    writeFileSync(disk.file('disk'), '');
    await import('./failing-disk.js');
    using place = new TrailPlace();
    const trail = await place.open({ checkpointRecords: 1_000_000 });
    trail.add({ ...REFUSED, request_id: 'first' }, true);
    assert.ok(await trail.durable(trail.sequence));
    writeFileSync(disk.file('disk'), 'EIO');
    const taken: number[] = [];
    let lost = 0;
    for (let number = 0; number < 12_345; number += 1) {
      const seq = trail.add({ ...REFUSED, request_id: String(number) }, true);
      if (seq === null) lost += 1;
      else taken.push(number);
      if (number === 0) assert.equal(await trail.durable(seq), false);
    }
    assert.ok(lost > 2_000);
    assert.equal(trail.lost, lost);
    assert.equal(trail.trouble, 'EIO');
    assert.equal(await trail.durable(trail.sequence), false);
    place.pass(5_000);
    writeFileSync(disk.file('disk'), '');
    await waitUntil(() => trail.trouble === null && trail.waiting === 0, 'the disk to take it all');
    trail.add(REFUSED);
    assert.equal(await trail.close(STOPPED), 0);
    const records = await place.isWhole();
    const said = records.filter(({ event }) => event === 'records_lost');
    assert.deepEqual(
      said.map(({ count }) => count),
      [lost],
    );
    assert.deepEqual(said[0]?.detail, { since: '2026-11-20T12:00:00.000Z', until: '2026-11-20T12:00:00.000Z' });
    assert.deepEqual(
      records.flatMap(({ request_id: id }) => (id !== undefined && /^\d+$/.test(id) ? [Number(id)] : [])),
      taken,
    );
    assert.deepEqual(place.said, ['failing EIO', 'recovered']);
  });

  test('a disk that hangs at the stop is not waited for longer than for an answer', async () => {
    using disk = new TemporaryDirectory();
    process.env['DISK_DOES'] = disk.file('disk');
    writeFileSync(disk.file('disk'), '');
    await import('./failing-disk.js');
    using place = new TrailPlace();
    const trail = await place.open({}, { patienceMs: 100 });
    trail.add(REFUSED);
    writeFileSync(disk.file('disk'), 'hang');
    assert.ok((await trail.close(STOPPED)) >= 3);
    writeFileSync(disk.file('disk'), '');
  });
});

test('a disk that never answers again: a signal ends the process all the same', async () => {
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
  await using audited = await AuditedGuard.start({ upstream: upstream.url });
  audited.disk('stuck');
  const { guard } = audited;
  assert.equal((await request(guard.plain, {})).status, 401);
  const { signal } = await guard.process.kill('SIGTERM', 60_000);
  assert.equal(signal, 'SIGKILL');
  assert.match(guard.process.stderr, /ending by force/);
});

describe('a directory that cannot be used at the start', () => {
  function start(directory: TemporaryDirectory, dir: string, state = directory.file('state')) {
    const sha256 = createHash('sha256').update('t').digest('hex');
    const policy = simplePolicy({
      upstream: 'http://127.0.0.1:9',
      stateDir: state,
      tokens: [{ name: 'keeper', sha256, roles: ['viewer'] }],
      top: { audit: { dir } },
    });
    return startGuardbee({ args: ['run', '--policy', writePolicy(directory, policy)] });
  }

  test('read-only: exit 1, and why', async (t) => {
    const directory = new TemporaryDirectory();
    const dir = mountTmpfs(t, directory, 'size=1m,ro');
    if (dir === null) return;
    await using guardbee = start(directory, dir);
    assert.equal((await guardbee.exited).code, EXIT.policy);
    assert.match(guardbee.stderr, /the audit directory .*mounted cannot be written to: the file system is read-only/);
  });

  test('a file in its place: exit 1', async (t) => {
    const directory = new TemporaryDirectory(t);
    writeFileSync(directory.file('log'), '');
    await using guardbee = start(directory, directory.file('log'));
    assert.equal((await guardbee.exited).code, EXIT.policy);
    assert.match(guardbee.stderr, /the audit directory .*log/);
  });

  test('another guardbee writes there: exit 5, and the first one goes on', async (t) => {
    const directory = new TemporaryDirectory(t);
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url });
    await using second = start(directory, audited.dir);
    assert.equal((await second.exited).code, EXIT.addressInUse);
    assert.match(second.stderr, /another guardbee writes the audit trail in .*give each its own with audit: \{ dir/);
    assert.equal((await request(audited.guard.plain, { path: '/x' })).status, 401);
    assert.equal(
      readFileSync(`${audited.dir}/000000000001-${new Date().toISOString().slice(0, 10)}.ndjson`, 'utf8').split('\n')
        .length,
      4,
    );
  });

  test('killed without a word: nothing stale keeps the next one out', async () => {
    await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
    await using audited = await AuditedGuard.start({ upstream: upstream.url });
    process.kill(audited.guard.pid, 'SIGKILL');
    await audited.guard.process.exited;
    await using next = await AuditedGuard.start({ upstream: upstream.url, audit: { dir: audited.dir } });
    assert.equal((await request(next.guard.plain, { path: '/x' })).status, 401);
  });
});
