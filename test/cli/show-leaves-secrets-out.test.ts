import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parse } from 'yaml';
import { type Plain, toYaml } from '../../src/cli/yaml-text.js';
import { testCertificates, writeKeyPair } from '../support/certificates.js';
import { tokenPair, writeFileIn, writePolicy, writeTokens } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const inline = tokenPair();
const inFile = tokenPair();
const UPSTREAM_TOKEN = 'upstream-secret-value-1234567890';

const POLICY = `version: 1
listeners:
  main:
    bind: "[::1]:8443"
    hosts: [queen.lan]
    tls: { cert: server.crt, key: server.key }
    upstream: http://127.0.0.1:17833
    upstream_auth: { type: bearer, token: { file: upstream.token } }
    strip_request_headers: [X-Admin-Token]
    authenticate: [keys]
    routes:
      - { name: health, path: /health, public: true, upstream: "unix:/run/health.sock" }
      - { name: dev, path: /dev/**, deny: true }
      - name: job
        path: "/v1/jobs/{job_id}"
        methods: [POST, GET]
        require: [read, run]
        from: [10.0.0.0/8]
        timeouts: { upstream: none }
        upstream_auth: { type: header, name: X-Api-Key, value: { env: UPSTREAM_KEY } }
  plain: { type: redirect, bind: 127.0.0.1:8080, hosts: [queen.lan] }
authenticators:
  keys:
    type: bearer
    tokens_file: tokens.yaml
    tokens: [{ name: "y", roles: [viewer], permissions: [run], sha256: "${inline.sha256}", not_after: 2090-01-01 }]
roles: { viewer: [read] }
upstream_exposure: { firewalled: "nft: only lo" }
state: { dir: state, redis: { url: { file: redis.url } } }
log: { level: debug, file: guardbee.log }
drain: 90s
`;

async function setUp(folder: TemporaryDirectory): Promise<string> {
  const { server } = await testCertificates();
  writeKeyPair(folder, server);
  writeFileIn(folder, 'upstream.token', UPSTREAM_TOKEN);
  writeFileIn(folder, 'redis.url', 'rediss://:redis-secret-value-1234567890@redis.lan');
  writeTokens(folder, [{ name: 'keeper', sha256: inFile.sha256, roles: ['viewer'] }]);
  process.env['UPSTREAM_KEY'] = 'another-secret-value-1234567890';
  return writePolicy(folder, POLICY);
}

test('defaults are filled in, and secrets are named by where they are', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = await setUp(folder);
  const { code, stdout, stderr } = await perform('show', file);
  assert.equal(code, 0, stderr);
  const [first, ...rest] = stdout.split('\n');
  assert.match(first ?? '', /^# .*policy\.yaml \([0-9a-f]{12}\) as it is in force/);
  assert.equal(
    rest.join('\n'),
    `version: 1
listeners:
  main:
    type: http
    bind: "[::1]:8443"
    hosts: [queen.lan]
    tls:
      cert: ${folder.file('server.crt')}
      key: ${folder.file('server.key')}
    allow_from: [0.0.0.0/0, "::/0"]
    trusted_proxies: []
    strip_request_headers: [x-admin-token]
    routes:
      - name: health
        path: /health
        methods: [GET, HEAD]
        public: true
        upstream: unix:/run/health.sock
        upstream_auth:
          type: bearer
          token:
            file: ${folder.file('upstream.token')}
        timeouts:
          body: 30s
          upstream: 60s
      - name: dev
        path: /dev/**
        methods: any
        deny: true
      - name: job
        path: "/v1/jobs/{job_id}"
        methods: [POST, GET]
        require: [read, run]
        from: [10.0.0.0/8]
        authenticate: [keys]
        upstream: http://127.0.0.1:17833
        upstream_auth:
          type: header
          name: x-api-key
          value:
            env: UPSTREAM_KEY
        timeouts:
          body: 30s
          upstream: none
    limits:
      head: 16KiB
      fields: 100
      connections: 2000
    timeouts:
      handshake: 10s
      head: 10s
      body: 30s
      upstream: 60s
      keep_alive: 60s
    streams:
      end_at_expiry: true
    throttle:
      after: 5
      delay: 250ms
      most: 4s
    deadlines:
      answer: problem
  plain:
    type: redirect
    bind: 127.0.0.1:8080
    hosts: [queen.lan]
    https_port: 443
    allow_from: [0.0.0.0/0, "::/0"]
    limits:
      head: 16KiB
      fields: 100
      connections: 2000
    timeouts:
      handshake: 10s
      head: 10s
      body: 30s
      upstream: 60s
      keep_alive: 60s
authenticators:
  keys:
    type: bearer
    tokens_file: ${folder.file('tokens.yaml')}
    tokens:
      - name: "y"
        fingerprint: ${yamlText(inline.sha256.slice(0, 6))}
        roles: [viewer]
        permissions: [read, run]
        not_after: "2090-01-01T00:00:00.000Z"
      - name: keeper
        fingerprint: ${yamlText(inFile.sha256.slice(0, 6))}
        roles: [viewer]
        permissions: [read]
    carriers: [authorization, x_api_key, x_guardbee_token, subprotocol]
    realm: guardbee
roles:
  viewer: [read]
upstream_exposure:
  firewalled: "nft: only lo"
state:
  dir: ${folder.file('state')}
  redis:
    url:
      file: ${folder.file('redis.url')}
    prefix: "guardbee:"
log:
  level: debug
  file: ${folder.file('guardbee.log')}
  format: auto
drain: 90s
processes: 1
watch: false
`,
  );
});

