import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Framing, hasBody, readMessage } from '../../src/http/message.js';
import { METHODS } from '../../src/policy/methods.js';
import { KEY, LIMITS, fieldsOf, handshake, head1, head2, namesOf, read, refusal, valuesOf } from './heads.js';

const NONE: Framing = { kind: 'none' };
const STREAMED: Framing = { kind: 'streamed' };
const length = (bytes: number): Framing => ({ kind: 'length', bytes });

describe('messages are read one way', () => {
  describe('methods', () => {
    for (const method of METHODS) {
      test(`${method} is one that policies may name`, () => {
        assert.equal(read(head1({ method })).method, method);
        assert.equal(read(head2({ method })).method, method);
      });
    }
    for (const method of ['CONNECT', 'TRACE', 'get', 'Get', 'GET ', ' GET', '', 'G\0T', 'PRI', 'BREW', 'GET\r\nX: y']) {
      test(`${JSON.stringify(method)} is not`, () => {
        assert.equal(refusal(head1({ method })), 'method_unsupported');
        assert.equal(refusal(head2({ method })), 'method_unsupported');
      });
    }
  });

  test('versions other than 1.0, 1.1 and 2 are refused, whatever else is wrong', () => {
    assert.equal(
      refusal(head1({ protocol: 'unknown', method: 'BREW', target: '//', fields: [] })),
      'version_unsupported',
    );
  });

  describe('how long the body is, over HTTP/1.1', () => {
    const ROWS: readonly (readonly [lines: readonly string[], outcome: Framing | null])[] = [
      [[], NONE],
      [['Content-Length: 0'], length(0)],
      [['Content-Length: 5'], length(5)],
      [['Content-Length: 00005'], length(5)],
      [['Content-Length: 999999999999999'], length(999_999_999_999_999)],
      [['Transfer-Encoding: chunked'], STREAMED],
      [['Transfer-Encoding: CHUNKED'], STREAMED],
      [['TRANSFER-encoding: Chunked'], STREAMED],
      // Both: the request smuggling of RFC 9112 §11.2, whichever stands first.
      [['Content-Length: 5', 'Transfer-Encoding: chunked'], null],
      [['Transfer-Encoding: chunked', 'Content-Length: 5'], null],
      [['Transfer-Encoding: chunked', 'Content-Length: 0'], null],
      [['Transfer-Encoding: identity', 'Content-Length: 5'], null],
      [['Transfer-Encoding:', 'Content-Length: 5'], null],
      // Two lengths, even equal ones: readers take the first, the last, or a list.
      [['Content-Length: 5', 'Content-Length: 6'], null],
      [['Content-Length: 5', 'Content-Length: 5'], null],
      [['Content-Length: 5, 5'], null],
      [['Content-Length: 5,6'], null],
      [['Content-Length:'], null],
      [['Content-Length: +5'], null],
      [['Content-Length: -5'], null],
      [['Content-Length: 5.0'], null],
      [['Content-Length: 5e1'], null],
      [['Content-Length: 0x5'], null],
      [['Content-Length: 5 5'], null],
      [['Content-Length: 5;'], null],
      [['Content-Length:  5'], null],
      [['Content-Length: 5 '], null],
      [['Content-Length: \t5'], null],
      [['Content-Length: 5\u00a0'], null],
      [['Content-Length: \u00b2'], null],
      [['Content-Length: NaN'], null],
      [['Content-Length: 1000000000000000'], null],
      [['Content-Length: 18446744073709551617'], null],
      // Codings: exactly `chunked`, once, and nothing that some reader takes for it.
      [['Transfer-Encoding:'], null],
      [['Transfer-Encoding: identity'], null],
      [['Transfer-Encoding: gzip'], null],
      [['Transfer-Encoding: gzip, chunked'], null],
      [['Transfer-Encoding: chunked, gzip'], null],
      [['Transfer-Encoding: identity, chunked'], null],
      [['Transfer-Encoding: chunked, identity'], null],
      [['Transfer-Encoding: chunked, chunked'], null],
      [['Transfer-Encoding: chunked,'], null],
      [['Transfer-Encoding: ,chunked'], null],
      [['Transfer-Encoding: xchunked'], null],
      [['Transfer-Encoding: chunkedx'], null],
      [['Transfer-Encoding: chunked;a=b'], null],
      [['Transfer-Encoding: "chunked"'], null],
      [['Transfer-Encoding: chunked chunked'], null],
      [['Transfer-Encoding: cow'], null],
      [['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'], null],
      [['Transfer-Encoding: identity', 'Transfer-Encoding: chunked'], null],
      [['Transfer-Encoding: chunked', 'Transfer-Encoding: identity'], null],
      [['Transfer-Encoding: chunked', 'Transfer-Encoding:'], null],
      // Whitespace to JavaScript's trim(), and not to HTTP: Node's parser announces the request, then breaks it off.
      [['Transfer-Encoding: chunked\u00a0'], null],
      [['Transfer-Encoding: \u00a0chunked'], null],
      [['Transfer-Encoding: \u0085chunked'], null],
      // Optional whitespace (RFC 9110 §5.6.3), which the parser takes away.
      [['Transfer-Encoding:  chunked'], STREAMED],
      [['Transfer-Encoding: chunked\t'], STREAMED],
      // A twin is nobody's framing, and goes no further.
      [['Transfer_Encoding: chunked'], NONE],
      [['Transfer.Encoding: chunked', 'Content-Length: 5'], length(5)],
      [['Content_Length: 7', 'Content-Length: 5'], length(5)],
    ];
    for (const [lines, outcome] of ROWS) {
      test(JSON.stringify(lines), () => {
        for (const method of ['POST', 'GET', 'DELETE', 'QUERY']) {
          const raw = head1({ method }, ...lines);
          if (outcome === null) assert.equal(refusal(raw), 'ambiguous_framing');
          else assert.deepEqual(read(raw).framing, outcome);
        }
        if (outcome === null) return;
        const { fields, framing } = read(head1({ method: 'POST' }, ...lines));
        assert.deepEqual(fields, [], 'we state the framing ourselves');
        assert.equal(hasBody(framing), framing.kind === 'streamed' || (framing.kind === 'length' && framing.bytes > 0));
      });
    }

    test('HTTP/1.0 knows no chunked', () => {
      for (const coding of ['chunked', 'identity', '']) {
        assert.equal(
          refusal(head1({ protocol: '1.0', method: 'POST' }, `Transfer-Encoding: ${coding}`)),
          'ambiguous_framing',
        );
      }
      assert.deepEqual(read(head1({ protocol: '1.0', method: 'POST' }, 'Content-Length: 5')).framing, length(5));
    });
  });

  describe('how long the body is, over HTTP/2', () => {
    const ROWS = [
      { more: false, lines: [], outcome: NONE },
      { more: true, lines: [], outcome: STREAMED },
      { more: true, lines: ['content-length: 5'], outcome: length(5) },
      { more: true, lines: ['content-length: 0'], outcome: length(0) },
      { more: false, lines: ['content-length: 0'], outcome: length(0) },
      { more: false, lines: ['content-length: 5'], outcome: 'ambiguous_framing' },
      { more: true, lines: ['content-length: 5', 'content-length: 5'], outcome: 'ambiguous_framing' },
      { more: true, lines: ['content-length: 5,5'], outcome: 'ambiguous_framing' },
      { more: true, lines: ['transfer-encoding: chunked'], outcome: 'malformed_head' },
      { more: true, lines: ['transfer-encoding: chunked', 'content-length: 5'], outcome: 'malformed_head' },
    ] as const;
    for (const { more, lines, outcome } of ROWS) {
      test(`${more ? 'more follows' : 'ended'}: ${JSON.stringify(lines)}`, () => {
        const raw = head2({ method: 'POST', moreFollows: more }, ...lines);
        if (typeof outcome === 'string') assert.equal(refusal(raw), outcome);
        else assert.deepEqual(read(raw).framing, outcome);
      });
    }
  });

  describe('field names and values', () => {
    const BAD_NAMES = [
      '',
      'x y',
      'x:',
      'x\t',
      ' x',
      'x\0',
      'x\r\n',
      'x(',
      'x"',
      'x,',
      'x/',
      'x;',
      'x=',
      'x@',
      'x[',
      'x\u00e9',
    ];
    for (const name of BAD_NAMES) {
      test(`malformed name ${JSON.stringify(name)}`, () => {
        assert.equal(refusal(head1({ fields: ['Host', 'bee.test', name, 'v'] })), 'malformed_head');
        assert.equal(refusal(head2({ fields: [name, 'v'] })), 'malformed_head');
      });
    }
    for (const value of [
      '\0',
      'a\0b',
      'a\rb',
      'a\nb',
      'a\r\nX-Auth-User: root',
      'a\r\n b',
      '\x01',
      '\x0b',
      '\x0c',
      '\x1b[2J',
      '\x7f',
    ]) {
      test(`malformed value ${JSON.stringify(value)}`, () => {
        for (const name of ['X-A', 'Cookie', 'Content-Length', 'X-Auth-User', 'X_Auth_User', 'Authorization']) {
          assert.equal(refusal(head1({ fields: ['Host', 'bee.test', name, value] })), 'malformed_head');
        }
      });
    }

    test('every other value is kept, byte for byte', () => {
      const bytes = String.fromCharCode(
        0x09,
        ...Array.from({ length: 0x5f }, (_, i) => 0x20 + i),
        ...Array.from({ length: 0x80 }, (_, i) => 0x80 + i),
      );
      for (const value of [bytes, '', ' ', 'a  b', '\u00e9', '\u00a0a\u00a0', '"a, b"', '\xc3\xa9']) {
        const message = read(head1({ fields: ['Host', 'bee.test', 'X-Any', value, 'ACCEPT', value] }));
        assert.deepEqual(message.fields, ['x-any', value, 'accept', value]);
      }
    });

    test('order and repetition are kept; names become lower case', () => {
      const { fields } = read(head1({}, 'B: 1', 'a: 2', 'B: 3', 'Accept: x', 'b: 4'));
      assert.deepEqual(fields, fieldsOf('b: 1', 'a: 2', 'b: 3', 'accept: x', 'b: 4'));
    });

    test('cookies are one field, on both protocols', () => {
      const crumbs = ['cookie: a=1', 'x: y', 'Cookie: b=2; c=3', 'COOKIE: d=4'];
      for (const message of [read(head1({}, ...crumbs)), read(head2({}, ...crumbs))]) {
        assert.deepEqual(valuesOf(message.fields, 'cookie'), ['a=1; b=2; c=3; d=4']);
      }
    });
  });

  describe('what goes no further', () => {
    const DROPPED = [
      // Of one connection.
      ...['Keep-Alive: timeout=5', 'Proxy-Connection: keep-alive', 'Proxy-Authorization: Basic eDp5'],
      ...['Proxy-Authenticate: Basic', 'TE: trailers', 'Trailer: X-Auth-User', 'HTTP2-Settings: AAMAAABkAAQAAP__'],
      // Ours to say.
      ...['X-Auth-User: root', 'x-auth-user: root', 'X-AUTH-USER: root', 'X-Auth-Roles: admin', 'X-Auth-Email: a@b.c'],
      ...['X-Auth-Request-User: root', 'X-Auth-Groups: wheel', 'X-Real-IP: 127.0.0.1', 'X-Forwarded-For: 127.0.0.1'],
      ...['X-Forwarded-Proto: https', 'X-Forwarded-Host: evil.test', 'X-Request-Id: 1', 'X-Guardbee-Anything: 1'],
      ...['X-Guardbee-Token: 0123456789abcdef'],
      // Said of the client, by whoever, in whatever family's words.
      ...['Forwarded: for=127.0.0.1', 'X-Forwarded-Port: 443', 'X-Forwarded-Prefix: /a', 'X-Forwarded-User: root'],
      ...['X-Forwarded-Uri: /a', 'X-Forwarded-Method: GET', 'X-Forwarded-Whatever: 1', 'X-Client-IP: 127.0.0.1'],
      ...['True-Client-IP: 127.0.0.1', 'CF-Connecting-IP: 127.0.0.1', 'X-Cluster-Client-IP: 127.0.0.1'],
      ...[
        'Remote-User: root',
        'X-Remote-User: root',
        'X-WEBAUTH-USER: root',
        'X-SSL-Client-Cert: x',
        'X-Scheme: https',
      ],
      // Another path or method than those judged.
      ...['X-Original-URL: /admin', 'X-Rewrite-URL: /admin', 'X-Original-URI: /admin', 'X-Original-Method: GET'],
      ...['X-HTTP-Method-Override: DELETE', 'X-HTTP-Method: DELETE', 'X-Method-Override: DELETE'],
      ...['X-Host: evil.test', 'X-Original-Host: evil.test', 'X-HTTP-Host-Override: evil.test'],
      ...['SCRIPT_NAME: /public', 'PATH_INFO: /admin', 'Script-Name: /public', 'X-Script-Name: /public'],
      ...['x-middleware-subrequest: middleware', 'X-Sendfile-Type: X-Accel-Redirect', 'X-Accel-Mapping: /=/'],
      'Proxy: http://evil.test/',
      // Twins: the same names to CGI, WSGI, PSGI, PHP and lighttpd.
      ...['X_Auth_User: root', 'X-Auth_User: root', 'X_AUTH-USER: root', 'X.Auth.User: root', 'x_auth.user: root'],
      ...['X!Auth!User: root', 'X~Auth|User: root', "X'Auth*User: root", 'X#Auth$User: root', 'X^Auth`User: root'],
      ...['X_Auth_Roles: admin', 'X_Auth_Email: a', 'X_Real_IP: 127.0.0.1', 'X_Forwarded_For: 127.0.0.1'],
      ...['X.Forwarded.Proto: https', 'X_Forwarded_Anything: 1', 'X_Guardbee_Token: 0123456789abcdef', 'X_Api_Key: k'],
      ...['X_Original_URL: /admin', 'X_HTTP_Method_Override: DELETE', 'Remote_User: root', 'True_Client_IP: 1'],
      ...['Content_Length: 5', 'Transfer_Encoding: chunked', 'Proxy_Authorization: x', 'X_Request_Id: 1'],
    ];
    for (const line of DROPPED) {
      test(line, () => {
        assert.deepEqual(read(head1({}, line)).fields, []);
        if (!/^(?:keep-alive|proxy-connection):/i.test(line)) assert.deepEqual(read(head2({}, line)).fields, []);
      });
    }

    const KEPT = [
      ...[
        'Accept: */*',
        'Content-Type: application/json',
        'Cookie: a=b',
        'Origin: http://bee.test',
        'Last-Event-ID: 7',
      ],
      ...['X-Api-Key: k', 'Authorization: Basic eDp5', 'X-Auth-Token: their-own', 'X-Auth-Key: their-own'],
      ...['X-Authority: a', 'X-Forward: a', 'X-Guardbee: a', 'X-Admin-Token: t', 'x_custom: 1', 'a.b: 1', 'Via: 1.1 a'],
      ...['traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'Range: bytes=0-1', 'If-Match: *'],
    ];
    for (const line of KEPT)
      test(`but not ${line}`, () =>
        assert.deepEqual(read(head1({}, line)).fields, fieldsOf(line.replace(/^[^:]+/, (n) => n.toLowerCase()))));
  });

  describe('what is read of them', () => {
    test('credentials, each as often as it was sent', () => {
      const message = read(
        head1(
          {},
          'Authorization: Bearer a',
          'X-Api-Key: b',
          'X-API-KEY: c',
          'X-Guardbee-Token: d',
          'x-guardbee-token: e',
        ),
      );
      assert.equal(message.authorization, 'Bearer a');
      assert.deepEqual(message.apiKey, ['b', 'c']);
      assert.deepEqual(message.guardbeeToken, ['d', 'e']);
    });

    test('two Authorization fields are refused, whatever is in them', () => {
      for (const second of ['Bearer a', 'Basic eDp5', '']) {
        for (const name of ['Authorization', 'AUTHORIZATION']) {
          assert.equal(refusal(head1({}, 'Authorization: Bearer a', `${name}: ${second}`)), 'authorization_repeated');
          assert.equal(refusal(head2({}, 'authorization: Bearer a', `${name}: ${second}`)), 'authorization_repeated');
        }
      }
    });

    test('the user agent, for the log', () => {
      assert.equal(read(head1({}, 'User-Agent: curl/8')).userAgent, 'curl/8');
      assert.equal(read(head1()).userAgent, null);
    });

    test('forwarding fields are joined in order, for who may believe them', () => {
      const message = read(
        head1(
          {},
          'X-Forwarded-For: 10.0.0.1',
          'X-Forwarded-For: 10.0.0.2, 10.0.0.3',
          'X-Forwarded-Proto: https',
          'X-Request-ID: r',
        ),
      );
      assert.equal(message.forwardedFor, '10.0.0.1,10.0.0.2, 10.0.0.3');
      assert.equal(message.forwardedProto, 'https');
      assert.equal(message.requestId, 'r');
      assert.equal(read(head1({}, 'X-Request-ID: a', 'X-Request-ID: b')).requestId, 'a,b');
      assert.equal(read(head1({}, 'X_Forwarded_For: 10.0.0.9')).forwardedFor, null);
    });
  });

  describe('Connection', () => {
    const ROWS: readonly (readonly [lines: readonly string[], left: readonly string[]])[] = [
      [['X-Foo: 1', 'X-Bar: 2', 'Connection: X-Foo'], ['x-bar: 2']],
      [['X-Foo: 1', 'Connection: close, x-FOO'], []],
      [['X-Foo: 1', 'Connection: keep-alive', 'Connection: ,, x-foo ,'], []],
      [['X-Foo: 1', 'X-Foo: 2', 'Connection: x-foo'], []],
      [['X-Foo: 1', 'X-Bar: 2', 'Connection: X-Foo', 'Connection: X-Bar'], []],
      [['Cookie: a=b', 'Connection: cookie'], []],
      [['X-Foo: 1', 'Connection: keep-alive'], ['x-foo: 1']],
      [['X-Foo: 1', 'Connection: x-foo\u00a0'], ['x-foo: 1']],
      [['X-Foo: 1', 'Connection: x_foo'], ['x-foo: 1']],
      [['Close: 1', 'Connection: close'], ['close: 1']],
    ];
    for (const [lines, left] of ROWS) {
      test(JSON.stringify(lines), () => assert.deepEqual(read(head1({}, ...lines)).fields, fieldsOf(...left)));
    }

    test('naming a field there hides it from the upstream, never from us', () => {
      const message = read(
        head1(
          { method: 'POST' },
          'Connection: authorization, x-api-key, x-forwarded-for, content-length, host, x-auth-user',
          'Authorization: Bearer a',
          'X-Api-Key: b',
          'X-Forwarded-For: 10.0.0.1',
          'Content-Length: 5',
        ),
      );
      assert.equal(message.authorization, 'Bearer a');
      assert.deepEqual(message.apiKey, ['b']);
      assert.equal(message.forwardedFor, '10.0.0.1');
      assert.deepEqual(message.framing, length(5));
      assert.equal(message.authority.text, 'bee.test');
      assert.deepEqual(message.fields, []);
    });

    test('many names of many fields take no time to speak of', () => {
      const names = Array.from({ length: 100_000 }, (_, i) => `n${i}`).join(',');
      const fields = Array.from({ length: 900 }, (_, i) => [`f${i}`, '']).flat();
      // The best of several: a busy machine slows some of them, a quadratic reader all.
      const times = Array.from({ length: 5 }, () => {
        const before = performance.now();
        const result = readMessage(head1({ fields: ['host', 'bee.test', 'connection', names, ...fields] }), {
          headBytes: 1024 * 1024,
          headFields: 1000,
        });
        assert.ok(result.ok);
        return performance.now() - before;
      });
      assert.ok(Math.min(...times) < 1_000, times.join(' '));
    });

    for (const line of [
      'connection: close',
      'keep-alive: timeout=5',
      'proxy-connection: close',
      'upgrade: websocket',
    ]) {
      test(`HTTP/2 has none of it: ${line}`, () => assert.equal(refusal(head2({}, line)), 'malformed_head'));
    }
  });

  describe('Expect', () => {
    const post = { method: 'POST' } as const;
    test('100-continue, where there is something to wait for', () => {
      assert.equal(read(head1(post, 'Expect: 100-continue', 'Content-Length: 5')).expectsContinue, true);
      assert.equal(read(head1(post, 'Expect: 100-CONTINUE', 'Transfer-Encoding: chunked')).expectsContinue, true);
      assert.equal(read(head2({ ...post, moreFollows: true }, 'expect: 100-continue')).expectsContinue, true);
      assert.equal(read(head1({}, 'Expect: 100-continue')).expectsContinue, false);
      assert.equal(read(head1(post, 'Content-Length: 5')).expectsContinue, false);
      assert.equal(
        read(head1({ ...post, protocol: '1.0' }, 'Expect: 100-continue', 'Content-Length: 5')).expectsContinue,
        false,
      );
      assert.deepEqual(read(head1(post, 'Expect: 100-continue', 'Content-Length: 5')).fields, []);
    });
    for (const value of ['', '200-ok', '100-continue, x', '100-continue,100-continue', '100', 'x=y']) {
      test(`nothing else: ${JSON.stringify(value)}`, () => {
        assert.equal(refusal(head1(post, `Expect: ${value}`, 'Content-Length: 5')), 'expectation_unsupported');
      });
    }
    test('not twice', () => {
      const twice = ['Expect: 100-continue', 'Expect: 100-continue', 'Content-Length: 5'];
      assert.equal(refusal(head1(post, ...twice)), 'expectation_unsupported');
    });
  });

  describe('upgrades', () => {
    test('a handshake of RFC 6455', () => {
      assert.deepEqual(read(handshake()).webSocket, { key: KEY, subprotocols: [], extensions: null });
      const offer = read(
        handshake(
          'Sec-WebSocket-Protocol: chat, superchat',
          'Sec-WebSocket-Protocol: v2.chat',
          'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits',
          'Sec-WebSocket-Extensions: x-other',
        ),
      ).webSocket;
      assert.deepEqual(offer, {
        key: KEY,
        subprotocols: ['chat', 'superchat', 'v2.chat'],
        extensions: 'permessage-deflate; client_max_window_bits,x-other',
      });
    });

    const base = [
      'Upgrade: websocket',
      'Connection: Upgrade',
      'Sec-WebSocket-Version: 13',
      `Sec-WebSocket-Key: ${KEY}`,
    ];
    const without = (name: string): string[] => base.filter((line) => !line.startsWith(`${name}:`));
    const ROWS: readonly (readonly [lines: readonly string[], outcome: string | null])[] = [
      [['upgrade: WebSocket', ...without('Upgrade')], null],
      [['Connection: keep-alive, upgrade', ...without('Connection')], null],
      [['Connection: keep-alive', ...base], null],
      [['Upgrade: h2c', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: websocket, h2c', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: h2c, websocket', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: websocket/13', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: TLS/1.2', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade:', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: websocket\u00a0', ...without('Upgrade')], 'upgrade_unsupported'],
      [['Upgrade: websocket', ...base], 'upgrade_unsupported'],
      [
        ['Upgrade: h2c', 'Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABkAAQAAP__'],
        'upgrade_unsupported',
      ],
      [without('Connection'), 'upgrade_malformed'],
      [['Connection: keep-alive', ...without('Connection')], 'upgrade_malformed'],
      [['Connection: \u00a0upgrade', ...without('Connection')], 'upgrade_malformed'],
      [['Connection: xupgrade', ...without('Connection')], 'upgrade_malformed'],
      [without('Sec-WebSocket-Version'), 'upgrade_malformed'],
      [['Sec-WebSocket-Version: 8', ...without('Sec-WebSocket-Version')], 'upgrade_malformed'],
      [['Sec-WebSocket-Version: 13, 8', ...without('Sec-WebSocket-Version')], 'upgrade_malformed'],
      [['Sec-WebSocket-Version: 13', ...base], 'upgrade_malformed'],
      [without('Sec-WebSocket-Key'), 'upgrade_malformed'],
      [['Sec-WebSocket-Key:', ...without('Sec-WebSocket-Key')], 'upgrade_malformed'],
      [['Sec-WebSocket-Key: dGhlIHNhbXBsZQ==', ...without('Sec-WebSocket-Key')], 'upgrade_malformed'],
      [['Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBhbmQ=', ...without('Sec-WebSocket-Key')], 'upgrade_malformed'],
      [['Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==', ...without('Sec-WebSocket-Key')], 'upgrade_malformed'],
      [[`Sec-WebSocket-Key: ${KEY}`, ...base], 'upgrade_malformed'],
      [['Content-Length: 5', ...base], 'upgrade_malformed'],
      [['Content-Length: 0', ...base], 'upgrade_malformed'],
      [['Transfer-Encoding: chunked', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: a b', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: "a"', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: a\u00e9', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: bearer,\u00a0token', ...base], 'upgrade_malformed'],
      // Each once (RFC 6455 §4.1): of two credentials, or of one that stands twice, one would go on to the upstream.
      [['Sec-WebSocket-Protocol: chat, chat', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: bearer, one, bearer, two', ...base], 'upgrade_malformed'],
      [['Sec-WebSocket-Protocol: bearer, one', 'Sec-WebSocket-Protocol: one', ...base], 'upgrade_malformed'],
      // Case matters in their names, and base64 has more letters than a token.
      [['Sec-WebSocket-Protocol: chat, CHAT, bearer, a+b/c==', ...base], null],
      [['Sec-WebSocket-Protocol: , ,', ...base], null],
    ];
    for (const [lines, outcome] of ROWS) {
      test(JSON.stringify(lines), () => assert.equal(refusal(head1({}, ...lines)), outcome));
    }

    for (const method of ['POST', 'HEAD', 'OPTIONS', 'PUT']) {
      test(`only GET: ${method}`, () => assert.equal(refusal({ ...handshake(), method }), 'upgrade_malformed'));
    }
    test('not over HTTP/1.0', () => assert.equal(refusal({ ...handshake(), protocol: '1.0' }), 'upgrade_malformed'));

    test('a request that is no handshake carries none of its fields, and no credential in them', () => {
      const lines = ['Sec-WebSocket-Protocol: bearer, 0123456789abcdef', `Sec-WebSocket-Key: ${KEY}`, 'Accept: */*'];
      for (const message of [read(head1({}, ...lines, 'Connection: Upgrade')), read(head2({}, ...lines))]) {
        assert.equal(message.webSocket, null);
        assert.deepEqual(namesOf(message.fields), ['accept']);
      }
    });
  });

  describe('bounds', () => {
    test('fields are counted, those that are dropped too', () => {
      for (const line of ['a: b', 'X-Auth-User: root', 'Cookie: a', 'Connection: close']) {
        const many = (count: number): string[] => Array.from({ length: count }, () => line);
        assert.equal(refusal(head1({}, ...many(9)), { ...LIMITS, headFields: 10 }), null);
        assert.equal(refusal(head1({}, ...many(10)), { ...LIMITS, headFields: 10 }), 'too_many_fields');
      }
    });

    test('bytes are counted: the request line, the lines of all fields', () => {
      const measure = (target: string, ...lines: string[]): number =>
        [`GET ${target} HTTP/1.1`, 'Host: bee.test', ...lines, ''].join('\r\n').length;
      for (const [target, ...lines] of [
        ['/', `A: ${'x'.repeat(900)}`],
        ['/', `${'x'.repeat(900)}: y`],
        [`/${'a'.repeat(900)}`, 'A: b'],
        [`/?${'a'.repeat(900)}`],
        ['/', ...Array.from({ length: 90 }, () => 'X-Auth-User: root')],
      ] as const) {
        const exact = measure(target, ...lines);
        const raw = head1({ target }, ...lines);
        assert.equal(refusal(raw, { ...LIMITS, headBytes: exact }), null);
        assert.equal(refusal(raw, { ...LIMITS, headBytes: exact - 1 }), 'head_too_large');
      }
    });
  });

  test('a head of any kind is read or refused, and what is read holds its promises', () => {
    const name = fc.oneof(
      fc.constantFrom(
        ...['host', 'content-length', 'transfer-encoding', 'connection', 'upgrade', 'expect', 'te', 'authorization'],
        ...['X-Auth-User', 'x_auth_user', 'X-Forwarded-For', 'cookie', 'sec-websocket-key', 'sec-websocket-protocol'],
        ...['Sec-WebSocket-Version', 'x-api-key', 'accept', 'a', 'X-Real-Ip', 'SCRIPT_NAME'],
      ),
      fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 8 }),
    );
    const value = fc.oneof(
      fc.constantFrom(
        'bee.test',
        '5',
        '0',
        'chunked',
        'upgrade',
        'websocket',
        'close, a',
        '13',
        KEY,
        '100-continue',
        'a',
      ),
      fc.string({ unit: fc.nat(255).map((code) => String.fromCharCode(code)), maxLength: 8 }),
    );
    const head = fc.record({
      protocol: fc.constantFrom('1.0', '1.1', '2'),
      scheme: fc.constantFrom('http', 'https'),
      method: fc.constantFrom('GET', 'POST', 'DELETE'),
      target: fc.constantFrom('/', '/a?b', 'http://bee.test/', '//', '/..'),
      authority: fc.constantFrom(null, 'bee.test'),
      fields: fc
        .array(fc.tuple(name, value), { maxLength: 10 })
        .chain((pairs) => fc.boolean().map((named) => (named ? ['host', 'bee.test'] : []).concat(pairs.flat()))),
      moreFollows: fc.boolean(),
    });
    let accepted = 0;
    fc.assert(
      fc.property(head, (raw) => {
        const result = readMessage(raw, LIMITS);
        if (!result.ok) return;
        accepted += 1;
        const { message } = result;
        const hosts = namesOf(raw.fields).flatMap((one, i) => (/^host$/i.test(one) ? [raw.fields[2 * i + 1]] : []));
        assert.ok(hosts.length <= 1);
        assert.equal(message.authority.text, raw.authority ?? hosts[0]);
        const names = namesOf(message.fields);
        for (const one of names) {
          assert.match(one, /^[!#$%&'*+\-.^_`|~0-9a-z]+$/);
          assert.doesNotMatch(
            one.replaceAll(/[^a-z0-9]/g, '-'),
            /^(?:host|content-length|transfer-encoding|connection|upgrade|expect|te|x-(?:auth|forwarded)-.*|x-real-ip|script-name)$/,
          );
        }
        assert.ok(names.filter((one) => one === 'cookie').length <= 1);
        assert.ok(names.filter((one) => one === 'authorization').length <= 1);
        if (message.webSocket !== null) assert.deepEqual(message.framing, NONE);
        if (message.protocol !== '1.1') assert.equal(message.webSocket, null);
        if (message.protocol === '1.0') assert.notEqual(message.framing.kind, 'streamed');
      }),
      { numRuns: 20_000, interruptAfterTimeLimit: 2_000 },
    );
    assert.ok(accepted > 100, String(accepted));
  });
});
