import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { tokenPair, writePolicy, writeTokens } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const POLICY = `version: 1
listeners:
  queen:
    bind: 127.0.0.1:7833
    hosts: [queen.lan]
    allow_from: [192.168.1.0/24, 127.0.0.1]
    upstream: http://127.0.0.1:17833
    authenticate: [keys]
    routes:
      - { name: health, path: /health, methods: [GET], public: true }
      - { name: dev, path: /dev/**, deny: true }
      - { name: shutdown, path: /v1/shutdown, methods: [POST], require: control }
      - name: metrics
        path: /metrics
        methods: [GET]
        from: [192.168.1.9]
        authenticate: [scraper]
        require: scrape
      - { name: socket, path: /ws, methods: [GET], require: [read, control] }
  other:
    bind: 127.0.0.1:7834
    upstream: http://127.0.0.1:17833
    routes:
      - { name: health, path: /health, methods: [GET], public: true }
  plain: { type: redirect, bind: 127.0.0.1:7880, hosts: [queen.lan] }
authenticators:
  keys: { type: bearer, tokens_file: tokens.yaml }
  scraper: { type: bearer, tokens: [{ name: prometheus, roles: [prometheus], sha256: "${tokenPair().sha256}" }] }
roles: { viewer: [read], keyholder: [read, control], prometheus: [scrape] }
`;

function setUp(folder: TemporaryDirectory): string {
  writeTokens(folder, [
    { name: 'keeper', sha256: tokenPair().sha256, roles: ['keyholder'], not_after: '2020-01-01' },
    { name: 'keeper', sha256: tokenPair().sha256, roles: ['keyholder'] },
    { name: 'guest', sha256: tokenPair().sha256, roles: ['viewer'] },
    { name: 'gone', sha256: tokenPair().sha256, roles: ['viewer'], not_after: '2020-01-01' },
    { name: 'early', sha256: tokenPair().sha256, roles: ['viewer'], not_before: '2090-01-01' },
  ]);
  return writePolicy(folder, POLICY);
}

interface Case {
  readonly ask: string;
  /** First line of the answer. */
  readonly says: string;
  readonly route: string;
  /** Of the policy; null: none decides. */
  readonly line: number | null;
  readonly why: string;
  readonly needed?: string;
}

