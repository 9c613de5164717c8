import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { request as requestHttp } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { adminOf, hangUp } from '../reload/reloading-guard.js';
import { TestAuthority } from '../support/certificates.js';
import { type Guard, startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { RawConnection, openWebSocket, request, requestBytes } from '../support/raw-client.js';
import { type EchoedRequest, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';
import { FarSide } from './far-side.js';

const FIRST = `first-${randomBytes(16).toString('hex')}`;
const SECOND = `second-${randomBytes(16).toString('hex')}`;

const EVENT_HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n';
const chunk = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;

describe('programs of this machine call services elsewhere', () => {
  let authority: TestAuthority;
  let clients: TestAuthority;
  let far: FarSide;
  let guard: Guard;
  const sockets = new TemporaryDirectory();
  const socketPath = sockets.file('link.sock');

  before(async () => {
    authority = await TestAuthority.create();
    clients = await TestAuthority.create('authority of clients');
    const client = await clients.issue({ commonName: 'runner-1', usage: 'client' });
    far = await FarSide.start({ ...(await authority.issue()), requestCert: true, ca: clients.ca });
    guard = await startGuard({
      upstream: 'http://127.0.0.1:9',
      prepare: (directory) => {
        writeFileIn(directory, 'far.pem', authority.ca);
        writeFileIn(directory, 'runner.crt', client.cert);
        writeFileIn(directory, 'runner.key', client.key);
        writeFileIn(directory, 'far.token', `${FIRST}\n`);
      },
      listeners: {
        link: {
          outbound: true,
          hosts: ['queen.test'],
          origins: ['http://localhost:3000'],
          local_identity: { name: 'runner', roles: ['operator'] },
          upstream: far.url,
          upstream_tls: { ca: 'far.pem', client_certificate: { cert: 'runner.crt', key: 'runner.key' } },
          upstream_auth: { type: 'bearer', token: { file: 'far.token' } },
          authenticate: ['other'],
          routes: [
            { name: 'page', path: '/page', methods: ['GET'], public: true },
            { name: 'closed', path: '/closed/**', methods: 'any', deny: true },
            { name: 'posts', path: '/posts', methods: ['POST'], require: 'write' },
            { name: 'rest', path: '/api/**', methods: 'any', require: 'write' },
          ],
        },
        socket: {
          outbound: true,
          bind: `unix:${socketPath}`,
          local_identity: { name: 'runner', roles: ['operator'] },
          upstream: far.url,
          upstream_tls: { ca: 'far.pem', client_certificate: { cert: 'runner.crt', key: 'runner.key' } },
        },
      },
      authenticators: {
        other: {
          type: 'bearer',
          carriers: ['x_guardbee_token'],
          tokens: [{ name: 'a', sha256: 'a'.repeat(64), roles: ['viewer'] }],
        },
      },
      top: { admin: { bind: '127.0.0.1:0' } },
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await far[Symbol.asyncDispose]();
    sockets.remove();
  });

  const farAuthority = (): string => `localhost:${String(far.port)}`;
  const seen = (): number => far.upstream.bytesSeen;
  const link = (): ReturnType<Guard['target']> => guard.target('link');
  const own = (): string => `http://127.0.0.1:${String(link().port)}`;

  test('with the name of the far side and the credential of the policy, and nothing said of this machine', async () => {
    far.upstream.respond = respond.echo();
    const answer = await request(link(), {
      method: 'POST',
      path: '/api/register?node=1',
      token: 'what-the-program-shows-itself',
      headers: [
        ['X-Real-IP', '10.0.0.1'],
        ['X-Auth-User', 'root'],
        ['X-Other', 'kept'],
      ],
      body: '{"hostname":"runner-1"}',
    });
    assert.equal(answer.status, 200);
    const { method, target, headers } = answer.json() as EchoedRequest;
    assert.equal(`${method} ${target}`, 'POST /api/register?node=1');
    const kept = headers.filter(([name]) => name !== 'x-request-id');
    assert.deepEqual(kept, [
      ['host', farAuthority()],
      ['connection', 'keep-alive'],
      ['x-other', 'kept'],
      ['authorization', `Bearer ${FIRST}`],
      ['content-length', '23'],
    ]);
    assert.equal(far.handshakes.at(-1)?.shown, 'runner-1');
  });

  test('under the rules of the policy', async () => {
    const before = seen();
    for (const [method, path, status] of [
      ['GET', '/closed/x', 403],
      ['GET', '/elsewhere', 403],
      ['DELETE', '/posts', 403],
    ] as const) {
      assert.equal((await request(link(), { method, path })).status, status, path);
    }
    const secondCredential = await request(link(), { path: '/api/x', headers: [['X-Guardbee-Token', 'x'.repeat(32)]] });
    assert.equal(secondCredential.status, 401);
    // Somebody else's proxy here may speak for the whole world.
    const passedOn = await request(link(), { path: '/api/x', headers: [['X-Forwarded-For', '10.0.0.1']] });
    assert.equal(passedOn.status, 401);
    assert.equal(seen(), before);
  });

  test('no page of another site does, nor one whose name leads here', async () => {
    far.upstream.respond = respond.echo();
    const before = seen();
    const foreign: readonly (readonly [string, string])[][] = [
      [['Origin', 'https://evil.example']],
      [['Origin', 'null']],
      [['Origin', `http://localhost:${String(link().port + 1)}`]],
      [['Sec-Fetch-Site', 'cross-site']],
      [['Sec-Fetch-Site', 'same-site']],
    ];
    for (const headers of foreign) {
      for (const [method, path] of [
        ['GET', '/api/x'],
        ['GET', '/page'],
        ['POST', '/api/x'],
        ['OPTIONS', '/api/x'],
      ] as const) {
        const answer = await request(link(), { method, path, headers });
        assert.equal(answer.status, 403, `${method} ${path} ${JSON.stringify(headers)}`);
        assert.equal(answer.header('access-control-allow-origin'), null);
        const line = await guard.record(answer.header('x-request-id') ?? '');
        assert.equal(line['guardbee.reason'], 'cross_site');
      }
      const { connection, response } = await openWebSocket(link(), { path: '/api/ws', headers });
      connection.close();
      assert.equal(response.status, 403);
    }
    for (const host of [
      'evil.example',
      `evil.example:${String(link().port)}`,
      '192.168.1.10',
      'localhost.evil.example',
    ]) {
      assert.equal((await request(link(), { path: '/page', host })).status, 421, host);
      assert.equal((await request(link(), { path: '/api/x', host })).status, 421, host);
    }
    assert.equal(seen(), before);
    for (const host of ['localhost', '127.0.0.1:1', '[::1]:8000', 'queen.test'])
      assert.equal((await request(link(), { path: '/api/x', host })).status, 200, host);
  });

  test('pages that the policy names, and those of the far side itself, may', async () => {
    far.upstream.respond = respond.echo();
    const origins = [
      ['http://localhost:3000', 'http://localhost:3000'],
      [own(), `https://${farAuthority()}`],
    ] as const;
    for (const [origin, there] of origins) {
      const answer = await request(link(), {
        method: 'POST',
        path: '/posts',
        headers: [
          ['Origin', origin],
          ['Referer', `${origin}/page?a=b`],
        ],
        body: 'x',
      });
      assert.equal(answer.status, 200);
      const { headers } = answer.json() as EchoedRequest;
      const said = headers.filter(([name]) => name === 'origin' || name === 'referer').map(([, value]) => value);
      assert.deepEqual(said, [there, `${there}/page?a=b`]);
    }
  });

  test('answers lead back here', async () => {
    far.upstream.respond = respond.status(302, [
      ['Location', `https://${farAuthority()}/api/next?x=1`],
      ['Set-Cookie', 'a=1; Secure; Domain=localhost; HttpOnly'],
      ['Set-Cookie', '__Host-b=2; Path=/; Secure'],
      ['Server', 'far'],
    ]);
    const answer = await request(link(), { path: '/api/x' });
    assert.equal(answer.header('location'), `${own()}/api/next?x=1`);
    assert.deepEqual(answer.headerAll('set-cookie'), ['a=1; HttpOnly', '__Host-b=2; Path=/; Secure']);
    assert.equal(answer.header('server'), null);
  });

  test('an event stream comes as it is said, and its end at either side is the end', async () => {
    far.upstream.respond = (_request, connection) => {
      connection.write(EVENT_HEAD + chunk('data: one\n\n'));
    };
    using client = await RawConnection.connect(link());
    client.write(requestBytes(link(), { path: '/api/events' }));
    await client.readUntil('data: one\n\n\r\n');
    const upstream = far.upstream.connections.findLast(({ requests }) =>
      requests.some(({ target }) => target === '/api/events'),
    );
    assert.ok(upstream !== undefined);
    upstream.write(chunk('data: two\n\n'));
    await client.readUntil('data: two\n\n\r\n');
    client.close();
    await waitUntil(() => upstream.endedAtMs !== null, 'the far side hears that the client has left');
  });

  test('a WebSocket passes frames both ways, and its halves end one by one', async () => {
    far.upstream.respond = respond.webSocket();
    const { socket, connection } = await openWebSocket(link(), { path: '/api/terminal' });
    assert.ok(socket !== null);
    for (const text of ['{"type":"resize"}', 'x'.repeat(100_000)]) {
      socket.send(text);
      assert.equal(await socket.nextText(), text);
    }
    connection.close();

    far.upstream.respond = respond.webSocket({ echo: 'none' });
    const half = await openWebSocket(link(), { path: '/api/half' });
    assert.ok(half.socket !== null);
    const upstream = far.upstream.connections.findLast(({ requests }) =>
      requests.some(({ target }) => target === '/api/half'),
    );
    assert.ok(upstream !== undefined);
    half.connection.end();
    await waitUntil(() => upstream.endedAtMs !== null, 'the far side sees the end of the one half');
    upstream.write('said after it');
    assert.equal((await half.connection.readBytes(13)).toString(), 'said after it');
    half.connection.close();
  });

  test('an answer to what was not read to its end is not lost', async () => {
    far.upstream.respond = respond.bytes(
      'HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig',
      'end',
    );
    const answer = await request(link(), { method: 'POST', path: '/api/upload', body: Buffer.alloc(8 * 1024 * 1024) });
    assert.equal(answer.status, 413);
    assert.equal(answer.text(), 'big');
  });

  test('a far side that goes away is a 502 at once, and used again as soon as it is back', async () => {
    far.upstream.respond = respond.echo();
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    const metric = async (): Promise<string | undefined> => {
      const page = await request(await adminOf(guard), { path: '/metrics' });
      return /guardbee_upstream_up\{upstream="https:\/\/localhost:\d+"\} (\S+)/.exec(page.text())?.[1];
    };
    assert.equal(await metric(), '1');
    await far.close();
    const began = performance.now();
    const answer = await request(link(), { path: '/api/x' });
    assert.equal(answer.status, 502);
    assert.ok(performance.now() - began < 2_000);
    const line = await guard.record(answer.header('x-request-id') ?? '');
    assert.equal(line['guardbee.reason'], 'upstream_refused');
    assert.equal(await metric(), '0');
    await far.open();
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    assert.equal(await metric(), '1');
  });

  test('a unix socket is a way out as well, for its owner', async () => {
    far.upstream.respond = respond.echo();
    assert.equal(statSync(socketPath).mode & 0o777, 0o600);
    const ask = (headers: Record<string, string>): Promise<number> =>
      new Promise((resolve, reject) => {
        const asked = requestHttp({ socketPath, path: '/anything', headers }, (answer) => {
          answer.resume().once('end', () => {
            resolve(answer.statusCode ?? 0);
          });
        });
        asked.once('error', reject);
        asked.end();
      });
    assert.equal(await ask({ Host: 'whatever' }), 200);
    const before = seen();
    assert.equal(await ask({ Host: 'localhost', Origin: 'https://evil.example' }), 403);
    assert.equal(seen(), before);
  });

  test('a session of TLS is resumed where a new connection is needed', async () => {
    far.upstream.respond = respond.echo();
    const closing = respond.bytes('HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n', 'end');
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    far.upstream.respond = closing;
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    const before = far.handshakes.length;
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    assert.deepEqual(
      far.handshakes.slice(before).map(({ resumed }) => resumed),
      [true],
    );
  });

  test('a reload takes over a new token and a new certificate', async () => {
    far.upstream.respond = respond.echo();
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
    const renewed = await clients.issue({ commonName: 'runner-1-renewed', usage: 'client' });
    writeFileIn(guard.directory, 'runner.crt', renewed.cert);
    writeFileIn(guard.directory, 'runner.key', renewed.key);
    writeFileIn(guard.directory, 'far.token', SECOND);
    assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
    const answer = await request(link(), { path: '/api/x' });
    const { headers } = answer.json() as EchoedRequest;
    assert.ok(headers.some(([name, value]) => name === 'authorization' && value === `Bearer ${SECOND}`));
    assert.deepEqual(far.handshakes.at(-1), { resumed: false, servername: 'localhost', shown: 'runner-1-renewed' });

    // The far side has another certificate now, of an authority that is not trusted yet.
    const next = await TestAuthority.create('the next authority');
    far.show(await next.issue());
    writeFileIn(guard.directory, 'far.pem', next.ca);
    assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);

    writeFileIn(guard.directory, 'far.pem', 'no certificate');
    assert.equal((await hangUp(guard))['event.name'], 'policy.reload_failed');
    assert.equal((await request(link(), { path: '/api/x' })).status, 200);
  });

  test('none of it is in the log', () => {
    const { stdout, stderr } = guard.process;
    for (const secret of [FIRST, SECOND, 'what-the-program-shows-itself'])
      assert.ok(!stdout.includes(secret) && !stderr.includes(secret));
  });
});
