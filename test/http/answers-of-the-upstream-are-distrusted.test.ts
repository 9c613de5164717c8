import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ClientHeadContext, type UpgradeContext, clientHead, upgradeHead } from '../../src/http/client-head.js';
import { readAuthority } from '../../src/http/host.js';
import { ACCEPT, KEY, fieldsOf, namesOf, valuesOf } from './heads.js';

const CONTEXT: ClientHeadContext = {
  scheme: 'https',
  authority: readAuthority('queen.lan:8443')!,
  requestId: 'r-1',
  upstreamAuthority: '127.0.0.1:7833',
  upstreamSecure: false,
  sharing: null,
  method: 'GET',
};

/** Fields without the request id, which always comes last; null where the head is refused. */
function answered(lines: readonly string[], context: Partial<ClientHeadContext> = {}, status = 200): string[] | null {
  const head = clientHead(status, fieldsOf(...lines), { ...CONTEXT, ...context });
  if (head === null) return null;
  assert.deepEqual(head.fields.slice(-2), ['x-request-id', 'r-1']);
  assert.equal(valuesOf(head.fields, 'x-request-id').length, 1);
  return head.fields.slice(0, -2);
}

describe('answers of the upstream are distrusted', () => {
  test('status: what is between 200 and 599 is an answer', () => {
    for (const status of [200, 204, 304, 404, 451, 599]) assert.notEqual(clientHead(status, [], CONTEXT), null);
    for (const status of [0, 99, 100, 101, 103, 199, 600, 999]) assert.equal(clientHead(status, [], CONTEXT), null);
  });

  test('what goes no further', () => {
    const dropped = [
      ...['Connection: keep-alive', 'Keep-Alive: timeout=5', 'Proxy-Connection: x', 'Proxy-Authenticate: Basic'],
      ...['Proxy-Authentication-Info: x', 'TE: trailers', 'Trailer: X', 'Transfer-Encoding: Chunked'],
      ...['Upgrade: h2c', 'HTTP2-Settings: x', 'Server: Werkzeug/3.0', 'Alt-Svc: h3=":443"', 'X-Request-Id: theirs'],
    ];
    for (const line of dropped) assert.deepEqual(answered([line]), [], line);
  });

  test('what does: order, repetition and bytes', () => {
    const lines = [
      'A: 1',
      'b: \u00e9\u0080',
      'A: 2',
      'Cache-Control: no-store',
      'WWW-Authenticate: Basic',
      'Date: x',
      'Via: y',
    ];
    assert.deepEqual(
      answered(lines),
      fieldsOf(...lines.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()))),
    );
  });

  describe('malformed heads are not passed on', () => {
    const HEADS: readonly (readonly string[])[] = [
      ['', 'v'],
      ['a b', 'v'],
      ['a:', 'v'],
      ['a\r\nb', 'v'],
      ['\u00e9', 'v'],
      ['a', 'b\r\nSet-Cookie: c=d'],
      ['a', 'b\nc'],
      ['a', 'b\0c'],
      ['a', '\x1b'],
      ['a', '\x7f'],
      ['Server', 'b\0c'],
      fieldsOf('Content-Length: 5', 'Content-Length: 6'),
      fieldsOf('Content-Length: 5, 5'),
      fieldsOf('Content-Length:'),
      fieldsOf('Content-Length: -5'),
      fieldsOf('Content-Length: +5'),
      fieldsOf('Content-Length: 5x'),
      fieldsOf('Content-Length: 0x5'),
      fieldsOf('Content-Length: 12345678901234567'),
      // Both: whichever Node goes by, the client would be told the other.
      fieldsOf('Content-Length: 5', 'Transfer-Encoding: chunked'),
      fieldsOf('Transfer-Encoding: chunked', 'Content-Length: 5'),
      // Codings that nobody undoes would reach the client without a word of them.
      fieldsOf('Transfer-Encoding: gzip'),
      fieldsOf('Transfer-Encoding: gzip, chunked'),
      fieldsOf('Transfer-Encoding: identity'),
      fieldsOf('Transfer-Encoding: chunked, chunked'),
      fieldsOf('Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
      fieldsOf('Transfer-Encoding: chunked\u00a0'),
      fieldsOf('Transfer-Encoding:'),
    ];
    for (const raw of HEADS) {
      test(JSON.stringify(raw), () => {
        assert.equal(clientHead(200, raw, CONTEXT), null);
        assert.equal(clientHead(404, ['Accept-Ranges', 'bytes', ...raw], CONTEXT), null);
      });
    }
  });

  describe('how long the body is', () => {
    test('one length, said once or twice alike', () => {
      assert.deepEqual(answered(['Content-Length: 5']), fieldsOf('content-length: 5'));
      assert.deepEqual(answered(['Content-Length: 5', 'content-length: 5']), fieldsOf('content-length: 5'));
    });
    for (const [method, status, bodiless, stated] of [
      ['GET', 200, false, ['5']],
      ['HEAD', 200, true, ['5']],
      ['GET', 304, true, ['5']],
      ['HEAD', 404, true, ['5']],
      ['POST', 201, false, ['5']],
    ] as const) {
      test(`${method}, ${status}: ${bodiless ? 'nothing' : 'something'} follows`, () => {
        const head = clientHead(status, fieldsOf('Content-Length: 5'), { ...CONTEXT, method });
        assert.equal(head?.bodiless, bodiless);
        assert.deepEqual(valuesOf(head.fields, 'content-length'), stated);
      });
    }
  });

  test('a 204 with a body is none, and says nothing of its length', () => {
    for (const length of ['5', '05', '10'])
      assert.equal(clientHead(204, fieldsOf(`Content-Length: ${length}`), CONTEXT), null);
    for (const lines of [[], ['Content-Length: 0'], ['Content-Length: 0', 'Content-Length: 0']]) {
      const head = clientHead(204, fieldsOf(...lines), CONTEXT);
      assert.equal(head?.bodiless, true);
      assert.deepEqual(valuesOf(head.fields, 'content-length'), []);
    }
  });

  test('nothing follows a 205, and its head says so', () => {
    for (const method of ['GET', 'HEAD']) {
      assert.equal(clientHead(205, fieldsOf('Content-Length: 5'), { ...CONTEXT, method }), null);
      for (const lines of [['Content-Length: 0'], ['Transfer-Encoding: chunked'], []]) {
        const head = clientHead(205, fieldsOf(...lines), { ...CONTEXT, method });
        assert.deepEqual(valuesOf(head?.fields ?? [], 'content-length'), ['0'], lines.join());
      }
    }
  });

  test('event streams are known by their type', () => {
    const isStream = (type: string): boolean | undefined =>
      clientHead(200, fieldsOf(`Content-Type: ${type}`), CONTEXT)?.eventStream;
    for (const type of [
      'text/event-stream',
      'text/event-stream; charset=utf-8',
      'Text/Event-Stream',
      ' text/event-stream',
    ])
      assert.equal(isStream(type), true, type);
    for (const type of ['text/plain', 'text/event-streams', 'application/json; x=text/event-stream', ''])
      assert.equal(isStream(type), false, type);
  });

  describe('Connection', () => {
    test('takes out what it names', () => {
      assert.deepEqual(answered(['X-Foo: 1', 'X-Bar: 2', 'Connection: close, X-Foo']), fieldsOf('x-bar: 2'));
      assert.deepEqual(answered(['Connection: set-cookie', 'Set-Cookie: a=b']), []);
    });
    test('never what is ours, or the length', () => {
      assert.deepEqual(
        answered(['Content-Length: 5', 'Connection: content-length, x-request-id']),
        fieldsOf('content-length: 5'),
      );
    });
  });

  describe('cookies over TLS are Secure', () => {
    const ROWS: readonly (readonly [cookie: string, added: boolean])[] = [
      ['a=b', true],
      ['a=b; Path=/', true],
      ['a=b; HttpOnly; SameSite=None', true],
      ['a=b; Secure', false],
      ['a=b;secure', false],
      ['a=b; SECURE ;Path=/', false],
      ['a=b;\tSecure\t; Path=/', false],
      // Not the attribute: in the value, in another's name, as another's value.
      ['secure=1', true],
      ['a=secure', true],
      ['Secure', true],
      ['a=b; Insecure', true],
      ['a=b; Securely', true],
      ['a=b; x=; Path=secure', true],
      ['a="; Secure"', true],
      // Not to a browser: it does not cut a no-break space.
      ['a=b;\u00a0Secure', true],
      ['a=b; Secure\u00a0', true],
      ['', true],
    ];
    for (const [cookie, added] of ROWS) {
      test(JSON.stringify(cookie), () => {
        assert.deepEqual(answered([`Set-Cookie: ${cookie}`]), ['set-cookie', added ? `${cookie}; Secure` : cookie]);
        assert.deepEqual(answered([`Set-Cookie: ${cookie}`], { scheme: 'http' }), ['set-cookie', cookie]);
      });
    }
    test('each of them', () => {
      assert.deepEqual(
        answered(['Set-Cookie: a=b', 'Set-Cookie: c=d; Secure', 'Set-Cookie: e=f']),
        fieldsOf('set-cookie: a=b; Secure', 'set-cookie: c=d; Secure', 'set-cookie: e=f; Secure'),
      );
    });
  });

  describe("URLs of the upstream's own origin become the client's", () => {
    const ROWS: readonly (readonly [location: string, rewritten: string | null])[] = [
      ['http://127.0.0.1:7833/a?b#c', 'https://queen.lan:8443/a?b#c'],
      ['http://127.0.0.1:7833', 'https://queen.lan:8443'],
      ['http://127.0.0.1:7833?a', 'https://queen.lan:8443?a'],
      ['http://127.0.0.1:7833#a', 'https://queen.lan:8443#a'],
      ['HTTP://127.0.0.1:7833/', 'https://queen.lan:8443/'],
      ['//127.0.0.1:7833/a', 'https://queen.lan:8443/a'],
      // What a service on loopback calls itself.
      ['http://localhost:7833/a', 'https://queen.lan:8443/a'],
      ['http://LOCALHOST.:7833/a', 'https://queen.lan:8443/a'],
      ['http://[::1]:7833/a', 'https://queen.lan:8443/a'],
      ['http://127.0.0.2:7833/a', 'https://queen.lan:8443/a'],
      ['http://0.0.0.0:7833/a', 'https://queen.lan:8443/a'],
      // What it makes of the Host we passed on.
      ['http://queen.lan:8443/a', 'https://queen.lan:8443/a'],
      ['http://QUEEN.lan:8443/a', 'https://queen.lan:8443/a'],
      ['//queen.lan:8443/a', 'https://queen.lan:8443/a'],
      // Anything else is not ours to change.
      ['/a', null],
      ['a', null],
      ['', null],
      ['?a', null],
      ['http:/a', null],
      ['http:///a', null],
      ['///127.0.0.1:7833/a', null],
      ['https://127.0.0.1:7833/a', null],
      ['https://queen.lan:8443/a', null],
      ['http://queen.lan/a', null],
      ['http://127.0.0.1/a', null],
      ['http://127.0.0.1:7834/a', null],
      ['http://localhost/a', null],
      ['http://192.168.1.10:7833/a', null],
      ['http://127.0.0.1:7833.evil.test/', null],
      ['http://127.0.0.1:7833@evil.test/', null],
      ['http://user@127.0.0.1:7833/', null],
      ['http://127.0.0.1:7833\\@evil.test/', null],
      ['http://evil.test/http://127.0.0.1:7833/', null],
      [' http://127.0.0.1:7833/', null],
      ['javascript:alert(1)', null],
    ];
    for (const [location, rewritten] of ROWS) {
      for (const name of ['Location', 'Content-Location']) {
        test(`${name}: ${location}`, () =>
          assert.deepEqual(answered([`${name}: ${location}`], {}, 302), [name.toLowerCase(), rewritten ?? location]));
      }
    }

    test('not only that of 127.0.0.1', () => {
      const at = (upstreamAuthority: string, location: string): string | undefined =>
        answered([`Location: ${location}`], { upstreamAuthority }, 302)?.[1];
      assert.equal(at('[::1]:7833', 'http://localhost:7833/a'), 'https://queen.lan:8443/a');
      assert.equal(at('127.0.0.1', 'http://127.0.0.1:80/a'), 'https://queen.lan:8443/a');
      assert.equal(at('10.0.0.9:80', 'http://10.0.0.9/a'), 'https://queen.lan:8443/a');
      assert.equal(at('10.0.0.9:80', 'http://localhost/a'), 'http://localhost/a');
      // A unix socket has no origin of its own.
      assert.equal(at('', 'http://localhost/a'), 'http://localhost/a');
      assert.equal(at('', 'http:///a'), 'http:///a');
    });

    test('however the client wrote its host', () => {
      const head = answered(
        ['Location: http://queen.lan:8443/a'],
        { authority: readAuthority('Queen.LAN:8443')! },
        302,
      );
      assert.deepEqual(head, fieldsOf('location: https://Queen.LAN:8443/a'));
    });

    test('over plain HTTP the scheme stays', () => {
      const head = answered(['Location: http://127.0.0.1:7833/a'], { scheme: 'http' }, 302);
      assert.deepEqual(head, fieldsOf('location: http://queen.lan:8443/a'));
    });

    test('links elsewhere in the answer are content', () => {
      const lines = ['Link: <http://127.0.0.1:7833/a>', 'Refresh: 0; url=http://127.0.0.1:7833/'];
      assert.deepEqual(
        answered(lines),
        fieldsOf(...lines.map((line) => line.replace(/^\w+/, (name) => name.toLowerCase()))),
      );
    });
  });

  test('a head of any kind is passed on clean, or not at all', () => {
    const code = fc.nat(255).map((n) => String.fromCharCode(n));
    const field = fc.oneof(
      fc.tuple(fc.string({ unit: code, maxLength: 6 }), fc.string({ unit: code, maxLength: 8 })),
      fc.tuple(
        fc.constantFrom('Content-Length', 'Transfer-Encoding', 'Connection', 'Location', 'Set-Cookie', 'Server', 'a'),
        fc.constantFrom('5', 'chunked', 'close', 'x-request-id', 'http://127.0.0.1:7833/', 'a=b', 'content-length'),
      ),
    );
    fc.assert(
      fc.property(fc.array(field, { maxLength: 8 }), (pairs) => {
        const head = clientHead(200, pairs.flat(), CONTEXT);
        if (head === null) return;
        assert.match(head.fields.join('\n'), /^[\t\n\x20-\x7e\x80-\xff]*$/);
        assert.deepEqual(valuesOf(head.fields, 'x-request-id'), ['r-1']);
        assert.ok(valuesOf(head.fields, 'content-length').length <= 1);
        for (const name of namesOf(head.fields))
          assert.doesNotMatch(name, /^(?:server|connection|transfer-encoding|keep-alive|upgrade|)$|[A-Z]/);
        for (const cookie of valuesOf(head.fields, 'set-cookie')) assert.match(cookie, /; *secure/i);
      }),
      { numRuns: 20_000, interruptAfterTimeLimit: 1_500 },
    );
  });
});

