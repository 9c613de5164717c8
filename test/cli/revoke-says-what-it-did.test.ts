import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { loadPolicyText } from '../../src/policy/load.js';
import type { JwtAuthenticator, Policy, RevocationSettings } from '../../src/policy/policy.js';
import { type CommandAnswer, perform, readCommand } from '../../src/state/revocation-commands.js';
import { PolicyRevocations } from '../../src/state/revocations.js';
import { startGuard } from '../support/guard.js';
import { type PolicyValue, policyText, simplePolicy, writePolicy } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { EMBEDDED, ISSUER, RBEE, revocable } from '../state/fixture.js';
import { perform as guardbee } from './in-process.js';

const NOW = Date.UTC(2027, 0, 1);

function sso(issuer: string, revocation: RevocationSettings): JwtAuthenticator {
  return {
    type: 'jwt',
    name: 'sso',
    realm: 'guardbee',
    carriers: new Set(['authorization']),
    issuer,
    audiences: ['queen'],
    algorithms: ['ES256'],
    keys: { kind: 'url', url: `${issuer}/jwks` },
    clockToleranceMs: 300_000,
    maxAgeMs: null,
    nameFrom: ['sub'],
    rolesFrom: null,
    permissionsFrom: null,
    rolesMap: null,
    permissions: new Set(),
    roles: new Map(),
    revocation,
  };
}

function publicPolicy(stateDir: string): PolicyValue {
  return simplePolicy({
    upstream: 'http://127.0.0.1:9',
    stateDir,
    routes: [{ name: 'all', path: '/', methods: ['GET'], public: true }],
  });
}

/** A policy with these authenticators, and its stores, opened. */
async function opened(
  t: TestContext,
  ...authenticators: JwtAuthenticator[]
): Promise<{
  policy: Policy;
  revocations: PolicyRevocations;
  ask: (request: Record<string, unknown>) => Promise<CommandAnswer>;
}> {
  const dir = new TemporaryDirectory(t);
  const text = policyText(publicPolicy(dir.path));
  const loaded = await loadPolicyText(text, dir.file('policy.yaml'), { env: {}, now: NOW });
  assert.ok(loaded.ok);
  const policy = {
    ...loaded.policy,
    authenticators: new Map(authenticators.map((one, index) => [`sso-${String(index)}`, one])),
  };
  const revocations = await PolicyRevocations.open(policy, NOW, () => undefined);
  t.after(() => revocations.close());
  return {
    policy,
    revocations,
    ask: async (request) => {
      const command = readCommand(request);
      assert.ok(command !== null, JSON.stringify(request));
      return await perform(command, policy, revocations, NOW);
    },
  };
}

test('a revocation is kept until the token ends, tolerance included, and without an end for a year', async (t) => {
  const { revocations, ask } = await opened(t, sso(ISSUER, EMBEDDED));
  const expiresMs = NOW + 3_600_000;
  assert.deepEqual(await ask({ cmd: 'revoke', issuer: ISSUER, jti: 'a', expiresMs }), {
    ok: true,
    kept: [{ store: 'embedded', until: new Date(expiresMs + 300_000).toISOString() }],
  });
  const token = revocable({ settings: EMBEDDED, jti: 'a', expiresAtMs: expiresMs + 300_000, issuedAtMs: NOW });
  assert.equal(revocations.standing(token, expiresMs + 299_999), 'revoked');
  assert.equal(revocations.standing(token, expiresMs + 300_000), 'good');
  await ask({ cmd: 'revoke', issuer: ISSUER, jti: 'b', expiresMs: null });
  assert.equal(revocations.standing({ ...token, jti: 'b' }, NOW + 365 * 86_400_000), 'revoked');
  // Over, with its tolerance: there is nothing to revoke.
  assert.deepEqual(await ask({ cmd: 'revoke', issuer: ISSUER, jti: 'c', expiresMs: NOW - 300_000 }), {
    ok: true,
    kept: [],
  });
  await ask({ cmd: 'revoke', issuer: ISSUER, subject: 's', beforeMs: NOW, expiresMs: null });
  assert.equal(revocations.standing({ ...token, jti: 'd', subject: 's', issuedAtMs: NOW - 1 }, NOW), 'revoked');
  assert.equal(revocations.standing({ ...token, jti: 'd', subject: 's', issuedAtMs: NOW }, NOW), 'good');
  const listed = await ask({ cmd: 'list' });
  assert.ok(listed.ok);
  assert.equal(listed['total'], 3);
});

test('an issuer that the policy does not know is refused, with those that it does', async (t) => {
  const { ask } = await opened(t, sso(ISSUER, EMBEDDED));
  assert.deepEqual(await ask({ cmd: 'revoke', issuer: 'https://other.example', jti: 'a', expiresMs: null }), {
    ok: false,
    error: `the policy revokes nothing of this issuer; there is ${ISSUER}`,
  });
});

