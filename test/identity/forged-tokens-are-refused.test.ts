/**
 * Every way known to talk a verifier of JWTs into believing: RFC 8725, and what has happened to others. Each is refused
 * before the upstream hears of anything, over every protocol that brings tokens.
 */
import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync, sign as signBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { openWebSocket, request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import {
  KeyServer,
  base64url,
  issuerKey,
  jwkOf,
  makeToken,
  signature,
  type IssuerKey,
} from '../support/token-issuer.js';

const ISSUER = 'https://idp.example.com';
const NOW = Math.floor(Date.now() / 1000);
/** Planted in tokens; a log that holds it has told what the token says. */
const PLANTED = 'planted-in-the-claims';

const rsa = issuerKey('rsa', 'RSA');
const ec = issuerKey('ec', 'P-256');
const ed = issuerKey('ed', 'Ed25519');
const stranger = issuerKey('ec', 'P-256');
const strangeRsa = issuerKey('rsa', 'RSA');
const { privateKey: p384 } = generateKeyPairSync('ec', { namedCurve: 'P-384' });

type Claims = Record<string, unknown>;

const claims = (more: Claims = {}): Claims => ({
  iss: ISSUER,
  aud: 'queen',
  sub: PLANTED,
  roles: ['operator'],
  iat: NOW - 10,
  exp: NOW + 600,
  ...more,
});
const without = (name: string): Claims => Object.fromEntries(Object.entries(claims()).filter(([key]) => key !== name));

const byEc = (payload: object | string = claims(), header: Claims = {}, key: IssuerKey = ec): string =>
  makeToken({ alg: 'ES256', kid: 'ec', ...header }, payload, key.privateKey);
const byRsa = (alg: string, header: Claims = {}, key: IssuerKey = rsa): string =>
  makeToken({ ...header, alg, kid: 'rsa' }, claims(), key.privateKey);
const unsigned = (alg: string, signed = ''): string =>
  `${base64url(JSON.stringify({ alg }))}.${base64url(JSON.stringify(claims()))}.${signed}`;
/** The parts of a good token, to be put together wrongly. */
const parts = (token = byEc()): [string, string, string] => token.split('.') as [string, string, string];
const raw = (header: string): string => makeToken({ alg: 'ES256' }, claims(), ec.privateKey, header);

const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }) as string;
const der = rsa.publicKey.export({ type: 'spki', format: 'der' });
const hmac = (secret: string | Buffer, alg = 'HS256', kid = 'rsa'): string => makeToken({ alg, kid }, claims(), secret);

/** The signature as OpenSSL has it by itself, not as RFC 7518 §3.4 wants it. */
function derSigned(): string {
  const [header, payload] = parts();
  return `${header}.${payload}.${base64url(signBytes('sha256', Buffer.from(`${header}.${payload}`), ec.privateKey))}`;
}

/** Every way to write a word in upper and lower case. */
function cases(word: string): string[] {
  return Array.from({ length: 2 ** word.length }, (_, bits) =>
    Array.from(word, (c, i) => ((bits >> i) & 1 ? c.toUpperCase() : c)).join(''),
  );
}

/** The same bytes in another text: the bits behind the end of the last character are no part of them. */
function otherLastCharacter(part: string): string {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const bytes = Buffer.from(part, 'base64url');
  const found = Array.from(alphabet)
    .map((c) => part.slice(0, -1) + c)
    .find((other) => other !== part && Buffer.from(other, 'base64url').equals(bytes));
  assert.ok(found !== undefined);
  return found;
}

type Expected = 'credential_invalid' | 'credential_expired' | 'credential_not_yet_valid' | 'credential_malformed';
interface Attack {
  readonly name: string;
  readonly token: () => string;
  readonly reason?: Expected | 'head_too_large';
}

const canary = await KeyServer.start([jwkOf(stranger)]);
const own = jwkOf(stranger);
const certificate = base64url(Buffer.from('not even a certificate'));

