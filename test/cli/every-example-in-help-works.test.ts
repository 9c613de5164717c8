/** Help is the only documentation that is there when something is wrong: each of its examples is run as it is written. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { delimiter } from 'node:path';
import { type TestContext, test } from 'node:test';
import { testCertificates, writeKeyPair } from '../support/certificates.js';
import { tokenPair, writeFileIn, writePolicy, writeTokens } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY, WatchedProcess } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { DENIED, TrailBuilder } from '../audit/trail-fixture.js';
import { perform } from './in-process.js';

/** What runs until it is told to end. */
const SERVING = /^guardbee run\b/;

interface Help {
  readonly argv: readonly string[];
  readonly text: string;
}

/** The help of the program, of each verb, and of what is below them. */
async function allHelp(argv: readonly string[] = []): Promise<Help[]> {
  const { code, stdout } = await perform(...argv, '--help');
  assert.equal(code, 0);
  const heading = argv.length === 0 ? 'Verbs:' : 'Commands:';
  const section = stdout.split(`\n${heading}\n`)[1]?.split('\n\n')[0] ?? '';
  const below = [...section.matchAll(/^ {2}([a-z]+)/gm)].map(([, name = '']) => name).filter((name) => name !== 'help');
  const found: Help[] = [{ argv, text: stdout }];
  for (const name of below) found.push(...(await allHelp([...argv, name])));
  return found;
}

/** A folder with all that an example may name, and `guardbee` on the path. */
async function setUp(t: TestContext, folder: TemporaryDirectory, example: string): Promise<Record<string, string>> {
  mkdirSync(folder.file('bin'));
  const program = folder.file('bin', 'guardbee');
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${GUARDBEE_ENTRY}' "$@"\n`);
  chmodSync(program, 0o755);

  const admin = createServer((_request, response) => response.end('{"status":"ready"}'));
  t.after(() => admin.close());
  await new Promise<void>((resolve) => admin.listen(0, '127.0.0.1', resolve));
  const adminPort =
    SERVING.test(example) || example.startsWith('guardbee reload ') ? 0 : (admin.address() as AddressInfo).port;

  const prometheus = tokenPair();
  writeFileIn(folder, 'prometheus.token', `${prometheus.token}\n`);
  writeTokens(folder, [{ name: 'old', roles: ['viewer'], sha256: tokenPair().sha256 }]);
  const { server } = await testCertificates();
  writeKeyPair(folder, server);
  const isOfAudit = example.startsWith('guardbee audit ');
  if (isOfAudit) new TrailBuilder().denials(3).checkpoint().write(folder.file('trail'));
  if (example.startsWith('guardbee replay ')) {
    const nobody = { who: undefined, authenticator: undefined, roles: undefined, credential: undefined };
    const denied = { ...DENIED, ...nobody, reason: 'credential_missing' };
    new TrailBuilder().add(denied).checkpoint().write(folder.file('audit'));
  }
  // `init` writes one of its own.
  if (!example.includes('--output policy.yaml')) {
    writePolicy(
      folder,
      `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes:
      - { name: shutdown, path: /v1/shutdown, methods: [POST], require: control }
      - { name: read, path: /**, methods: [GET], require: read }
authenticators: { keys: { type: bearer, tokens_file: tokens.yaml } }
roles: { viewer: [read], operator: [read, control], prometheus: [scrape] }
admin: { bind: 127.0.0.1:${String(adminPort)} }
${isOfAudit ? 'audit: { dir: trail }\n' : ''}tests:
  - { request: GET /, expect: 401 }
`,
    );
  }
  return { PATH: `${folder.file('bin')}${delimiter}${process.env['PATH'] ?? ''}` };
}

test('every page of help has one example, and each example does what it says', async (t) => {
  const pages = await allHelp();
  assert.ok(pages.length >= 16, 'the program, its verbs, and those below token and cert');
  const examples = new Map<string, string>();
  for (const { argv, text } of pages) {
    const example = /\nExample:\n {2}(guardbee .+)\n\n?$/.exec(text)?.[1];
    assert.ok(example, `guardbee ${argv.join(' ')} --help has no example at its end`);
    examples.set(example, argv.join(' '));
  }
  for (const [example, page] of examples) {
    await t.test(example, async (t) => {
      const folder = new TemporaryDirectory(t);
      const env = await setUp(t, folder, example);
      if (page === 'reload') {
        // One that runs, with the same state directory.
        env['XDG_STATE_HOME'] = folder.file('state');
        const served = new WatchedProcess('guardbee', ['run', 'policy.yaml'], { cwd: folder.path, env });
        t.after(async () => {
          await served.stop();
        });
        await served.waitForLog((line) => line['msg'] === 'ready', 30_000);
      }
      await using running = new WatchedProcess('sh', ['-c', `exec ${example}`], { cwd: folder.path, env });
      if (SERVING.test(example)) {
        await running.waitForLog((line) => line['msg'] === 'ready', 30_000);
        running.signal('SIGTERM');
      }
      const { code } = await running.exited;
      const said = `${running.stdout}\n${running.stderr}`;
      if (page === 'doctor') {
        // What it says of the machine that the tests run on is not the example's fault.
        const failed = running.stdout.split('\n').filter((line) => line.startsWith('FAIL'));
        assert.ok(
          failed.every((line) => /^FAIL (node|clock): /.test(line)),
          said,
        );
      } else {
        assert.equal(code, 0, said);
      }
    });
  }
});
