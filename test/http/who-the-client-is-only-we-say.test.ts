import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readMessage } from '../../src/http/message.js';
import { type UpstreamHeadContext, upstreamHead } from '../../src/http/upstream-head.js';
import { LIMITS, fieldsOf, handshake, head1, head2, namesOf, read, valuesOf } from './heads.js';

const CONTEXT: UpstreamHeadContext = {
  client: '192.0.2.7',
  scheme: 'https',
  identity: null,
  strip: new Set(),
  credential: null,
  subprotocols: null,
  bodyBytes: null,
  far: null,
};
const KEEPER = { name: 'keeper', roles: ['operator', 'viewer'] };

const OURS = fieldsOf(
  'x-forwarded-for: 192.0.2.7',
  'x-real-ip: 192.0.2.7',
  'x-forwarded-proto: https',
  'x-forwarded-host: bee.test',
);

describe('who the client is, only we say', () => {
  test('the head: host, the fields that are left, then ours; no more than that', () => {
    assert.deepEqual(upstreamHead(read(head1({}, 'Accept: */*')), CONTEXT), [
      ...fieldsOf('host: bee.test', 'accept: */*'),
      ...OURS,
    ]);
    assert.deepEqual(upstreamHead(read(head2({}, 'accept: */*')), { ...CONTEXT, identity: KEEPER }), [
      ...fieldsOf('host: bee.test', 'accept: */*'),
      ...OURS,
      ...fieldsOf('x-auth-user: keeper', 'x-auth-roles: operator,viewer'),
    ]);
  });

  test('Host goes on as it was sent, also from an absolute form', () => {
    for (const host of ['Bee.TEST:8443', 'bee.test.', '[2001:DB8::1]:80']) {
      const head = upstreamHead(read(head1({ fields: ['Host', host] })), CONTEXT);
      assert.deepEqual(valuesOf(head, 'host'), [host]);
      assert.deepEqual(valuesOf(head, 'x-forwarded-host'), [host]);
    }
    const absolute = read(head1({ target: 'http://BEE.test:80/a' }));
    assert.deepEqual(valuesOf(upstreamHead(absolute, CONTEXT), 'host'), ['bee.test']);
    assert.equal(absolute.target.raw, '/a');
  });

  test('the length is stated where there is one; a body of unknown length is for the sender to frame', () => {
    const post = { method: 'POST' } as const;
    for (const [line, stated] of [
      ['Content-Length: 5', ['5']],
      ['Content-Length: 007', ['7']],
      ['Content-Length: 0', []],
      ['Transfer-Encoding: chunked', []],
    ] as const) {
      const head = upstreamHead(read(head1(post, line)), CONTEXT);
      assert.deepEqual(valuesOf(head, 'content-length'), stated);
      assert.deepEqual(valuesOf(head, 'transfer-encoding'), []);
    }
  });

  test('values are kept byte for byte', () => {
    const bytes = String.fromCharCode(...Array.from({ length: 128 }, (_, i) => 0x80 + i));
    assert.deepEqual(valuesOf(upstreamHead(read(head1({}, `X-Any: ${bytes}`)), CONTEXT), 'x-any'), [bytes]);
  });

  describe('what is stripped is stripped under every name that the upstream may take for it', () => {
    const SPELLINGS = ['X-Admin-Token', 'x_admin_token', 'X.Admin.Token', 'X_Admin-Token', 'X!ADMIN~TOKEN'];
    for (const stripped of ['x-admin-token', 'x_admin_token']) {
      for (const sent of SPELLINGS) {
        test(`${sent}, where the policy strips ${stripped}`, () => {
          const strip = new Set([stripped]);
          const message = read(head1({}, `${sent}: t`, 'X-Admin-Tokens: kept', 'X-Admin: kept'));
          const head = upstreamHead(message, { ...CONTEXT, strip });
          assert.deepEqual(head, [...fieldsOf('host: bee.test', 'x-admin-tokens: kept', 'x-admin: kept'), ...OURS]);
        });
      }
    }

    for (const sent of ['X-Service-Key', 'X_Service_Key', 'x.service.key']) {
      test(`${sent}, where we show the upstream a credential of our own in X-Service-Key`, () => {
        const credential = { field: 'x-service-key', value: 'ours' };
        const head = upstreamHead(read(head1({}, `${sent}: theirs`)), { ...CONTEXT, credential });
        assert.deepEqual(head, [...fieldsOf('host: bee.test', 'x-service-key: ours'), ...OURS]);
      });
    }

    test('a credential of ours takes the place of theirs, in the same field', () => {
      const credential = { field: 'authorization', value: 'Basic b3Vycw==' };
      const head = upstreamHead(read(head1({}, 'Authorization: Bearer theirs')), { ...CONTEXT, credential });
      assert.deepEqual(valuesOf(head, 'authorization'), ['Basic b3Vycw==']);
      const both = { ...CONTEXT, credential, strip: new Set(['authorization']) };
      assert.deepEqual(valuesOf(upstreamHead(read(head1()), both), 'authorization'), ['Basic b3Vycw==']);
    });

    test('a credential goes on where no carrier of the route is its field', () => {
      const head = upstreamHead(read(head1({}, 'Authorization: Basic eDp5', 'X-Api-Key: k')), {
        ...CONTEXT,
        strip: new Set(['x-api-key']),
      });
      assert.deepEqual(valuesOf(head, 'authorization'), ['Basic eDp5']);
      assert.deepEqual(valuesOf(head, 'x-api-key'), []);
    });
  });

  describe('subprotocols', () => {
    const message = read(handshake('Sec-WebSocket-Protocol: chat, bearer', 'Sec-WebSocket-Protocol: token, v2'));
    const offered = (subprotocols: readonly string[] | null): string[] =>
      valuesOf(upstreamHead(message, { ...CONTEXT, subprotocols }), 'sec-websocket-protocol');
    test('as they came', () => assert.deepEqual(offered(null), ['chat, bearer', 'token, v2']));
    test('those that are left, in one field', () => assert.deepEqual(offered(['chat', 'v2']), ['chat, v2']));
    test('none', () => assert.deepEqual(offered([]), []));
  });

  test('whatever a client sends, the upstream hears one client, one identity, and both from us', () => {
    /** Names that say who somebody is, in every writing that any server takes for them. */
    const base = fc.constantFrom(
      ...['x-auth-user', 'x-auth-roles', 'x-auth-email', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host'],
      ...['x-forwarded-user', 'x-forwarded-port', 'x-real-ip', 'x-request-id', 'x-guardbee-token', 'forwarded'],
      ...['remote-user', 'x-original-url', 'x-http-method-override', 'x-admin-token', 'x-service-key', 'host'],
    );
    const name = base.chain((text) =>
      fc
        .array(fc.constantFrom('-', '_', '.', '!', '~', '|', '*', "'"), { minLength: 6, maxLength: 6 })
        .chain((separators) =>
          fc
            .array(fc.boolean(), { minLength: text.length, maxLength: text.length })
            .map((upper) =>
              [...text]
                .map((c, i) => (c === '-' ? (separators[i % 6] ?? '-') : upper[i] === true ? c.toUpperCase() : c))
                .join(''),
            ),
        ),
    );
    const field = fc.oneof(
      fc.tuple(name, fc.constantFrom('root', '127.0.0.1', 'evil.test', 'https', '')),
      fc.tuple(fc.constantFrom('Accept', 'Cookie', 'X-Any', 'x_any'), fc.constantFrom('a', 'b')),
      fc.tuple(
        fc.constant('Connection'),
        fc.array(base, { maxLength: 3 }).map((names) => names.join(', ')),
      ),
    );
    const identity = fc.constantFrom(null, KEEPER);
    const credential = fc.constantFrom(null, { field: 'x-service-key', value: 'ours' });
    const ours = /^(?:x-auth-.*|x-forwarded-.*|x-real-ip|x-request-id|host|forwarded|remote-user|x-guardbee-.*)$/;
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(field, { maxLength: 12 }), identity, credential, fc.boolean(), (pairs, who, shown, h2) => {
        const list = pairs.flat();
        const raw = h2 ? head2({ fields: list }) : head1({ fields: ['Host', 'bee.test', ...list] });
        const result = readMessage(raw, LIMITS);
        if (!result.ok) return;
        accepted += 1;
        const strip = new Set(['x-admin-token']);
        const head = upstreamHead(result.message, { ...CONTEXT, identity: who, credential: shown, strip });
        const said = namesOf(head).flatMap((one, i) => {
          const twin = one.replaceAll(/[^a-z0-9]/g, '-');
          return ours.test(twin) || /^x-(?:admin-token|original-url|http-method-override)$/.test(twin)
            ? [one, head[2 * i + 1]]
            : [];
        });
        assert.deepEqual(said, [
          ...fieldsOf('host: bee.test'),
          ...OURS,
          ...(who === null ? [] : fieldsOf('x-auth-user: keeper', 'x-auth-roles: operator,viewer')),
        ]);
        if (shown === null) return;
        const keys = namesOf(head).filter((one) => one.replaceAll(/[^a-z0-9]/g, '-') === 'x-service-key');
        assert.deepEqual(keys, ['x-service-key']);
        assert.deepEqual(valuesOf(head, 'x-service-key'), ['ours']);
      }),
      { numRuns: 5_000, interruptAfterTimeLimit: 2_000 },
    );
    assert.ok(accepted > 100, String(accepted));
  });
});