const ATTACKS: readonly Attack[] = [
  ...cases('none').map((alg) => ({ name: `alg ${alg}`, token: () => unsigned(alg) })),
  { name: 'alg none with the signature of another token', token: () => unsigned('none', parts()[2]) },
  { name: 'no alg', token: () => raw('{"kid":"ec"}') },
  { name: 'alg as a list', token: () => raw('{"alg":["ES256"],"kid":"ec"}') },
  { name: 'alg with a blank', token: () => raw('{"alg":"ES256 ","kid":"ec"}') },
  { name: 'alg in lower case', token: () => raw('{"alg":"es256","kid":"ec"}') },
  { name: 'alg __proto__', token: () => raw('{"alg":"__proto__","kid":"ec"}') },
  { name: 'HS256 with the public key in PEM as secret', token: () => hmac(pem) },
  { name: 'HS256 with that PEM without its last line end', token: () => hmac(pem.trimEnd()) },
  { name: 'HS256 with the public key in DER as secret', token: () => hmac(der) },
  { name: 'HS256 with the modulus as secret', token: () => hmac(Buffer.from(String(jwkOf(rsa)['n']), 'base64url')) },
  { name: 'HS512 with the public key as secret', token: () => hmac(pem, 'HS512') },
  { name: 'HS256 with an empty secret', token: () => hmac('') },
  { name: 'HS256 that names the EC key', token: () => hmac(JSON.stringify(jwkOf(ec)), 'HS256', 'ec') },
  { name: 'the key of a stranger', token: () => byEc(claims(), {}, stranger) },
  { name: 'the RSA key of a stranger', token: () => byRsa('RS256', {}, strangeRsa) },
  { name: 'a key of the set under the name of another', token: () => byEc(claims(), { kid: 'rsa' }) },
  { name: 'RS256 that was signed as PS256', token: () => withAlg('RS256', 'PS256') },
  { name: 'PS256 that was signed as RS256', token: () => withAlg('PS256', 'RS256') },
  { name: 'RS384, which the policy does not list', token: () => byRsa('RS384') },
  { name: 'ES384 of an ES256 key', token: () => makeToken({ alg: 'ES384', kid: 'ec' }, claims(), p384) },
  { name: 'an all-zero ES256 signature (CVE-2022-21449)', token: () => sealed(Buffer.alloc(64)) },
  { name: 'an ES256 signature of ones', token: () => sealed(Buffer.concat([one(), one()])) },
  { name: 'an ES256 signature in DER', token: derSigned },
  { name: 'an ES256 signature that is cut', token: () => sealed(Buffer.from(parts()[2], 'base64url').subarray(0, 63)) },
  { name: 'an ES256 signature with a byte more', token: () => `${byEc()}AAAA` },
  { name: 'an empty signature', token: () => `${parts()[0]}.${parts()[1]}.` },
  { name: 'other claims under the signature', token: () => swapped(claims({ roles: ['operator', 'keeper'] })) },
  { name: 'another issuer', token: () => byEc(claims({ iss: 'https://idp.example.org' })) },
  { name: 'the issuer with a slash more', token: () => byEc(claims({ iss: `${ISSUER}/` })) },
  { name: 'the issuer in a list', token: () => byEc(claims({ iss: [ISSUER] })) },
  { name: 'no issuer', token: () => byEc(without('iss')) },
  { name: 'another audience', token: () => byEc(claims({ aud: 'worker' })) },
  { name: 'a list of other audiences', token: () => byEc(claims({ aud: ['worker', 'queens'] })) },
  { name: 'an audience that begins like ours', token: () => byEc(claims({ aud: 'queen.evil.example' })) },
  { name: 'an audience with something else in the list', token: () => byEc(claims({ aud: ['queen', 7] })) },
  { name: 'an audience as a map', token: () => byEc(claims({ aud: { queen: true } })) },
  { name: 'an empty list of audiences', token: () => byEc(claims({ aud: [] })) },
  { name: 'no audience', token: () => byEc(without('aud')) },
  { name: 'no exp', token: () => byEc(without('exp')) },
  ...[`"${String(NOW + 600)}"`, '-1', '1e30', '1e999', 'true', 'null', '[9999999999]', `${String(NOW + 600)}000`].map(
    (exp) => ({ name: `exp ${exp}`, token: () => byEc(JSON.stringify(claims()).replace(/"exp":\d+/, `"exp":${exp}`)) }),
  ),
  { name: 'exp 0', token: () => byEc(claims({ exp: 0 })), reason: 'credential_expired' as const },
  { name: 'expired', token: () => byEc(claims({ exp: NOW - 301 })), reason: 'credential_expired' as const },
  {
    name: 'nbf beyond the tolerance',
    token: () => byEc(claims({ nbf: NOW + 400 })),
    reason: 'credential_not_yet_valid' as const,
  },
  { name: 'nbf as a text', token: () => byEc(claims({ nbf: '0' })) },
  {
    name: 'iat in the future',
    token: () => byEc(claims({ iat: NOW + 400 })),
    reason: 'credential_not_yet_valid' as const,
  },
  { name: 'iat as a text', token: () => byEc(claims({ iat: '0' })) },
  { name: 'no name', token: () => byEc(without('sub')) },
  { name: 'a name with a line end', token: () => byEc(claims({ sub: 'keeper\r\nX-Auth-Roles: keeper' })) },
  { name: 'jti as a number', token: () => byEc(claims({ jti: 7 })) },
  { name: 'an unknown crit', token: () => byEc(claims(), { crit: ['exp'], exp: NOW + 600 }) },
  { name: 'crit b64', token: () => byEc(claims(), { crit: ['b64'], b64: true }) },
  { name: 'an empty crit', token: () => byEc(claims(), { crit: [] }) },
  ...(['jwk', 'jku', 'x5u', 'x5c'] as const).map((name) => ({
    name: `${name} in the header, of the key that signed`,
    token: () =>
      byEc(
        claims(),
        { kid: 'mine', [name]: name === 'jwk' ? own : name === 'x5c' ? [certificate] : canary.url },
        stranger,
      ),
  })),
  { name: 'jwk in the header under a known kid', token: () => byEc(claims(), { jwk: own }, stranger) },
  ...['../../../../dev/null', "' OR 1=1 --", 'nobody', '', canary.url, 'k'.repeat(5000)].map((kid) => ({
    name: `kid ${kid.slice(0, 30)}`,
    token: () => byEc(claims(), { kid }, stranger),
  })),
  { name: 'kid as a number', token: () => byEc(claims(), { kid: 1 }) },
  { name: 'kid of 10 kB', token: () => byEc(claims(), { kid: 'k'.repeat(10_000) }), reason: 'credential_malformed' },
  { name: 'alg twice in the header', token: () => raw('{"alg":"none","alg":"ES256","kid":"ec"}') },
  { name: 'kid twice in the header', token: () => raw('{"alg":"ES256","kid":"nobody","kid":"ec"}') },
  {
    name: 'alg twice, once with an escape',
    token: () => raw(String.raw`{"alg":"ES256","kid":"ec","\u0061lg":"ES256"}`),
  },
  {
    name: 'iss twice in the payload',
    token: () => byEc(`{"iss":"https://idp.example.org",${JSON.stringify(claims()).slice(1)}`),
  },
  { name: 'roles twice in the payload', token: () => byEc(`{"roles":["keeper"],${JSON.stringify(claims()).slice(1)}`) },
  {
    name: 'a member twice deep in the payload',
    token: () => byEc(`{"a":[{"b":{"c":1,"c":2}}],${JSON.stringify(claims()).slice(1)}`),
  },
  { name: 'of 64 kB', token: () => byEc(claims({ pad: 'x'.repeat(49_000) })), reason: 'head_too_large' },
  { name: 'of 9 kB', token: () => byEc(claims({ pad: 'x'.repeat(6600) })), reason: 'credential_malformed' },
  { name: 'two parts', token: () => parts().slice(0, 2).join('.') },
  { name: 'four parts', token: () => `${byEc()}.AAAA` },
  { name: 'a JWE', token: () => `${base64url('{"alg":"dir","enc":"A256GCM"}')}..AAAAAAAAAAAAAAAA.AAAA.AAAA` },
  { name: 'a JWE with a good header', token: () => `${parts()[0]}.AAAA.AAAA.AAAA.AAAA` },
  { name: 'padding', token: () => `${parts()[0]}.${parts()[1]}.${parts()[2]}==` },
  { name: 'base64 in place of base64url', token: () => parts().join('.').replace(/[-_]/, '+') + '+' },
  {
    name: 'another last character of the signature',
    token: () => [...parts().slice(0, 2), otherLastCharacter(parts()[2])].join('.'),
  },
  { name: 'a header that is a list', token: () => raw('[]') },
  { name: 'a payload that is a text', token: () => byEc('"queen"') },
  { name: 'a payload with a byte order mark', token: () => byEc(`\ufeff${JSON.stringify(claims())}`) },
  { name: 'a logout token', token: () => byEc(claims(), { typ: 'logout+jwt' }) },
  { name: 'a DPoP proof', token: () => byEc(claims(), { typ: 'application/dpop+jwt' }) },
];