describe('a 101 is an answer to the handshake that was sent, or none', () => {
  const UPGRADE: UpgradeContext = {
    ...CONTEXT,
    key: KEY,
    subprotocols: [],
    extensions: null,
    fallbackSubprotocol: null,
  };
  const base = ['Upgrade: websocket', 'Connection: Upgrade', `Sec-WebSocket-Accept: ${ACCEPT}`];
  const without = (name: string): string[] => base.filter((line) => !line.startsWith(`${name}:`));
  const ours = fieldsOf(
    'upgrade: websocket',
    'connection: Upgrade',
    `sec-websocket-accept: ${ACCEPT}`,
    'x-request-id: r-1',
  );

  const GOOD: readonly {
    readonly lines: readonly string[];
    readonly context?: Partial<UpgradeContext>;
    readonly more?: readonly string[];
  }[] = [
    { lines: base },
    { lines: ['upgrade: WebSocket', ...without('Upgrade')] },
    { lines: ['Connection: keep-alive, UPGRADE', ...without('Connection')] },
    { lines: ['Connection: keep-alive', ...base] },
    {
      lines: [...base, 'Server: x', 'Date: d', 'X-Any: v', 'X-Request-Id: theirs', 'Alt-Svc: h3'],
      more: ['date: d', 'x-any: v'],
    },
    { lines: [...base, 'Connection: X-Any', 'X-Any: v'] },
    { lines: [...base, 'Set-Cookie: a=b'], more: ['set-cookie: a=b; Secure'] },
    {
      lines: [...base, 'Sec-WebSocket-Protocol: chat'],
      context: { subprotocols: ['superchat', 'chat'] },
      more: ['sec-websocket-protocol: chat'],
    },
    { lines: base, context: { subprotocols: ['chat'] } },
    {
      lines: base,
      context: { subprotocols: ['chat'], fallbackSubprotocol: 'bearer' },
      more: ['sec-websocket-protocol: bearer'],
    },
    {
      lines: [...base, 'Sec-WebSocket-Protocol: chat'],
      context: { subprotocols: ['chat'], fallbackSubprotocol: 'bearer' },
      more: ['sec-websocket-protocol: chat'],
    },
    {
      lines: [...base, 'Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover'],
      context: { extensions: 'x-a, Permessage-Deflate; client_max_window_bits' },
      more: ['sec-websocket-extensions: permessage-deflate; server_no_context_takeover'],
    },
  ];
  for (const { lines, context = {}, more = [] } of GOOD) {
    test(`good: ${JSON.stringify(lines)} ${JSON.stringify(context)}`, () => {
      const head = upgradeHead(fieldsOf(...lines), { ...UPGRADE, ...context });
      assert.deepEqual(head, [...fieldsOf(...more), ...ours]);
    });
  }

  const BAD: readonly { readonly lines: readonly string[]; readonly context?: Partial<UpgradeContext> }[] = [
    { lines: [] },
    { lines: without('Upgrade') },
    { lines: ['Upgrade: h2c', ...without('Upgrade')] },
    { lines: ['Upgrade: websocket, h2c', ...without('Upgrade')] },
    { lines: ['Upgrade:', ...without('Upgrade')] },
    { lines: ['Upgrade: websocket\u00a0', ...without('Upgrade')] },
    { lines: ['Upgrade: websocket', ...base] },
    { lines: ['Upgrade: h2c', ...base] },
    { lines: without('Connection') },
    { lines: ['Connection: keep-alive', ...without('Connection')] },
    { lines: ['Connection: xupgrade', ...without('Connection')] },
    { lines: without('Sec-WebSocket-Accept') },
    { lines: ['Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=', ...without('Sec-WebSocket-Accept')] },
    { lines: [`Sec-WebSocket-Accept: ${ACCEPT.toLowerCase()}`, ...without('Sec-WebSocket-Accept')] },
    { lines: [`Sec-WebSocket-Accept: ${ACCEPT}x`, ...without('Sec-WebSocket-Accept')] },
    { lines: [`Sec-WebSocket-Accept: ${KEY}`, ...without('Sec-WebSocket-Accept')] },
    { lines: [`Sec-WebSocket-Accept: ${ACCEPT}`, ...base] },
    { lines: base, context: { key: 'AAAAAAAAAAAAAAAAAAAAAA==' } },
    // Nobody offered it.
    { lines: [...base, 'Sec-WebSocket-Protocol: chat'] },
    { lines: [...base, 'Sec-WebSocket-Protocol: CHAT'], context: { subprotocols: ['chat'] } },
    { lines: [...base, 'Sec-WebSocket-Protocol: chat, chat'], context: { subprotocols: ['chat'] } },
    { lines: [...base, 'Sec-WebSocket-Protocol:'], context: { subprotocols: ['chat'] } },
    {
      lines: [...base, 'Sec-WebSocket-Protocol: a', 'Sec-WebSocket-Protocol: b'],
      context: { subprotocols: ['a', 'b'] },
    },
    { lines: [...base, 'Sec-WebSocket-Protocol: bearer'], context: { fallbackSubprotocol: 'bearer' } },
    { lines: [...base, 'Sec-WebSocket-Extensions: permessage-deflate'] },
    {
      lines: [...base, 'Sec-WebSocket-Extensions: permessage-deflate'],
      context: { extensions: 'x-a; permessage-deflate' },
    },
    { lines: [...base, 'Sec-WebSocket-Extensions: a, b'], context: { extensions: 'a' } },
    // Neither may stand in a 1xx.
    { lines: [...base, 'Content-Length: 0'] },
    { lines: [...base, 'Transfer-Encoding: chunked'] },
    { lines: [...base, 'a b: c'] },
    { lines: [...base, 'X-Any: a\r\nb'] },
    { lines: [...base, 'Server: a\0'] },
  ];
  for (const { lines, context = {} } of BAD) {
    test(`bad: ${JSON.stringify(lines)} ${JSON.stringify(context)}`, () =>
      assert.equal(upgradeHead(fieldsOf(...lines), { ...UPGRADE, ...context }), null));
  }
});