const CASES: readonly Case[] = [
  {
    ask: 'GET /health',
    says: 'allowed: goes on to 127.0.0.1:17833',
    route: 'health',
    line: 10,
    why: 'the route is public: nobody is asked who they are',
    needed: 'no credential, a connection from 192.168.1.0/24, 127.0.0.1',
  },
  {
    ask: 'POST /v1/shutdown',
    says: 'refused: 401 credential_missing',
    route: 'shutdown',
    line: 12,
    why: 'the route asks for a credential, and none is shown',
    needed: 'a credential of keys with control (held by role keyholder), a connection from 192.168.1.0/24, 127.0.0.1',
  },
  {
    ask: 'POST /v1/shutdown --role viewer --from 192.168.1.5',
    says: 'refused: 403 permission_missing',
    route: 'shutdown',
    line: 12,
    why: 'the supposed caller has viewer, read, and the route asks for control',
  },
  {
    ask: 'post /v1/shutdown --as keeper',
    says: 'allowed: goes on to 127.0.0.1:17833',
    route: 'shutdown',
    line: 12,
    why: 'token "keeper" has control, which is enough',
  },
  {
    ask: 'POST /v1/shutdown --as guest',
    says: 'refused: 403 permission_missing',
    route: 'shutdown',
    line: 12,
    why: 'token "guest" has viewer, read, and the route asks for control',
  },
  {
    ask: 'POST /v1/shutdown --permission control',
    says: 'allowed: goes on to 127.0.0.1:17833',
    route: 'shutdown',
    line: 12,
    why: 'the supposed caller has control, which is enough',
  },
  {
    ask: 'GET /ws --as gone',
    says: 'refused: 401 credential_expired',
    route: 'socket',
    line: 19,
    why: 'token "gone" was valid until 2020-01-01T00:00:00.000Z',
  },
  {
    ask: 'GET /ws --as early',
    says: 'refused: 401 credential_not_yet_valid',
    route: 'socket',
    line: 19,
    why: 'token "early" is not valid before 2090-01-01T00:00:00.000Z',
  },
  {
    ask: 'GET /ws --as prometheus',
    says: 'refused: 401 credential_invalid',
    route: 'socket',
    line: 19,
    why: 'token "prometheus" is of another authenticator than the route asks for (keys)',
  },
  {
    ask: 'GET /ws --role viewer --upgrade',
    says: 'allowed: goes on to 127.0.0.1:17833',
    route: 'socket',
    line: 19,
    why: 'the supposed caller has read, which is enough',
  },
  {
    ask: 'GET /metrics --as prometheus',
    says: 'refused: 403 client_denied',
    route: 'metrics',
    line: 13,
    why: '127.0.0.1 is not in `from` of the route',
    needed:
      'a credential of scraper with scrape (held by role prometheus), a connection from 192.168.1.0/24, 127.0.0.1, a client at 192.168.1.9',
  },
  {
    ask: 'GET /metrics --as prometheus --from 192.168.1.9',
    says: 'allowed: goes on to 127.0.0.1:17833',
    route: 'metrics',
    line: 13,
    why: 'token "prometheus" has scrape, which is enough',
  },
  {
    ask: 'GET /DEV/x --role keyholder',
    says: 'refused: 403 route_denied',
    route: 'dev',
    line: 11,
    why: 'the route is closed to everybody',
  },
  {
    ask: 'GET /v1/shutdown --role keyholder',
    says: 'refused: 403 route_unknown',
    route: 'none',
    line: 9,
    why: 'no route matches this method and path, and what no route allows is refused; with POST one does',
  },
  {
    ask: 'GET /nothing',
    says: 'refused: 403 route_unknown',
    route: 'none',
    line: 9,
    why: 'no route matches this method and path, and what no route allows is refused',
  },
  {
    ask: 'GET /health --from 10.0.0.1',
    says: 'refused: 403 address_denied',
    route: 'none',
    line: 6,
    why: '10.0.0.1 is not in allow_from, and is turned away before anything is read',
  },
  {
    ask: 'GET /health --host elsewhere.lan',
    says: 'refused: 421 wrong_host',
    route: 'none',
    line: 5,
    why: 'the Host is none of `hosts`',
  },
  {
    ask: 'GET /x/../health',
    says: 'refused: 400 ambiguous_path',
    route: 'none',
    line: null,
    why: 'The path can be read in more than one way',
  },
  {
    ask: 'GET /health%2Fx',
    says: 'refused: 400 ambiguous_path',
    route: 'none',
    line: null,
    why: 'The path can be read in more than one way (only a route with encoded_slash: allow takes an encoded slash)',
  },
  {
    ask: 'TRACE /health',
    says: 'refused: 501 method_unsupported',
    route: 'none',
    line: null,
    why: 'This method is not supported; such a request is refused before any rule looks',
  },
];

