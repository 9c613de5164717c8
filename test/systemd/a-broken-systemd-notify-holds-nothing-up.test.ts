import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, existsSync } from 'node:fs';
import { test } from 'node:test';
import { type NoticeSettings, ServiceNotices, takeNoticeSettings } from '../../src/cli/service-notices.js';
import { createLog } from '../../src/observe/log.js';
import { Redactor } from '../../src/observe/redact.js';
import { writeFileIn } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

const WELL = { listening: () => true };

/** A ServiceNotices whose `systemd-notify` is this shell script; none where it is null. */
function notices(script: string | null, settings: Partial<NoticeSettings> = {}) {
  const directory = new TemporaryDirectory();
  mkdirSync(directory.file('bin'));
  if (script !== null) writeFileIn(directory, 'bin/systemd-notify', `#!/bin/sh\n${script}\n`, 0o755);
  const file = directory.file('log');
  const log = createLog({ level: 'debug', file, format: 'json' }, new Redactor({ knowsDigest: () => false }), {
    fd: 1,
    terminal: false,
    colours: false,
  });
  const told = new ServiceNotices(
    { socket: '/nowhere', watchdogMs: null, path: `${directory.file('bin')}:/usr/bin:/bin`, ...settings },
    log,
  );
  return {
    told,
    out: directory.file('out'),
    said: (): string[] => {
      const out = directory.file('out');
      return existsSync(out) ? readFileSync(out, 'utf8').trimEnd().split('\n') : [];
    },
    logged: (): string[] => {
      log.flush();
      const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => String((JSON.parse(line) as Record<string, unknown>)['event.name']));
    },
    [Symbol.asyncDispose]: async () => {
      await told.close();
      await log.close();
      directory.remove();
    },
  };
}

test('what is asked is read once, and no child inherits it', () => {
  const env: NodeJS.ProcessEnv = {
    NOTIFY_SOCKET: '/run/systemd/notify',
    WATCHDOG_USEC: '30000000',
    WATCHDOG_PID: '7',
    PATH: '/bin',
  };
  assert.deepEqual(takeNoticeSettings(env, 7), { socket: '/run/systemd/notify', watchdogMs: 30_000, path: '/bin' });
  assert.deepEqual(env, { PATH: '/bin' });
  const of = (one: NodeJS.ProcessEnv): NoticeSettings | null => takeNoticeSettings({ PATH: '/bin', ...one }, 7);
  assert.equal(of({}), null);
  assert.equal(of({ NOTIFY_SOCKET: '' }), null);
  assert.equal(of({ NOTIFY_SOCKET: 'relative' }), null);
  for (const usec of ['0', '-1', '1e6', '', '99999999999999999999'])
    assert.equal(of({ NOTIFY_SOCKET: '@a', WATCHDOG_USEC: usec })?.watchdogMs, null, usec);
  assert.equal(of({ NOTIFY_SOCKET: '@a', WATCHDOG_USEC: '1000000' })?.watchdogMs, 1000);
  assert.equal(of({ NOTIFY_SOCKET: '@a', WATCHDOG_USEC: '1000000', WATCHDOG_PID: '8' })?.watchdogMs, null);
});

test('the program that speaks for us gets nothing of our environment but the socket and the path', async () => {
  process.env['GUARDBEE_TEST_SECRET'] = 'hush';
  try {
    await using service = notices('/usr/bin/env >"${0%/bin/*}/out"; pwd >>"${0%/bin/*}/out"');
    service.told.ready('well', WELL);
    await waitUntil(() => service.said().includes('/'), 'the program has run');
    const names = service.said().map((line) => line.replace(/=.*/, ''));
    // The shell itself sets the last three.
    assert.deepEqual(names.filter((name) => !['PWD', 'OLDPWD', 'SHLVL', '_', '/'].includes(name)).sort(), [
      'NOTIFY_SOCKET',
      'PATH',
    ]);
  } finally {
    delete process.env['GUARDBEE_TEST_SECRET'];
  }
});

test('words come in the order in which they were said', async () => {
  await using service = notices('echo "$1" >>"${0%/bin/*}/out"');
  service.told.ready('well', WELL);
  service.told.reloading();
  service.told.reloaded('well');
  service.told.stopping(1000);
  await waitUntil(() => service.said().length === 4, 'all are said');
  assert.deepEqual(service.said(), ['READY=1', 'RELOADING=1', 'READY=1', 'STOPPING=1']);
  assert.deepEqual(service.logged(), []);
});

test('a missing program is logged once', async () => {
  await using service = notices(null, { path: '/nonexistent', watchdogMs: 20 });
  service.told.ready('well', WELL);
  service.told.reloading();
  service.told.reloaded('well');
  await service.told.close();
  await waitUntil(() => service.logged().length > 0, 'it is logged');
  assert.deepEqual(service.logged(), ['systemd.not_told']);
});

test('a program that fails again and again is logged once', async () => {
  await using service = notices('echo "$1" >>"${0%/bin/*}/out"; exit 1');
  for (let time = 0; time < 3; time += 1) service.told.reloaded('well');
  await waitUntil(() => service.said().length === 3, 'it is tried each time');
  await service.told.close();
  await waitUntil(() => service.logged().length > 0, 'it is logged');
  assert.deepEqual(service.logged(), ['systemd.not_told']);
});

test('a program that never ends does not outlive us, nor keep us', async () => {
  await using service = notices('echo $$ >"${0%/bin/*}/out"; exec sleep 600');
  service.told.ready('well', WELL);
  await waitUntil(() => service.said().length === 1, 'it has begun');
  service.told.stopping(1000);
  const began = performance.now();
  await service.told.close();
  assert.ok(performance.now() - began < 5_000);
  const pid = Number(service.said()[0]);
  await waitUntil(() => !existsSync(`/proc/${String(pid)}`), 'it is gone');
});

test('the watchdog is told while the listeners take connections, and only then', async () => {
  await using service = notices('echo "$1" >>"${0%/bin/*}/out"', { watchdogMs: 60 });
  let listening = true;
  const pings = (): number => service.said().filter((word) => word === 'WATCHDOG=1').length;
  service.told.ready('well', { listening: () => listening });
  await waitUntil(() => pings() >= 2, 'it is told');
  listening = false;
  await waitUntil(() => service.logged().includes('systemd.unwell'), 'it is logged');
  // What was under way then is said; nothing after it.
  service.told.reloaded('mark');
  await waitUntil(() => service.said().filter((word) => word === 'READY=1').length === 2, 'the mark is said');
  const then = pings();
  service.told.reloaded('mark');
  service.told.reloaded('mark');
  await waitUntil(() => service.said().filter((word) => word === 'READY=1').length === 4, 'the marks are said');
  assert.equal(pings(), then);
  listening = true;
  await waitUntil(() => pings() > then, 'it is told again');
  assert.deepEqual(service.logged(), ['systemd.unwell']);
});