function yamlText(text: string): string {
  return /^[a-z]/.test(text) ? text : JSON.stringify(text);
}

test('neither secrets nor whole hashes are in it', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = await setUp(folder);
  for (const argv of [
    ['show', file],
    ['show', file, '--json'],
  ]) {
    const { stdout, stderr } = await perform(...argv);
    for (const secret of [inline.sha256, inFile.sha256, UPSTREAM_TOKEN, 'another-secret', 'PRIVATE KEY']) {
      assert.ok(!`${stdout}${stderr}`.includes(secret), secret);
    }
  }
});

test('the authority of certificates, the audit trail and its collector are shown too', async (t) => {
  const folder = new TemporaryDirectory(t);
  const token = writeFileIn(folder, 'collector.token', 'collector-secret-value-1234567890');
  const key = writeFileIn(folder, 'account.key', Buffer.from('account-secret-value-1234567890').toString('base64url'));
  const file = writePolicy(
    folder,
    `version: 1
acme:
  directory: https://acme.example.com/directory
  terms_agreed: true
  external_account: { key_id: id-1, key: { file: account.key } }
listeners:
  main:
    bind: 127.0.0.1:8443
    hosts: [queen.example.com]
    tls: { acme: true }
    upstream: http://127.0.0.1:17833
    routes: [{ name: all, path: /models, public: true, audit: model_access }]
audit: { keep: forever, rotate: { size: 1MiB }, deliver: { url: "https://collector.example.com/audit", token: { file: collector.token } } }
state: { dir: state }
`,
  );
  const { code, stdout, stderr } = await perform('show', file);
  assert.equal(code, 0, stderr);
  const shown = parse(stdout) as Record<string, unknown>;
  assert.deepEqual(shown['acme'], {
    directory: 'https://acme.example.com/directory',
    terms_agreed: true,
    challenges: ['tls-alpn-01'],
    external_account: { key_id: 'id-1', key: { file: key } },
  });
  assert.deepEqual(shown['audit'], {
    dir: folder.file('state/audit/log'),
    on_failure: 'deny',
    checkpoint: { records: 1000, interval: '60s' },
    rotate: { size: '1MiB' },
    keep: 'forever',
    min_free: '64MiB',
    deliver: {
      url: 'https://collector.example.com/audit',
      token: { file: token },
      batch: { records: 500, bytes: '1MiB', interval: '1s' },
    },
  });
  assert.match(stdout, /audit: model_access/);
  assert.ok(!stdout.includes('secret-value'));
  assert.ok(!stdout.includes(Buffer.from('account-secret').toString('base64url').slice(0, 12)));
});

test('--json holds what the YAML holds, and both are the same every time', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = await setUp(folder);
  const yaml = await perform('show', file);
  const json = await perform('show', file, '--json');
  assert.deepEqual(JSON.parse(json.stdout), parse(yaml.stdout));
  assert.equal((await perform('show', file)).stdout, yaml.stdout);
});

test('the rules are shown where the secrets cannot be read', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = writePolicy(folder, POLICY);
  const { code, stdout, stderr } = await perform('show', file);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /tokens of such files are not shown/);
  assert.match(stdout, /name: "y"/);
  assert.doesNotMatch(stdout, /keeper/);
  const broken = await perform('show', writePolicy(folder, POLICY.replace('drain: 90s', 'drain: soon')));
  assert.equal(broken.code, 1);
  assert.equal(broken.stdout, '');
});

test('whatever is printed as YAML reads back as it was', () => {
  const scalar = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string(),
    fc.constantFrom(
      'yes',
      'No',
      'null',
      '~',
      '1',
      '0x1f',
      '1e5',
      '2027-01-01',
      '- a',
      'a: b',
      'a #b',
      '',
      ' ',
      '.inf',
      '60s',
      '::1',
      'unix:/x',
      '/**',
      '*',
    ),
    fc.integer(),
    fc.boolean(),
  );
  const { value } = fc.letrec<{ value: Plain; map: Record<string, Plain> }>((tie) => ({
    value: fc.oneof({ depthSize: 'small' }, scalar, fc.array(tie('value'), { maxLength: 4 }), tie('map')),
    map: fc.dictionary(fc.string(), tie('value'), { maxKeys: 4 }),
  }));
  fc.assert(
    fc.property(fc.dictionary(fc.string(), value, { minKeys: 1, maxKeys: 4 }), (map) => {
      assert.deepEqual({ ...(parse(toYaml(map)) as object) }, JSON.parse(JSON.stringify(map)));
    }),
    { numRuns: 500 },
  );
});
