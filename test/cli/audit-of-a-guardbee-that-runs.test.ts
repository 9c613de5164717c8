/** A trail is read while it is written, by the one command that also says whether it is good. */
import assert from 'node:assert/strict';
import { readdirSync, writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { askControl } from '../../src/server/control.js';
import { type Guard, startGuard } from '../support/guard.js';
import { runGuardbee, startGuardbee, type CommandResult } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { waitUntil } from '../support/wait.js';
import { perform } from './in-process.js';

async function start(t: TestContext, audit: Readonly<Record<string, string | number>> = {}): Promise<Guard> {
  const upstream = await RecordingUpstream.start();
  t.after(async () => upstream[Symbol.asyncDispose]());
  return await startGuard({
    upstream: upstream.url,
    top: {
      audit: { dir: 'trail', rotate: { size: '64KiB' }, checkpoint: { records: 50 }, min_free: '1MiB', ...audit },
    },
  });
}

interface Report {
  readonly ok: boolean;
  readonly live: boolean;
  readonly records: number;
  readonly segments: number;
  readonly problems: unknown[];
}

async function verify(guard: Guard, ...more: string[]): Promise<Report> {
  const { stdout, stderr } = await perform('audit', 'verify', '--policy', guard.policyFile, '--json', ...more);
  assert.equal(stderr, '');
  return JSON.parse(stdout) as Report;
}

async function denials(guard: Guard, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) {
    const { status } = await request(guard.plain, { method: 'POST', path: `/v1/jobs/${number}` });
    assert.equal(status, 401);
  }
}

async function tailed(guard: Guard, event: string): Promise<Record<string, unknown>[]> {
  const argv = ['audit', 'tail', '--policy', guard.policyFile, '--event', event, '-n', '1000', '--json'];
  const { stdout } = await perform(...argv);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

test('it verifies at any moment, and who reads it stands in it', async (t) => {
  await using guard = await start(t);
  const enough = new AbortController();
  const load = (async () => {
    while (!enough.signal.aborted) await denials(guard, 5);
  })();
  const seen: Report[] = [];
  await waitUntil(
    async () => {
      const report = await verify(guard);
      assert.deepEqual(report.problems, []);
      assert.ok(report.live);
      seen.push(report);
      return report.segments >= 3;
    },
    'a trail of three segments',
    60_000,
  );
  enough.abort();
  await load;
  assert.ok(seen.length > 1 && (seen.at(-1)?.records ?? 0) > (seen[0]?.records ?? 0));

  const exported = await perform('audit', 'export', '--policy', guard.policyFile, '--format', 'rbee');
  assert.equal(exported.code, 0);
  assert.ok(!exported.stderr.includes('not noted'), exported.stderr);
  const accesses = await tailed(guard, 'audit_accessed');
  const ways = accesses.map(({ detail }) => (detail as { how: string }).how);
  assert.deepEqual(
    ways.slice(0, seen.length),
    seen.map(() => 'verify'),
  );
  assert.deepEqual(ways.slice(seen.length), ['export', 'tail']);
  assert.match((accesses[0]?.['detail'] as { by: string }).by, /^[A-Za-z0-9._ -]+$/);

  // All heads of its log are in it, also once it has stopped.
  guard.process.signal('SIGTERM');
  await guard.process.exited;
  const log = guard.directory.file('its.log');
  writeFileSync(log, guard.process.stdout);
  const last = await verify(guard, '--head-file', log);
  assert.deepEqual([last.ok, last.live], [true, false]);
  const nobody = await perform('audit', 'export', '--policy', guard.policyFile, '--format', 'json');
  assert.equal(nobody.code, 0);
  assert.match(nobody.stderr, /not noted in the trail: no guardbee runs/);
});

test('tail follows it over rotation, and prints each record once', async (t) => {
  await using guard = await start(t);
  await using following = startGuardbee({
    args: ['audit', 'tail', '--policy', guard.policyFile, '-f', '-n', '1', '--json', '--event', 'auth_failure'],
  });
  await waitUntil(async () => {
    await denials(guard, 10);
    return following.stdout !== '';
  }, 'the first line');
  await waitUntil(
    async () => {
      await denials(guard, 50);
      return readdirSync(guard.directory.file('trail')).filter((name) => name.endsWith('.ndjson')).length >= 3;
    },
    'three segments',
    60_000,
  );
  const last = await request(guard.plain, { method: 'POST', path: '/the/last' });
  assert.equal(last.status, 401);
  await waitUntil(() => following.stdout.includes('/the/last'), 'the last record');
  following.signal('SIGINT');
  await following.exited;
  const seqs = following.stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { seq: number }).seq);
  const [first = 0] = seqs;
  const all = (await tailed(guard, 'auth_failure')).map(({ seq }) => seq as number).filter((seq) => seq >= first);
  assert.deepEqual(seqs, all.slice(0, seqs.length));
  assert.equal(seqs.length, all.length);
});

test('a trail that a killed guardbee left is good, or torn at its end and good after the next start', async (t) => {
  await using guard = await start(t);
  await denials(guard, 30);
  guard.process.signal('SIGKILL');
  await guard.process.exited;
  const argv = ['audit', 'verify', '--policy', guard.policyFile];
  const { code, stdout }: CommandResult = await runGuardbee(argv);
  assert.ok(code === 0 || /the last line does not end|no record of it is signed/.test(stdout), stdout);
  await using again = startGuardbee({ args: ['run', '--policy', guard.policyFile] });
  await again.waitForLog((line) => line['msg'] === 'ready');
  assert.deepEqual((await verify(guard)).problems, []);
  again.signal('SIGTERM');
  await again.exited;
  assert.deepEqual((await verify(guard)).problems, []);
});

test('nothing else is taken from the control socket for a record', async (t) => {
  await using guard = await start(t);
  const dir = guard.directory.file('state');
  for (const request of [
    { cmd: 'audit_accessed' },
    { cmd: 'audit_accessed', how: 'steal', by: 'me' },
    { cmd: 'audit_accessed', how: 'tail', by: 'me\n' },
    { cmd: 'audit_accessed', how: 'tail', by: 'x'.repeat(65) },
    { cmd: 'audit_accessed', how: 'tail', by: 7 },
  ]) {
    const answer = await askControl(dir, request);
    assert.equal(answer?.ok, false, JSON.stringify(request));
  }
  assert.deepEqual(
    (await tailed(guard, 'audit_accessed')).map(({ detail }) => (detail as { how: string }).how),
    ['tail'],
  );
});
