import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { fieldValue, type FieldList } from '../support/message-reader.js';
import { tokenPair } from '../support/policy-builder.js';
import { openWebSocket, request, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { STRANGERS, WAYS, type Stranger, type TokenName, type Way } from './table.js';

/** One answer, whichever protocol it came over. */
interface Answer {
  readonly status: number;
  readonly fields: FieldList;
  readonly body: string;
}

const ROUTES = [
  { name: 'health', path: '/health', public: true },
  { name: 'dev', path: '/dev/**', deny: true },
  { name: 'local', path: '/local', methods: ['GET'], from: ['127.0.0.2'], require: 'read' },
  { name: 'control', path: '/control', methods: ['GET'], require: 'write' },
  { name: 'read', path: '/read', methods: ['GET'], require: 'read' },
  { name: 'write', path: '/write', methods: ['POST'], require: 'write' },
];

/** All that an answer of guardbee's own may say beside what the protocol asks for. */
const REFUSAL_FIELDS = ['cache-control', 'content-length', 'content-type', 'x-content-type-options', 'x-request-id'];
const PROTOCOL_FIELDS = ['connection', 'date', 'keep-alive'];

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('every way in judges alike', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;
  const tokens: Record<TokenName, string> = { good: '', viewer: '', expired: '', not_yet: '', unknown: '' };

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: (request, connection) =>
        (request.header('upgrade') === null ? respond.echo() : respond.webSocket())(request, connection),
    });
    const viewer = tokenPair();
    const expired = tokenPair();
    const notYet = tokenPair();
    const named = { hosts: ['bee.test'] };
    const behindProxy = { trusted_proxies: ['127.0.0.1'] };
    guard = await startGuard({
      upstream: upstream.url,
      routes: ROUTES,
      tokens: [
        { name: 'watcher', sha256: viewer.sha256, roles: ['viewer'] },
        { name: 'former', sha256: expired.sha256, roles: ['operator'], not_after: '2020-01-01' },
        { name: 'future', sha256: notYet.sha256, roles: ['operator'], not_before: '2999-01-01' },
      ],
      listeners: {
        'main-named': named,
        'secure-named': { ...named, tls: true },
        'main-behind': behindProxy,
        'secure-behind': { ...behindProxy, tls: true },
        'main-closed': { allow_from: ['127.0.0.2'] },
        'secure-closed': { allow_from: ['127.0.0.2'], tls: true },
      },
    });
    tokens.good = guard.token;
    tokens.viewer = viewer.token;
    tokens.expired = expired.token;
    tokens.not_yet = notYet.token;
    tokens.unknown = tokenPair().token;
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  const filled = (text: string): string =>
    text.replaceAll(/\{(\w+)\}/g, (_, name: string) => tokens[name as TokenName]);

  const targetFor = (stranger: Stranger, way: Way): Target => {
    const secure = way === 'HTTP/2' || way.endsWith('TLS');
    const which = stranger.named === true ? '-named' : stranger.behindProxy === true ? '-behind' : '';
    const target = guard.target(`${secure ? 'secure' : 'main'}${which}`);
    return stranger.from === undefined ? target : { ...target, localAddress: stranger.from };
  };

  const ask = async (stranger: Stranger, way: Way, mark: string): Promise<Answer> => {
    const target = targetFor(stranger, way);
    const fields: FieldList = [
      ...(stranger.fields ?? []).map(([name, value]) => [name, filled(value)] as const),
      ['X-Mark', mark],
    ];
    const path = filled(stranger.path);
    const { method = 'GET', host, body } = stranger;
    if (way === 'HTTP/2') {
      const session = await h2Connect(target);
      try {
        const headers: Record<string, string> = { ':method': method, ':path': path };
        if (host !== undefined) headers[':authority'] = host;
        for (const [name, value] of fields) headers[name.toLowerCase()] = value;
        const { status, headers: answered, body: bytes } = await h2Request(session, headers, body);
        const list = Object.entries(answered).flatMap(([name, value]): FieldList =>
          name.startsWith(':') ? [] : [[name, String(value)]],
        );
        return { status, fields: list, body: bytes.toString() };
      } finally {
        session.destroy();
      }
    }
    const common = { path, headers: fields, ...(host === undefined ? {} : { host }) };
    if (way === 'HTTP/1.1' || way === 'HTTP/1.1 over TLS') {
      const response = await request(target, { ...common, method, ...(body === undefined ? {} : { body }) });
      return { status: response.status, fields: response.headers, body: response.text() };
    }
    const handshake = await openWebSocket(target, {
      ...common,
      ...(stranger.subprotocols === undefined ? {} : { protocols: stranger.subprotocols.map(filled) }),
    });
    const { response, socket } = handshake;
    try {
      if (socket !== null) {
        socket.send('hello');
        assert.equal(await socket.nextText(), 'hello');
      }
      return { status: response.status, fields: response.headers, body: response.text() };
    } finally {
      handshake.connection.close();
    }
  };

  const rows = STRANGERS.flatMap((stranger) => (stranger.ways ?? WAYS).map((way) => ({ stranger, way })));

  // The refused first: after each of them, and after all, the upstream does not know that there is anybody.
  describe('refused', { concurrency: 8 }, () => {
    for (const [index, { stranger, way }] of rows.entries()) {
      const { expect, method = 'GET' } = stranger;
      if (expect === 'allowed') continue;
      test(`${way}: ${stranger.name}`, async () => {
        const answer = await ask(stranger, way, String(index));
        assert.equal(answer.status, expect.status, answer.body);
        assert.equal(fieldValue(answer.fields, 'www-authenticate'), expect.challenge);
        const requestId = fieldValue(answer.fields, 'x-request-id') ?? '';
        assert.match(requestId, UUID);
        const problem = {
          type: 'about:blank',
          title: expect.title,
          status: expect.status,
          instance: `urn:uuid:${requestId}`,
        };
        assert.equal(answer.body, method === 'HEAD' ? '' : `${JSON.stringify(problem)}\n`);
        assert.equal(fieldValue(answer.fields, 'content-type'), 'application/problem+json');
        assert.equal(fieldValue(answer.fields, 'cache-control'), 'no-store');
        const names = answer.fields.map(([name]) => name.toLowerCase());
        assert.deepEqual(
          names.filter((name) => !PROTOCOL_FIELDS.includes(name)).sort(),
          [...REFUSAL_FIELDS, ...(expect.challenge === null ? [] : ['www-authenticate'])].sort(),
        );
        const record = await guard.record(requestId);
        assert.equal(record['guardbee.decision'], 'deny');
        assert.equal(record['guardbee.reason'], expect.reason);
        assert.equal(record['http.response.status_code'], expect.status);
        assert.equal(record['level'], 'WARN');
        if (expect.status === 401) assert.match(String(record['msg']), /^authentication failed: /);
        assertUntouched(upstream);
      });
    }

    for (const way of WAYS) {
      const listener = way === 'HTTP/2' || way.endsWith('TLS') ? 'secure-closed' : 'main-closed';
      test(`${way}: an address that may not connect, which is told nothing, not even that there is TLS`, async () => {
        const target = guard.target(listener);
        const refused = async (): Promise<unknown> => {
          if (way === 'HTTP/2') return await h2Connect(target);
          return way.startsWith('WebSocket') ? await openWebSocket(target) : await request(target);
        };
        await assert.rejects(
          refused,
          /ECONNRESET|the connection (?:ended \((?:reset|end)\) \(0 bytes|closed during)|disconnected/,
        );
        const seen = await guard.process.waitForLog(
          (line) => line['guardbee.listener'] === listener && line['guardbee.reason'] === 'address_denied',
        );
        assert.equal(seen['network.peer.address'], '127.0.0.1');
        assertUntouched(upstream);
      });
    }

    after(() => {
      assertUntouched(upstream);
    });
  });

  describe('let through', { concurrency: 8 }, () => {
    for (const [index, { stranger, way }] of rows.entries()) {
      if (stranger.expect !== 'allowed') continue;
      const { method = 'GET' } = stranger;
      test(`${way}: ${stranger.name}`, async () => {
        const answer = await ask(stranger, way, String(index));
        assert.equal(answer.status, way.startsWith('WebSocket') ? 101 : 200, answer.body);
        const arrived = await upstream.waitForRequest((one) => one.header('x-mark') === String(index));
        assert.equal(arrived.method, method);
        for (const token of Object.values(tokens)) assert.ok(!arrived.rawHead.includes(token), 'a token went upstream');
        const record = await guard.record(fieldValue(answer.fields, 'x-request-id') ?? '');
        assert.equal(record['guardbee.decision'], 'allow');
        assert.equal(arrived.header('x-auth-user'), record['guardbee.identity'] ?? null);
      });
    }

    for (const way of WAYS) {
      const listener = way === 'HTTP/2' || way.endsWith('TLS') ? 'secure-closed' : 'main-closed';
      test(`${way}: the address that may connect`, async () => {
        const target = { ...guard.target(listener), localAddress: '127.0.0.2' };
        const authorization = `Bearer ${tokens.good}`;
        if (way === 'HTTP/2') {
          const session = await h2Connect(target);
          assert.equal((await h2Request(session, { ':path': '/read', authorization })).status, 200);
          session.destroy();
        } else if (way.startsWith('WebSocket')) {
          const { response, connection } = await openWebSocket(target, { path: '/read', token: tokens.good });
          assert.equal(response.status, 101);
          connection.close();
        } else {
          assert.equal((await request(target, { path: '/read', token: tokens.good })).status, 200);
        }
      });
    }
  });
});
