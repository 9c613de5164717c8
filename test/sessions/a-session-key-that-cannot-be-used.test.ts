/** With the key one is anybody: rather than use one that others know, or make another in its place, nothing starts. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { testCertificates, writeKeyPair } from '../support/certificates.js';
import { type PolicyValue, simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { runGuardbee, startGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const KEY = 'k'.repeat(32);

async function policyIn(
  dir: TemporaryDirectory,
  sessions: Readonly<Record<string, PolicyValue>> = {},
): Promise<string> {
  const { certFile, keyFile } = writeKeyPair(dir, (await testCertificates()).server);
  mkdirSync(dir.file('state'), { mode: 0o700 });
  return writePolicy(
    dir,
    simplePolicy({
      upstream: 'http://127.0.0.1:9',
      stateDir: dir.file('state'),
      tokens: [{ name: 'me', roles: ['viewer'], sha256: tokenPair().sha256 }],
      listener: { tls: { cert: certFile, key: keyFile }, sessions: { login_with: ['keys'], ...sessions } },
    }),
  );
}

interface Case {
  readonly what: string;
  readonly prepare: (file: string) => void;
  readonly says: RegExp;
}

const withMode = (content: string, mode: number) => (file: string) => {
  writeFileSync(file, content);
  chmodSync(file, mode);
};

/** The one in the state directory, which guardbee makes itself. */
const OWN: readonly Case[] = [
  {
    what: 'too short',
    prepare: withMode(KEY.slice(1), 0o600),
    says: /it is not the 32 bytes that guardbee wrote; remove it/,
  },
  {
    what: 'too long',
    prepare: withMode(`${KEY}\n`, 0o600),
    says: /it is not the 32 bytes that guardbee wrote; remove it/,
  },
  { what: 'empty', prepare: withMode('', 0o600), says: /it is not the 32 bytes that guardbee wrote; remove it/ },
  {
    what: 'readable for others',
    prepare: withMode(KEY, 0o644),
    says: /\(mode 0644\), and with it begin sessions as anyone; chmod 600 [^\n]*, or remove it to end all sessions/,
  },
  {
    what: 'a folder',
    prepare: (file) => {
      mkdirSync(file, { mode: 0o700 });
    },
    says: /it is a (?:folder|directory), not a file/,
  },
  {
    what: 'a link to nothing',
    prepare: (file) => {
      symlinkSync(`${file}.gone`, file);
    },
    says: /session-key/,
  },
];

describe('the key of the state directory', { concurrency: 2 }, () => {
  for (const { what, prepare, says } of OWN) {
    test(`${what}: exit 4, and what is there stays`, async () => {
      using dir = new TemporaryDirectory();
      const policy = await policyIn(dir);
      prepare(dir.file('state', 'session-key'));
      await using guardbee = startGuardbee({ args: ['run', '--policy', policy] });
      await guardbee.expectExit(4, 20_000);
      assert.match(guardbee.stderr, says);
      assert.ok(guardbee.stderr.includes(dir.file('state', 'session-key')));
      assert.doesNotMatch(guardbee.stdout + guardbee.stderr, /kkkk|\n\s+at |listening on/);
      if (what === 'too short') assert.equal(readFileSync(dir.file('state', 'session-key'), 'utf8'), KEY.slice(1));
    });
  }
});

/** One that the policy names. */
const NAMED: readonly Case[] = [
  { what: 'missing', prepare: () => undefined, says: /sessions\.keys\[0\][^\n]*ring\.key/ },
  { what: 'empty', prepare: withMode('', 0o600), says: /sessions\.keys\[0\][^\n]*empty/ },
  { what: 'too short', prepare: withMode('k'.repeat(31), 0o600), says: /sessions\.keys\[0\][^\n]*32/ },
  {
    what: 'readable for others',
    prepare: withMode(KEY, 0o644),
    says: /sessions\.keys\[0\][^\n]*\(mode 0644\), allowed is 0600/,
  },
];

describe('a key that the policy names', { concurrency: 2 }, () => {
  for (const { what, prepare, says } of NAMED) {
    test(`${what}: exit 4, for check as for run`, async () => {
      using dir = new TemporaryDirectory();
      const policy = await policyIn(dir, { keys: [{ file: dir.file('ring.key') }] });
      prepare(dir.file('ring.key'));
      for (const verb of ['check', 'run']) {
        const { code, stdout, stderr } = await runGuardbee([verb, '--policy', policy]);
        assert.equal(code, 4, stderr);
        assert.match(stderr, says);
        assert.doesNotMatch(stdout + stderr, /kkkk|\n\s+at |listening on/);
      }
    });
  }
});