for (const { ask, says, route, line, why, needed } of CASES) {
  test(`${ask}: ${says}`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const file = setUp(folder);
    const argv = ['explain', ...ask.split(' '), '--listener', 'queen', '--policy', file];
    const { code, stdout, stderr } = await perform(...argv);
    assert.equal(code, 0, stderr);
    const lines = stdout.split('\n');
    assert.equal(lines[0], says);
    assert.equal(lines[1], '  listener: queen');
    assert.equal(lines[2], `  route:    ${route}`);
    const text = line === null ? null : (POLICY.split('\n')[line - 1] ?? '').trim();
    const decided = text === null ? 'by no line of the policy' : `${file}:${String(line)}: ${text}`;
    assert.equal(lines[3], `  decided:  ${decided}`);
    assert.equal(lines[4], `  why:      ${why}`);
    if (needed !== undefined) assert.equal(lines[5], `  needed:   ${needed}`);

    const json = JSON.parse((await perform(...argv, '--json')).stdout) as Record<string, unknown>;
    const [, decision, status, reason] = /^(allowed|refused): (?:(\d+) (\w+))?/.exec(says) ?? [];
    assert.equal(json['decision'], decision);
    assert.equal(json['status'], status === undefined ? null : Number(status));
    assert.equal(json['reason'], reason ?? null);
    assert.equal(json['route'], route === 'none' ? null : route);
    assert.equal(json['line'], line);
    assert.equal(json['text'], text);
    assert.equal(json['why'], why);
  });
}

const WRONG: readonly { readonly ask: string; readonly says: string }[] = [
  { ask: 'GET /', says: 'which listener? Say --listener queen or other' },
  { ask: 'GET / --listener quene', says: 'there is no listener "quene", did you mean queen?; there are queen, other' },
  { ask: 'GET / --listener plain', says: 'listener "plain" only redirects' },
  { ask: 'GET health --listener queen', says: 'the path begins with "/"; the host goes into --host' },
  { ask: 'GET / --listener queen --from 10.0.0.0/8', says: '--from is one IP address' },
  { ask: 'GET / --listener queen --role veiwer', says: 'there is no role "veiwer", did you mean viewer?' },
  {
    ask: 'GET / --listener queen --as keper',
    says: 'there is no token, user or certificate "keper", did you mean keeper?',
  },
  {
    ask: 'GET / --listener queen --as keeper --role viewer',
    says: '--as is somebody of the policy, who has roles already: leave out --role and --permission, or --as',
  },
];

for (const { ask, says } of WRONG) {
  test(`${ask} makes no sense`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const { code, stdout, stderr } = await perform('explain', ...ask.split(' '), '--policy', setUp(folder));
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.equal(stderr, `guardbee: ${says}\n`);
  });
}

test('a token in a file that cannot be read is not guessed at', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, POLICY);
  const ask = ['explain', 'GET', '/metrics', '--listener', 'queen', '--policy', file, '--from', '192.168.1.9', '--as'];
  const { code, stdout, stderr } = await perform(...ask, 'keeper');
  assert.equal(code, 4);
  assert.equal(stdout, '');
  assert.match(stderr, /authenticators\.keys\.tokens_file: .*there is no such file/);
  assert.match(stderr, /"keeper" may be in a file that could not be read: say --role ROLE instead\n$/);
  // One that stands in the policy itself is there.
  const inline = await perform(...ask, 'prometheus');
  assert.equal(inline.code, 0, inline.stderr);
  assert.match(inline.stdout, /^allowed/);
});

test('nobody needs the secrets to ask about a role', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, POLICY);
  const { code, stdout } = await perform(
    'explain',
    'GET',
    '/ws',
    file,
    '--listener',
    'queen',
    '--role',
    'viewer,prometheus',
  );
  assert.equal(code, 0);
  assert.match(stdout, /^allowed/);
});

test('a policy from stdin is quoted by line as well', async (t) => {
  const folder = new TemporaryDirectory(t);
  const input = readFileSync(writePolicy(folder, POLICY.replace(/ {2}other:[^]*? {2}plain:.*\n/, '')));
  const { code, stdout, stderr } = await runGuardbee(['explain', 'GET', '/dev', '-'], { input });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /\n {2}decided: {2}stdin:11: - \{ name: dev, path: \/dev\/\*\*, deny: true \}\n/);
});

test('a broken policy explains nothing', async (t) => {
  const folder = new TemporaryDirectory(t);
  const { code, stdout, stderr } = await perform('explain', 'GET', '/', writePolicy(folder, 'version: 2\n'));
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /nothing of this policy is used/);
});
