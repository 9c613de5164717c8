/**
 * The latest head of a connection is kept, and what was made of it. It must be gone with its connection, and what belongs to
 * a policy with that, even where connections stay: seen in a snapshot of the heap.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { type LogLine, startGuardbee } from '../support/process.js';
import { tokenPair, writePolicy } from '../support/policy-builder.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';

/** A connection that says the same as often as it is asked to. */
async function client(to: { port: number } | { path: string }, token: string) {
  const socket = connect(to);
  socket.setEncoding('latin1');
  await within(once(socket, 'connect'), 'a connection');
  return {
    ask: async (): Promise<string> => {
      socket.write(`GET /x HTTP/1.1\r\nHost: localhost\r\nX-Guardbee-Token: ${token}\r\n\r\n`);
      const [answer] = (await within(once(socket, 'data'), 'an answer')) as [string];
      return answer.slice(9, 12);
    },
    close: async (): Promise<void> => {
      socket.destroy();
      await once(socket, 'close');
    },
  };
}

test('what is kept goes with what it is kept for', async () => {
  await using upstream = await RecordingUpstream.start();
  using directory = new TemporaryDirectory();
  const { token, sha256 } = tokenPair();
  const upstreamToken = (nth: number): string => `upstream-credential-${String(nth)}-${'u'.repeat(20)}`;
  const holder = (nth: number): string => `holder-of-policy-${String(nth)}`;
  const write = (nth: number): string => {
    writeFileSync(directory.file('upstream.token'), upstreamToken(nth), { mode: 0o600 });
    return writePolicy(directory, {
      version: 1,
      listeners: {
        main: {
          bind: '127.0.0.1:0',
          upstream: upstream.url,
          authenticate: ['keys'],
          throttle: 'off',
          upstream_auth: { type: 'bearer', token: { file: 'upstream.token' } },
          routes: [{ name: 'all', path: '/**', methods: 'any', require: 'write' }],
        },
        link: {
          outbound: true,
          bind: `unix:${directory.file('link.sock')}`,
          upstream: 'https://localhost:1',
          local_identity: { name: 'here', roles: ['operator'] },
          routes: [{ name: 'all', path: '/**', methods: 'any', require: 'write' }],
        },
      },
      authenticators: {
        keys: {
          type: 'bearer',
          carriers: ['x_guardbee_token'],
          tokens: [{ name: holder(nth), sha256, roles: ['operator'] }],
        },
      },
      roles: { operator: ['write'] },
      state: { dir: directory.file('state') },
    });
  };
  const policyFile = write(0);
  await using guard = startGuardbee({
    args: ['run', '--policy', policyFile],
    nodeArgs: ['--heapsnapshot-signal=SIGUSR2', `--diagnostic-dir=${directory.path}`],
  });
  const line = await guard.waitForLog(
    (one) => one['guardbee.listener'] === 'main' && String(one['msg']).startsWith('listening on '),
  );
  const port = Number(new URL(String(line['url.full'])).port);
  await guard.waitForLog(
    (one) => one['guardbee.listener'] === 'link' && String(one['msg']).startsWith('listening on '),
  );

  const [overTcp, overSocket] = ['shown-over-tcp', 'shown-over-the-socket'].map((name) => `${name}-${'s'.repeat(20)}`);
  assert.ok(overTcp !== undefined && overSocket !== undefined);
  for (const [to, shown, status] of [
    [{ port }, overTcp, '401'],
    [{ path: directory.file('link.sock') }, overSocket, '502'],
  ] as const) {
    const one = await client(to, shown);
    for (let i = 0; i < 3; i += 1) assert.equal(await one.ask(), status);
    await one.close();
  }
  const reload = async (nth: number): Promise<void> => {
    write(nth);
    guard.signal('SIGHUP');
    const isReload = (line: LogLine): boolean => line['event.name'] === 'policy.reloaded';
    await guard.waitForLog((line) => isReload(line) && guard.logLines.filter(isReload).length >= nth);
  };
  await reload(1);
  const idle = await client({ port }, token);
  for (let i = 0; i < 3; i += 1) assert.equal(await idle.ask(), '200');
  for (const nth of [2, 3]) await reload(nth);
  // The connection to the upstream knows what it said first, and ends when it was idle for long enough.
  for (const { connection } of upstream.requests) await upstream.waitForClose(connection);

  guard.signal('SIGUSR2');
  const snapshot = await waitUntil(
    () => {
      const name = readdirSync(directory.path).find((one) => one.endsWith('.heapsnapshot'));
      const text = name === undefined ? '' : readFileSync(directory.file(name), 'latin1');
      return text.trimEnd().endsWith(']}') ? text : null;
    },
    'a snapshot of the heap',
    60_000,
  );
  const kept = (text: string): boolean => snapshot.includes(text);
  assert.ok(kept(holder(3)) && kept(token), 'what is in use is there');
  for (const gone of [overTcp, overSocket, upstreamToken(1), `"${holder(1)}"`]) {
    assert.ok(!kept(gone), `${gone.slice(0, 20)}… is still there`);
  }
  await idle.close();
});
