import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { requireComponent } from '../support/component.js';
import { startGuard } from '../support/guard.js';
import { writePolicy } from '../support/policy-builder.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { hangUp, rewrite } from '../reload/reloading-guard.js';
import { receiveNotices } from './notice-receiver.js';

const microseconds = (): bigint => process.hrtime.bigint() / 1000n;

test('systemd hears of the start, of each reload, that all is well, and of the end', async (t) => {
  if (requireComponent('systemd-notify', t) === null) return;
  using directory = new TemporaryDirectory();
  const socket = join(directory.path, 'notify');
  await using receiver = await receiveNotices(socket, t);
  if (receiver === null) return;
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    env: { NOTIFY_SOCKET: socket, WATCHDOG_USEC: '600000' },
    top: { drain: '7s' },
  });

  const ready = await receiver.heard('READY=1');
  assert.equal(ready.at, 0, 'the first that is heard');
  assert.match(ready.words[1] ?? '', /^STATUS=Serving by policy [0-9a-f]+$/);
  const first = await receiver.heard('WATCHDOG=1');
  const second = await receiver.heard('WATCHDOG=1', first.at + 1);

  const before = microseconds();
  const done = await hangUp(guard);
  assert.equal(done['event.name'], 'policy.reloaded');
  const reloading = await receiver.heard('RELOADING=1', second.at);
  const moment = /^MONOTONIC_USEC=(\d+)$/.exec(reloading.words[1] ?? '')?.[1] ?? '0';
  assert.ok(BigInt(moment) >= before && BigInt(moment) <= microseconds(), 'by the clock that systemd looks at');
  const again = await receiver.heard('READY=1', reloading.at);
  assert.match(again.words[1] ?? '', /^STATUS=Serving by policy /);

  writePolicy(guard.directory, 'version: 2\n');
  assert.equal((await hangUp(guard))['event.name'], 'policy.reload_failed');
  const broken = await receiver.heard('RELOADING=1', again.at);
  const kept = await receiver.heard('READY=1', broken.at);
  assert.match(kept.words[1] ?? '', /^STATUS=The last reload failed, .* policy [0-9a-f]+ stays in force$/);

  guard.process.signal('SIGTERM');
  await guard.process.expectExit(0);
  const stopping = await receiver.heard('STOPPING=1');
  assert.ok(stopping.words.includes('EXTEND_TIMEOUT_USEC=17000000'), 'as long as the drain and the end may take');
  assert.deepEqual(
    guard.process.logLines.filter((line) => String(line['event.name']).startsWith('systemd.')),
    [],
  );
});

test('systemd hears at a name that is no file', async (t) => {
  if (requireComponent('systemd-notify', t) === null) return;
  const name = `@guardbee-test-${randomBytes(8).toString('hex')}`;
  await using receiver = await receiveNotices(name, t);
  if (receiver === null) return;
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    // That is for another process.
    env: { NOTIFY_SOCKET: name, WATCHDOG_USEC: '100000', WATCHDOG_PID: '1' },
  });
  await receiver.heard('READY=1');
  rewrite(guard, () => undefined);
  await hangUp(guard);
  const { at } = await receiver.heard('RELOADING=1');
  await receiver.heard('READY=1', at);
  assert.equal(
    receiver.messages.filter((words) => words.includes('WATCHDOG=1')).length,
    0,
    'the watchdog waits for another process',
  );
});
