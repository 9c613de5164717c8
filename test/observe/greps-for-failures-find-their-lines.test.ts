/** What operators have in their notes: `grep` over the log file, as it stands. These are of FetchML's security guide. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { runCommand, startGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

test('each finds the lines that it is after, and no others', async () => {
  using folder = new TemporaryDirectory();
  await using upstream = await RecordingUpstream.start();
  const { token, sha256 } = tokenPair();
  const file = folder.file('guardbee.log');
  const policy = writePolicy(folder, {
    ...simplePolicy({
      upstream: upstream.url,
      stateDir: folder.file('state'),
      tokens: [{ name: 'keeper', sha256, roles: ['viewer'] }],
    }),
    log: { file },
  });
  await using guardbee = startGuardbee({ args: ['run', '--policy', policy] });
  const logged = (): string => readFileSync(file, { encoding: 'utf8', flag: 'a+' });
  const url = await waitUntil(() => /"msg":"listening on (http:[^"]+)"/.exec(logged())?.[1], 'its address');
  const target = { port: Number(new URL(url).port) };
  const asked: readonly (readonly [what: object, status: number])[] = [
    [{}, 401],
    [{ token: `${token}x` }, 401],
    [{ token, method: 'POST' }, 403],
    [{ token }, 200],
  ];
  for (const [what, status] of asked) assert.equal((await request(target, what)).status, status);
  guardbee.signal('SIGTERM');
  await guardbee.expectExit(0);

  const lines = logged().trimEnd().split('\n');
  const found = async (...pattern: readonly string[]): Promise<string[]> => {
    const { code, stdout } = await runCommand('grep', [...pattern, file]);
    assert.equal(code, 0, pattern.join(' '));
    return stdout.trimEnd().split('\n');
  };
  const status = (code: number): string[] =>
    lines.filter((line) => line.includes(`"http.response.status_code":${String(code)}`));
  assert.equal(status(401).length, 2);
  assert.deepEqual(await found('authentication failed'), status(401));
  assert.deepEqual(await found('auth.*failed'), status(401));
  const warned = lines.filter((line) => /"level":"(?:WARN|ERROR)"/.test(line));
  assert.deepEqual(await found('-E', '(ERROR|WARN)'), warned);
  for (const line of [...status(401), ...status(403)]) assert.ok(warned.includes(line), line);
  assert.equal(status(200).length, 1);
  assert.ok(!warned.includes(status(200)[0]!));
});
