import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { ControlServer, askControl } from '../../src/server/control.js';
import { StateInUseError } from '../../src/state/held-socket.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { startGuard } from '../support/guard.js';
import { runGuardbee, startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';

const echo = async (request: Readonly<Record<string, unknown>>): Promise<{ ok: true; saw: unknown }> => ({
  ok: true,
  saw: request,
});

test('one process answers, a second is refused, and after the first has gone it may', async (t) => {
  const dir = new TemporaryDirectory(t);
  assert.equal(await askControl(dir.path, { cmd: 'x' }), null, 'nobody is there');
  const first = await ControlServer.open(dir.path, echo);
  assert.equal((statSync(dir.file('control.sock')).mode & 0o777).toString(8), '600');
  assert.deepEqual(await askControl(dir.path, { cmd: 'x' }), { ok: true, saw: { cmd: 'x' } });
  await assert.rejects(ControlServer.open(dir.path, echo), StateInUseError);
  assert.deepEqual(
    await askControl(dir.path, { cmd: 'y' }),
    { ok: true, saw: { cmd: 'y' } },
    'the first still answers',
  );
  await first.close();
  assert.equal(existsSync(dir.file('control.sock')), false);
  const second = await ControlServer.open(dir.path, echo);
  await second.close();
  assert.equal(await askControl(dir.file('nowhere'), { cmd: 'x' }), null);
});

test('of many that start at once one gets the directory, and it is not split', async (t) => {
  const dir = new TemporaryDirectory(t);
  const started = await Promise.allSettled(Array.from({ length: 8 }, () => ControlServer.open(dir.path, echo)));
  const open = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  assert.equal(open.length, 1);
  for (const one of started)
    if (one.status === 'rejected') assert.ok(one.reason instanceof StateInUseError, String(one.reason));
  assert.deepEqual(readdirSync(dir.path), ['control.sock']);
  await open[0]?.close();
});

test('a path that no socket address can hold works', async (t) => {
  const dir = new TemporaryDirectory(t);
  const long = join(dir.path, 'a'.repeat(120), 'b'.repeat(120));
  mkdirSync(long, { recursive: true });
  const control = await ControlServer.open(long, echo);
  assert.deepEqual(await askControl(long, { cmd: 'x' }), { ok: true, saw: { cmd: 'x' } });
  await assert.rejects(ControlServer.open(long, echo), StateInUseError);
  await control.close();
  assert.equal(existsSync(join(long, 'control.sock')), false);
});

test('requests that are none are refused, and nobody keeps the door shut', async (t) => {
  const dir = new TemporaryDirectory(t);
  const control = await ControlServer.open(dir.path, echo);
  const raw = async (text: string): Promise<string> => {
    const socket = connect(dir.file('control.sock'));
    socket.on('error', () => undefined);
    socket.write(text);
    let answer = '';
    socket.on('data', (chunk: Buffer) => (answer += chunk.toString('utf8')));
    await within(new Promise((resolve) => socket.once('close', resolve)), 'the connection to end');
    return answer;
  };
  for (const text of ['hello\n', '[]\n', '"x"\n', 'null\n', '{"a":\n', 'x'.repeat(100_000)]) {
    assert.match(await raw(text), /^\{"ok":false,"error":"this is no request"\}\n$|^$/, text.slice(0, 20));
  }
  const idle = Array.from({ length: 20 }, () => connect(dir.file('control.sock')).on('error', () => undefined));
  await waitUntil(() => idle.some((one) => one.destroyed), 'those beyond the bound to be turned away');
  for (const one of idle) one.destroy();
  assert.deepEqual(await waitUntil(() => askControl(dir.path, { cmd: 'x' }).catch(() => null), 'it to answer again'), {
    ok: true,
    saw: { cmd: 'x' },
  });
  await control.close();
});

test('a second program with the same state directory ends with 5, and a killed one leaves nothing in the way', async (t) => {
  await using upstream = await RecordingUpstream.start();
  const guard = await startGuard({ upstream: upstream.url });
  t.after(() => guard[Symbol.asyncDispose]());
  const second = await runGuardbee(['run', '--policy', guard.policyFile]);
  assert.equal(second.code, 5, second.stderr);
  assert.match(
    second.stderr,
    /another guardbee runs with the state directory .+; give each its own with state: \{ dir: PATH \}/,
  );
  assert.ok(!second.stdout.includes('listening'), 'nothing was listened on');
  await guard.process.kill('SIGKILL');
  assert.equal(existsSync(guard.directory.file('state', 'control.sock')), true);
  await using third = startGuardbee({ args: ['run', '--policy', guard.policyFile] });
  await third.waitForLog((line) => line['msg'] === 'ready');
  await third.kill('SIGTERM');
  assert.equal(existsSync(guard.directory.file('state', 'control.sock')), false);
});

test('where the state directory cannot be made, a policy that keeps nothing runs and says so', async (t) => {
  await using upstream = await RecordingUpstream.start();
  const dir = new TemporaryDirectory(t);
  writeFileSync(dir.file('a-file'), '');
  await using guard = await startGuard({
    upstream: upstream.url,
    top: { state: { dir: dir.file('a-file', 'state') } },
  });
  const said = await guard.process.waitForLog((line) => line['event.name'] === 'state.unusable');
  assert.equal(said['level'], 'WARN');
});