const sealed = (bytes: Buffer): string => `${parts().slice(0, 2).join('.')}.${base64url(bytes)}`;
const one = (): Buffer => Buffer.concat([Buffer.alloc(31), Buffer.from([1])]);
function swapped(other: Claims): string {
  const [header, , signed] = parts();
  return `${header}.${base64url(JSON.stringify(other))}.${signed}`;
}
function withAlg(said: string, meant: string): string {
  const input = `${base64url(JSON.stringify({ alg: said, kid: 'rsa' }))}.${base64url(JSON.stringify(claims()))}`;
  return `${input}.${base64url(signature(meant, rsa.privateKey, input))}`;
}

describe('forged tokens are refused', () => {
  let upstream: RecordingUpstream;
  let server: KeyServer;
  let guard: Guard;
  const shown: string[] = [];

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: (asked, connection) =>
        (asked.header('upgrade') === null ? respond.echo() : respond.webSocket())(asked, connection),
    });
    server = await KeyServer.start([jwkOf(rsa), jwkOf(ec), jwkOf(ed)]);
    const routes = [
      { name: 'read', path: '/**', methods: ['GET'], require: 'read' },
      { name: 'write', path: '/**', methods: ['POST'], require: 'control' },
    ];
    const sso = {
      type: 'jwt',
      issuer: ISSUER,
      audience: ['queen', 'queen.lan'],
      jwks: { url: server.url },
      algorithms: ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'],
      roles_from: 'roles',
      permissions_from: 'scope',
    };
    guard = await startGuard({
      upstream: upstream.url,
      routes,
      authenticators: { sso, hive: { ...sso, audience: 'hive' } },
      listener: { authenticate: ['keys', 'sso'] },
      listeners: { hive: { authenticate: ['hive'] } },
      top: { log: { level: 'trace' }, roles: { operator: ['read'], viewer: ['read'], keeper: ['control'] } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
    await server.close();
    await canary.close();
  });

  const remembered = (token: string): string => {
    shown.push(token);
    return token;
  };
  const reasonOf = async (requestId: string): Promise<unknown> => (await guard.record(requestId))['guardbee.reason'];

  describe('over HTTP/1.1', { concurrency: 8 }, () => {
    for (const { name, token, reason = 'credential_invalid' } of ATTACKS) {
      test(name, async () => {
        const answer = await request(guard.plain, { path: '/x', token: remembered(token()) });
        const status = reason === 'head_too_large' ? 431 : reason === 'credential_malformed' ? 400 : 401;
        assert.equal(answer.status, status, answer.text());
        if (status !== 431) assert.equal(await reasonOf(answer.header('x-request-id') ?? ''), reason);
        assertUntouched(upstream);
      });
    }
  });

  const few = ['alg none', 'HS256 with the public key in PEM as secret', 'the key of a stranger', 'no exp'];
  for (const { name, token } of ATTACKS.filter((one) => few.includes(one.name))) {
    test(`over HTTP/2: ${name}`, async () => {
      const session = await h2Connect(guard.secure);
      const authorization = `Bearer ${remembered(token())}`;
      assert.equal((await h2Request(session, { ':path': '/x', authorization })).status, 401);
      session.destroy();
      assertUntouched(upstream);
    });
    test(`as a WebSocket's subprotocol: ${name}`, async () => {
      const { response, connection } = await openWebSocket(guard.secure, {
        protocols: ['bearer', remembered(token())],
      });
      assert.equal(response.status, 401);
      connection.close();
      assertUntouched(upstream);
    });
  }

  test('of another listener: a token is good where its audience is', async () => {
    const token = remembered(byEc());
    assert.equal((await request(guard.target('hive'), { token })).status, 401);
    assertUntouched(upstream);
  });

  test('a role or permission that the policy does not have gives nothing, nor does a role as a permission', async () => {
    for (const more of [{ roles: ['admin'] }, { roles: ['read'] }, { roles: [], scope: 'operator keeper admin' }]) {
      const answer = await request(guard.plain, { token: remembered(byEc(claims(more))) });
      assert.equal(answer.status, 403);
    }
    assertUntouched(upstream);
  });

  test('unknown keys made one fetch at most beside the first, however many tokens named them', () => {
    assert.ok(server.asked.length <= 2, `${String(server.asked.length)} fetches`);
    assert.deepEqual(canary.asked, [], 'a key was fetched that a token named');
  });

  describe('and good ones are not', () => {
    const good: readonly (readonly [name: string, token: () => string])[] = [
      ['RS256', () => byRsa('RS256')],
      ['PS256', () => byRsa('PS256')],
      ['ES256', () => byEc()],
      ['EdDSA', () => makeToken({ alg: 'EdDSA', kid: 'ed' }, claims(), ed.privateKey)],
      ['without kid', () => makeToken({ alg: 'ES256' }, claims(), ec.privateKey)],
      ['typ at+jwt', () => byEc(claims(), { typ: 'at+jwt' })],
      ['a list of audiences with ours in it', () => byEc(claims({ aud: ['worker', 'queen.lan'] }))],
      ['in the tolerance', () => byEc(claims({ exp: NOW - 200, nbf: NOW + 200, iat: NOW + 200 }))],
      ['a permission in scope', () => byEc(claims({ roles: [], scope: 'openid read' }))],
      ['jku that nobody looks at', () => byEc(claims(), { jku: canary.url, x5u: canary.url })],
    ];
    for (const [name, token] of good) {
      test(name, async () => {
        const made = remembered(token());
        for (const _ of ['first', 'second sight']) {
          assert.equal((await request(guard.plain, { path: '/good', token: made })).status, 200);
        }
        const arrived = await upstream.waitForRequest((one) => one.target === '/good');
        assert.equal(arrived.header('x-auth-user'), PLANTED);
        assert.equal(arrived.header('authorization'), null);
      });
    }

    test('over HTTP/2 and a WebSocket, and a token of the policy beside them', async () => {
      const token = remembered(byEc());
      const session = await h2Connect(guard.secure);
      assert.equal((await h2Request(session, { authorization: `Bearer ${token}` })).status, 200);
      session.destroy();
      const { response, connection } = await openWebSocket(guard.secure, { protocols: ['bearer', token] });
      assert.equal(response.status, 101);
      connection.close();
      assert.equal((await request(guard.plain, { token: guard.token })).status, 200);
      assert.equal(canary.asked.length, 0);
    });
  });

  test('no token, claim or key is in any line of the log', () => {
    const lines = guard.process.logLines.map((line) => JSON.stringify(line)).join('\n');
    assert.match(lines, /authentication failed: /);
    for (const token of shown) {
      for (const part of token.split('.')) if (part.length > 20) assert.ok(!lines.includes(part.slice(0, 20)), part);
      assert.ok(!lines.includes(createHash('sha256').update(token).digest('hex')), 'a whole digest');
    }
    assert.ok(!lines.includes(String(jwkOf(ec)['x'])));
    assert.ok(!lines.includes(String(jwkOf(rsa)['n']).slice(0, 40)));
    // The name of who was let in is in the access log, and is a claim; no other is.
    for (const claim of ['operator", "keeper', 'planted-nowhere', 'worker', 'evil.example', 'OR 1=1', 'dev/null']) {
      assert.ok(!lines.includes(claim), claim);
    }
  });
});
