import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { constants, type OutgoingHttpHeaders } from 'node:http2';
import { startGuard, type Guard } from '../support/guard.js';
import { h2Connect } from '../support/h2-client.js';
import { tokenPair, writeFileIn, writeTokens } from '../support/policy-builder.js';
import { openWebSocket, RawConnection, request, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { encodeFrame } from '../support/websocket-frames.js';
import { within } from '../support/wait.js';
import { Canary, Ear, makeCanaries, PASSWORD } from './secrets.js';

/** A request of HTTP/1.1 with a secret in one part of it. */
type Place = readonly [name: string, bytes: (secret: string, token: string) => string];

const HEAD = 'GET /read HTTP/1.1\r\nHost: bee.test\r\n';
const pass = (token: string): string => `Authorization: Bearer ${token}\r\n`;

const FIELDS = [
  'Accept',
  'Authorization',
  'Content-Type',
  'Cookie',
  'Cookie2',
  'ETag',
  'Expect',
  'Forwarded',
  'From',
  'If-None-Match',
  'Origin',
  'Proxy-Authorization',
  'Range',
  'Referer',
  'Sec-Fetch-Site',
  'Sec-WebSocket-Key',
  'Sec-WebSocket-Protocol',
  'Set-Cookie',
  'Traceparent',
  'Upgrade',
  'User-Agent',
  'Via',
  'X-API-Key',
  'X-Auth-User',
  'X-Amz-Security-Token',
  'X-Custom',
  'X-Forwarded-For',
  'X-Forwarded-Host',
  'X-Forwarded-Proto',
  'X-Guardbee-Anything',
  'X-Guardbee-Token',
  'X-Original-URL',
  'X-Request-Id',
] as const;

const encoded = (secret: string): string => encodeURIComponent(secret);

const PLACES: readonly Place[] = [
  ...FIELDS.flatMap((field): Place[] => [
    [`the field ${field}`, (secret) => `${HEAD}${field}: ${secret}\r\n\r\n`],
    [
      `the field ${field} of somebody who may`,
      (secret, token) => `${HEAD}${field === 'Authorization' ? '' : pass(token)}${field}: ${secret}\r\n\r\n`,
    ],
  ]),
  ['a bearer token', (secret) => `${HEAD}Authorization: Bearer ${secret}\r\n\r\n`],
  ['two bearer tokens', (secret) => `${HEAD}${`Authorization: Bearer ${secret}\r\n`.repeat(2)}\r\n`],
  ['a bearer token and a word', (secret) => `${HEAD}Authorization: Bearer ${secret} x\r\n\r\n`],
  [
    'a password of Basic',
    (secret) => `${HEAD}Authorization: Basic ${Buffer.from(`keeper:${secret}`).toString('base64')}\r\n\r\n`,
  ],
  ['a cookie', (secret, token) => `${HEAD}${pass(token)}Cookie: theme=dark; session=${secret}\r\n\r\n`],
  ['the user agent, among words', (secret) => `${HEAD}User-Agent: curl/8.0 (token ${secret})\r\n\r\n`],
  ['the name of a field', (secret) => `${HEAD}${secret}: x\r\n\r\n`],
  ['a field without a colon', (secret) => `${HEAD}${secret}\r\n\r\n`],
  ['a field with a blank before the colon', (secret) => `${HEAD}X-Key : ${secret}\r\n\r\n`],
  ['a field with a NUL', (secret) => `${HEAD}X-Key: ${secret}\0\r\n\r\n`],
  ['a folded field', (secret) => `${HEAD}X-Key: x\r\n ${secret}\r\n\r\n`],
  ['a field that is cut', (secret) => `${HEAD}Authorization: Bearer ${secret}`],
  ['the host', (secret) => `GET /read HTTP/1.1\r\nHost: ${secret}\r\n\r\n`],
  ['the host, as a label', (secret) => `GET /read HTTP/1.1\r\nHost: ${secret}.bee.test:8443\r\n\r\n`],
  ['the host, as a user', (secret) => `GET /read HTTP/1.1\r\nHost: keeper:${secret}@bee.test\r\n\r\n`],
  ['two hosts', (secret) => `GET /read HTTP/1.1\r\nHost: bee.test\r\nHost: ${secret}\r\n\r\n`],
  [
    'the value of a query',
    (secret, token) => `GET /read?token=${secret}&x=1 HTTP/1.1\r\nHost: h\r\n${pass(token)}\r\n`,
  ],
  ['the encoded value of a query', (secret) => `GET /read?a=b&q=${encoded(secret)} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['the name of a query', (secret) => `GET /read?${secret}=1 HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['the encoded name of a query', (secret) => `GET /read?${encoded(secret)} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a query, after a semicolon', (secret) => `GET /read?a=b;token=${secret} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a URL in a query', (secret) => `GET /read?next=https://keeper:${secret}@h/ HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path', (secret, token) => `GET /read/${encoded(secret)} HTTP/1.1\r\nHost: h\r\n${pass(token)}\r\n`],
  ['a path that nobody named', (secret) => `GET /${encoded(secret)}/x HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path as it is', (secret) => `GET /read/${secret} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path, as a key', (secret) => `GET /read/token=${encoded(secret)} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path, as a file', (secret) => `GET /read/${encoded(secret)}.json HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a crooked path', (secret) => `GET /read/../${encoded(secret)} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path encoded twice', (secret) => `GET /read/${encoded(encoded(secret))} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a path parameter', (secret) => `GET /read;jsessionid=${secret} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a fragment', (secret) => `GET /read#access_token=${secret} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['a user in the target', (secret) => `GET http://keeper:${secret}@bee.test/read HTTP/1.1\r\nHost: bee.test\r\n\r\n`],
  [
    'a user in the target of somebody who may',
    (secret, token) => `GET http://${secret}@h/read HTTP/1.1\r\nHost: h\r\n${pass(token)}\r\n`,
  ],
  ['the target, whole', (secret) => `GET ${secret} HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['the target of CONNECT', (secret) => `CONNECT ${secret}:443 HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['the method', (secret) => `${secret} /read HTTP/1.1\r\nHost: h\r\n\r\n`],
  ['the version', (secret) => `GET /read ${secret}\r\nHost: h\r\n\r\n`],
  ['the first line, alone', (secret) => `${secret}\r\n\r\n`],
  ['a length', (secret, token) => `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Content-Length: ${secret}\r\n\r\n`],
  [
    'an encoding',
    (secret, token) => `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Transfer-Encoding: ${secret}\r\n\r\n`,
  ],
  ['Connection', (secret, token) => `${HEAD}${pass(token)}Connection: ${secret}\r\n\r\n`],
  [
    'a body',
    (secret, token) =>
      `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Content-Length: ${String(secret.length)}\r\n\r\n${secret}`,
  ],
  [
    'a body that nobody asked for',
    (secret) => `POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: ${String(secret.length)}\r\n\r\n${secret}`,
  ],
  [
    'a chunk extension and a trailer',
    (secret, token) =>
      `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Transfer-Encoding: chunked\r\n\r\n1;a=${secret}\r\nx\r\n0\r\nX-Key: ${secret}\r\n\r\n`,
  ],
  [
    'a chunk size',
    (secret, token) =>
      `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Transfer-Encoding: chunked\r\n\r\n${secret}\r\nx\r\n0\r\n\r\n`,
  ],
  [
    'a trailer that is malformed',
    (secret, token) =>
      `POST /read HTTP/1.1\r\nHost: h\r\n${pass(token)}Transfer-Encoding: chunked\r\n\r\n0\r\n${secret}\r\n\r\n`,
  ],
  ['a head that is too large', (secret) => `${HEAD}X-Key: ${`${secret} `.repeat(400)}\r\n\r\n`],
  ['what follows a request', (secret, token) => `${HEAD}${pass(token)}\r\n${secret}\r\n\r\n`],
  [
    'an answer that is malformed',
    (secret, token) => `GET /answers/malformed HTTP/1.1\r\nHost: h\r\n${pass(token)}X-Say: ${secret}\r\n\r\n`,
  ],
  [
    'an answer that breaks off',
    (secret, token) => `GET /answers/broken HTTP/1.1\r\nHost: h\r\n${pass(token)}X-Say: ${secret}\r\n\r\n`,
  ],
  [
    'an answer with a redirect',
    (secret, token) => `GET /answers/redirect HTTP/1.1\r\nHost: h\r\n${pass(token)}X-Say: ${secret}\r\n\r\n`,
  ],
];

/** Where a password stands as one. In the middle of a path or a user agent nobody can tell it from other words. */
const OF_A_PASSWORD = new Set([
  ...FIELDS.filter((field) => field !== 'User-Agent').flatMap((field) => [
    `the field ${field}`,
    `the field ${field} of somebody who may`,
  ]),
  'a bearer token',
  'a password of Basic',
  'a cookie',
  'a field without a colon',
  'a field with a NUL',
  'the host, as a user',
  'two hosts',
  'the value of a query',
  'the encoded value of a query',
  'a query, after a semicolon',
  'a URL in a query',
  'a path parameter',
  'a fragment',
  'a user in the target',
  'a length',
  'a body',
  'a chunk extension and a trailer',
  'an answer that is malformed',
]);

const HTTP2_FIELDS = FIELDS.filter((field) => !['Upgrade', 'Expect'].includes(field)).map((field) =>
  field.toLowerCase(),
);

describe('no secret is ever written', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;
  let canaries: readonly Canary[] = [];
  /** Answers that guardbee itself gave. */
  const said: string[] = [];
  const upstreamSecret = new Canary('the secret of the upstream', tokenPair().token);
  const environmentSecret = new Canary('a secret in the environment', tokenPair().token);
  const fileToken = tokenPair();

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: async (asked, connection) => {
        const say = asked.header('x-say') ?? '';
        const table = {
          '/answers/malformed': respond.bytes(`HTTP/1.1 ${say}\r\nX-Key: ${say}\0${say}\r\n${say}\r\n\r\n`, 'end'),
          '/answers/broken': respond.bytes(
            `HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nX-Key: ${say}\r\n\r\n${say}`,
            'reset',
          ),
          '/answers/redirect': respond.status(302, [
            ['Location', `http://keeper:${say}@127.0.0.1/?token=${say}`],
            ['Set-Cookie', `session=${say}`],
          ]),
          '/socket': respond.webSocket({ echo: 'none' }),
        };
        await respond.byPath(table, respond.status(200))(asked, connection);
      },
    });
    guard = await startGuard({
      upstream: upstream.url,
      listener: {
        timeouts: { head: '1s' },
        upstream_auth: { type: 'bearer', token: { file: 'upstream.secret' } },
        authenticate: ['keys', 'filed'],
      },
      listeners: {
        'main-env': { upstream_auth: { type: 'header', name: 'X-Admin-Key', value: { env: 'UPSTREAM_KEY' } } },
      },
      env: { UPSTREAM_KEY: environmentSecret.value },
      routes: [{ name: 'all', path: '/**', require: 'read' }],
      top: { log: { level: 'trace' }, admin: { bind: '127.0.0.1:0' } },
      authenticators: {
        keys: { carriers: ['authorization', 'x_api_key', 'subprotocol'] },
        filed: { type: 'bearer', tokens_file: 'tokens.yaml', carriers: ['x_guardbee_token'] },
      },
      prepare: (directory) => {
        writeFileIn(directory, 'upstream.secret', `${upstreamSecret.value}\n`);
        writeTokens(directory, [{ name: 'filed', sha256: fileToken.sha256, roles: ['viewer'] }]);
      },
    });
    canaries = [
      ...makeCanaries(guard.token),
      new Canary('a valid token of a file', fileToken.token),
      upstreamSecret,
      environmentSecret,
    ];
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** Everything that anybody could have read so far, once all of it is written. */
  const everything = async (): Promise<string> => {
    const last = await request(guard.plain, { path: '/the-last-one', token: guard.token });
    await guard.record(last.header('x-request-id') ?? '');
    const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
    const pages: string[] = [];
    for (const path of ['/metrics', '/readyz', '/healthz']) {
      const port = Number(new URL(String(admin['url.full'])).port);
      const page = await request({ port }, { path });
      assert.ok(page.text().length > 0);
      pages.push(page.text());
    }
    return [guard.process.stdout, guard.process.stderr, ...said, ...pages].join('\n');
  };

  const silent = (text: string): void => {
    const songs = new Ear([...canaries, PASSWORD]).hear(text);
    const told = songs.slice(0, 20).map(({ canary, line }) => `${canary}\n    ${line.slice(0, 600)}`);
    assert.equal(songs.length, 0, `${String(songs.length)} lines hold a secret:\n${told.join('\n')}`);
  };

  /** Sends bytes and keeps what came back, if it is guardbee's own. */
  const send = async (target: Target, bytes: string): Promise<void> => {
    using client = await RawConnection.connect(target);
    client.write(bytes);
    client.end();
    const answer = (await client.readToEnd()).toString('latin1');
    if (answer.includes('application/problem+json')) said.push(answer);
  };

  test('a canary that is planted is heard', () => {
    const ear = new Ear([...canaries, PASSWORD]);
    assert.deepEqual(ear.hear('nothing\nto be heard here'), []);
    for (const { name, value } of [...canaries, PASSWORD]) {
      for (const text of [value, value.slice(2), encodeURIComponent(value), Buffer.from(value).toString('base64')]) {
        assert.equal(ear.hear(`first\nx ${text} y\nlast`).length, 1, name);
      }
    }
  });

  for (const [name, target, which] of [
    ['plain', (): Target => guard.plain, (): readonly Canary[] => [...canaries, PASSWORD]],
    // What is said does not depend on TLS; that it is said at all, might.
    ['TLS', (): Target => guard.secure, (): readonly Canary[] => canaries.slice(0, 2)],
  ] as const) {
    test(`HTTP/1.1 over ${name}: in any part of a request, of any kind`, async () => {
      const before = guard.records.length;
      let sent = 0;
      for (const canary of which()) {
        const places = PLACES.filter(([place]) => canary !== PASSWORD || OF_A_PASSWORD.has(place));
        await Promise.all(places.map(([, bytes]) => send(target(), bytes(canary.value, guard.token))));
        sent += places.length;
      }
      const text = await everything();
      // Each of them has been written about: nothing here is silent because nothing was said.
      assert.ok(guard.records.length - before >= sent, `${String(guard.records.length - before)} of ${String(sent)}`);
      silent(text);
    });
  }

  test('HTTP/2: in any part of a request, of any kind', async () => {
    const before = guard.records.length;
    for (const canary of canaries) {
      const { value } = canary;
      const requests: OutgoingHttpHeaders[] = [
        ...HTTP2_FIELDS.map((field) => ({ ':path': '/read', [field]: value })),
        ...HTTP2_FIELDS.filter((field) => field !== 'authorization').map((field) => ({
          ':path': '/read',
          authorization: `Bearer ${guard.token}`,
          [field]: value,
        })),
        { ':path': `/read?token=${encoded(value)}` },
        { ':path': `/read?${encoded(value)}=1`, authorization: `Bearer ${guard.token}` },
        { ':path': `/read/${encoded(value)}` },
        { ':path': `/read/${encoded(value)}`, authorization: `Bearer ${guard.token}` },
        { ':path': `/read/../${encoded(value)}` },
        { ':path': value },
        { ':path': '/read', ':method': value },
        { ':path': '/read', ':authority': value },
        { ':path': '/read', ':authority': `keeper:${value}@bee.test` },
        { ':path': '/read', authorization: `Bearer ${value}` },
        { ':path': '/read', authorization: `Basic ${Buffer.from(`x:${value}`).toString('base64')}` },
        { ':path': '/read', [value.toLowerCase().replaceAll(/[^a-z0-9-]/g, '-')]: 'x' },
      ];
      const session = await h2Connect(guard.secure);
      await Promise.all(
        requests.map(async (headers) => {
          const stream = session.request(headers, { endStream: false, waitForTrailers: true });
          stream.on('error', () => undefined);
          stream.on('wantTrailers', () => stream.sendTrailers({ 'x-key': value }));
          stream.end(value);
          let text = '';
          stream.on('data', (piece: Buffer) => {
            text += piece.toString();
          });
          await within(new Promise<void>((resolve) => stream.once('close', resolve)), 'an answer over HTTP/2');
          said.push(text);
        }),
      );
      // A session that ends with a reason of its own.
      session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM, 0, Buffer.from(value));
      session.destroy();
    }
    const text = await everything();
    assert.ok(guard.records.length - before > canaries.length * HTTP2_FIELDS.length);
    silent(text);
  });

  test('WebSocket: in the handshake and after it', async () => {
    const before = guard.records.length;
    for (const canary of canaries) {
      const { value } = canary;
      const handshakes = [
        { protocols: ['bearer', value] },
        { protocols: [value] },
        { protocols: ['bearer', guard.token, value] },
        { protocols: ['chat', `token.${value}`] },
        { token: guard.token, protocols: ['bearer', value] },
        { headers: [['Sec-WebSocket-Extensions', value]] as const },
        { token: guard.token, path: `/socket?access_token=${encoded(value)}` },
        { token: guard.token, path: '/answers/malformed', headers: [['X-Say', value]] as const },
        { token: guard.token, path: '/socket', early: Buffer.from(value) },
      ];
      for (const target of [guard.plain, guard.secure]) {
        await Promise.all(
          handshakes.map(async (options) => {
            const opened = await openWebSocket(target, { path: '/socket', ...options });
            if (opened.socket === null) said.push(opened.response.text());
            else {
              opened.socket.send(value);
              opened.connection.write(encodeFrame('close', value.slice(0, 100), { masked: true }));
            }
            opened.connection.close();
          }),
        );
      }
    }
    await guard.process.waitForLog(() => guard.records.length - before >= canaries.length * 18);
    const text = await everything();
    silent(text);
  });

  test('the secret of an upstream reaches the upstream, in place of whatever the client said, and nobody else', async () => {
    await request(guard.plain, { path: '/reaches', token: guard.token });
    const arrived = await upstream.waitForRequest(({ target }) => target === '/reaches');
    assert.equal(arrived.header('authorization'), `Bearer ${upstreamSecret.value}`);
    await request(guard.target('main-env'), {
      path: '/reaches/env',
      token: guard.token,
      headers: [['X-Admin-Key', 'of the client']],
    });
    const env = await upstream.waitForRequest(({ target }) => target === '/reaches/env');
    assert.deepEqual(env.headerAll('x-admin-key'), [environmentSecret.value]);
    silent(await everything());
  });

  test('and in the end, when it has said all it had to say', async () => {
    guard.process.signal('SIGTERM');
    await guard.process.expectExit(0);
    const text = [guard.process.stdout, guard.process.stderr].join('\n');
    silent(text);
  });
});