test('a shared store that is not there is said, and what is kept elsewhere is kept', async (t) => {
  const { revocations, ask } = await opened(t, sso(ISSUER, EMBEDDED), sso(ISSUER, RBEE));
  const answer = await ask({ cmd: 'revoke', issuer: ISSUER, jti: 'a', expiresMs: null });
  assert.ok(!answer.ok);
  assert.match(answer.error, /no shared store/);
  assert.equal(revocations.standing(revocable({ settings: EMBEDDED, jti: 'a' }), NOW), 'revoked');
  assert.equal(revocations.standing(revocable({ settings: RBEE, jti: 'a' }), NOW), 'unknown');
});

test('what is no command is not one', () => {
  const revoke = { cmd: 'revoke', issuer: ISSUER, expiresMs: null };
  for (const request of [
    {},
    { cmd: 'stop' },
    { cmd: 7 },
    revoke,
    { ...revoke, jti: '' },
    { ...revoke, jti: 'x'.repeat(10_000) },
    { ...revoke, jti: 'a', subject: 'b', beforeMs: 1 },
    { ...revoke, subject: 'b' },
    { ...revoke, subject: 'b', beforeMs: 'now' },
    { ...revoke, subject: 'b', beforeMs: -1 },
    { ...revoke, subject: 'b', beforeMs: 1e300 },
    { ...revoke, jti: 'a', expiresMs: undefined },
    { ...revoke, jti: 'a', expiresMs: Number.NaN },
    { ...revoke, jti: ['a'] },
    { ...revoke, issuer: null, jti: 'a' },
  ]) {
    assert.equal(readCommand(request), null, JSON.stringify(request));
  }
});

test('wrong usage is told, and a token is never asked for on the command line, nor repeated', async (t) => {
  const dir = new TemporaryDirectory(t);
  const policy = writePolicy(dir, publicPolicy(dir.file('state')));
  const cases: readonly (readonly [code: number, said: RegExp, args: readonly string[]])[] = [
    [2, /what\? Say --jti/, []],
    [2, /whose\? Say --issuer/, ['--jti', 'a']],
    [2, /one at a time: found --jti and --subject/, ['--issuer', 'i', '--jti', 'a', '--subject', 's']],
    [2, /--before cannot stand beside --jti/, ['--issuer', 'i', '--jti', 'a', '--before', '2027-01-01']],
    [2, /--issuer and --expires cannot stand beside --list/, ['--list', '--issuer', 'i', '--expires', '2027-01-01']],
    [2, /--expires: allowed is a date/, ['--issuer', 'i', '--jti', 'a', '--expires', 'tomorrow']],
    [2, /--token - and give it on stdin/, ['--token', 'eyJhbGciOiJub25lIn0.eyJqdGkiOiJzZWNyZXQifQ.x']],
    [1, /no authenticator whose credentials can be revoked/, ['--issuer', 'i', '--jti', 'a']],
  ];
  for (const [code, said, args] of cases) {
    const result = await guardbee('revoke', policy, ...args);
    assert.equal(result.code, code, result.stderr);
    assert.match(result.stderr, said);
    assert.doesNotMatch(result.stdout + result.stderr, /eyJ/);
  }
  assert.equal(existsSync(dir.file('state')), false, 'nothing was made for it');
});

test('a token on stdin says what to revoke, and is not repeated', async (t) => {
  const dir = new TemporaryDirectory(t);
  const policy = writePolicy(dir, publicPolicy(dir.file('state')));
  const token = (claims: unknown): string =>
    ['{"alg":"ES256"}', JSON.stringify(claims), 'signature']
      .map((part) => Buffer.from(part).toString('base64url'))
      .join('.');
  const secret = 'planted-4711';
  for (const [input, said] of [
    ['', /no JWT/],
    [`${secret}.x`, /no JWT/],
    [token('x'), /no JWT/],
    [token({ jti: secret }), /names no issuer/],
    [token({ iss: ISSUER, sub: secret }), /has no jti/],
    [token({ iss: ISSUER, jti: secret, exp: 1 }), /no authenticator whose credentials can be revoked/],
  ] as const) {
    const { code, stdout, stderr } = await runGuardbee(['revoke', policy, '--token', '-'], { input: `${input}\n` });
    assert.equal(code, 1, stderr);
    assert.match(stderr, said);
    assert.ok(!(stdout + stderr).includes(secret) && !(stdout + stderr).includes('eyJ'));
  }
});

test('a running program is asked through its socket, and its log says so', async () => {
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({ upstream: upstream.url });
  const listed = await guardbee('revoke', guard.policyFile, '--list', '--json');
  assert.equal(listed.code, 0, listed.stderr);
  assert.deepEqual(JSON.parse(listed.stdout), { ok: true, total: 0, revocations: [] });
  const accepted = await guardbee('revoke', guard.policyFile, '--accept-loss');
  assert.match(accepted.stdout, /No store has lost anything/);
  await guard.process.waitForLog((line) => line['event.name'] === 'revocations.accept_loss');
  const refused = await guardbee('revoke', guard.policyFile, '--issuer', ISSUER, '--jti', 'a');
  assert.equal(refused.code, 1);
  await guard.process.waitForLog((line) => line['event.name'] === 'revocations.revoke' && line['level'] === 'ERROR');
});
