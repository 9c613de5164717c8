import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Permit } from '../../src/gate/authorize.js';
import type { RawHead } from '../../src/http/message.js';
import type { HttpListener } from '../../src/policy/policy.js';
import { offeredUpstream, requestHead } from '../../src/proxy/request-head.js';
import { NOW, address, bearer, listenerOf, tokenEntry, decide } from '../gate/listeners.js';
import { handshake, head1, namesOf, read, valuesOf } from '../http/heads.js';

const TOKEN = 'token-of-keeper-0123456789';
const entries = [tokenEntry({ token: TOKEN })];

function permitted(listener: HttpListener, raw: RawHead): Permit {
  const decision = decide(listener, read(raw), address('127.0.0.1'), NOW);
  assert.ok(decision.allow, decision.allow ? '' : decision.reason);
  return decision;
}

/** `/` needs a token, `/open` does not; `/own` takes X-Api-Key alone. */
const listener = listenerOf({
  authenticators: [bearer(entries, ['authorization', 'x_guardbee_token', 'subprotocol'])],
  routes: [
    { path: '/', access: ['read'] },
    { path: '/open', access: 'public' },
    { path: '/own', access: ['read'], authenticators: [bearer(entries, ['x_api_key'], 'own')] },
    {
      path: '/upstream-auth',
      access: ['read'],
      upstreamAuth: { field: 'authorization', value: 'Bearer for-the-upstream' },
    },
  ],
  stripRequestHeaders: ['x-admin-token'],
});

const head = (raw: RawHead): readonly string[] => requestHead(permitted(listener, raw), 'nothing').fields;
const proxied = (target: string, ...lines: readonly string[]): readonly string[] => head(head1({ target }, ...lines));

describe('credentials meant for us go no further', () => {
  test('the one that was used', () => {
    for (const line of [`Authorization: Bearer ${TOKEN}`, `X-Guardbee-Token: ${TOKEN}`]) {
      const sent = proxied('/', line);
      assert.ok(!sent.some((text) => text.includes(TOKEN)), line);
      assert.deepEqual(valuesOf(sent, 'x-auth-user'), ['keeper']);
    }
  });

  test('one of another scheme, in a field where we take ours', () => {
    const sent = proxied('/', 'Authorization: Basic eDp5', `X-Guardbee-Token: ${TOKEN}`);
    assert.deepEqual(valuesOf(sent, 'authorization'), []);
  });

  test("one in a field that this route does not take goes on: it is the upstream's", () => {
    assert.deepEqual(valuesOf(proxied('/', `Authorization: Bearer ${TOKEN}`, 'X-Api-Key: theirs'), 'x-api-key'), [
      'theirs',
    ]);
    assert.deepEqual(valuesOf(proxied('/own', 'Authorization: Basic eDp5', `X-Api-Key: ${TOKEN}`), 'authorization'), [
      'Basic eDp5',
    ]);
  });

  test('on a public route, where nobody asks for it, whatever any route of the listener takes', () => {
    const sent = proxied(
      '/open',
      `Authorization: Bearer ${TOKEN}`,
      `X-Api-Key: ${TOKEN}`,
      `X-Guardbee-Token: ${TOKEN}`,
      `X_Api_Key: ${TOKEN}`,
      'X-Admin-Token: a',
      'Accept: */*',
    );
    assert.ok(!sent.some((text) => text.includes(TOKEN)));
    assert.deepEqual(
      namesOf(sent).filter((name) => !name.startsWith('x-')),
      ['host', 'accept'],
    );
    assert.deepEqual(valuesOf(sent, 'x-auth-user'), []);
  });

  test("where no route takes any, a public route's fields go on", () => {
    const open = listenerOf({ routes: [{ path: '/', access: 'public' }] });
    const sent = requestHead(permitted(open, head1({}, 'Authorization: Basic eDp5', 'X-Api-Key: k')), 'nothing').fields;
    assert.deepEqual(valuesOf(sent, 'authorization'), ['Basic eDp5']);
    assert.deepEqual(valuesOf(sent, 'x-api-key'), ['k']);
  });

  test('ours for the upstream takes their place', () => {
    for (const line of [`Authorization: Bearer ${TOKEN}`, `X-Guardbee-Token: ${TOKEN}`]) {
      assert.deepEqual(valuesOf(proxied('/upstream-auth', line), 'authorization'), ['Bearer for-the-upstream']);
    }
  });

  describe('in the list of subprotocols', () => {
    const upgrade = (target: string, ...lines: readonly string[]): RawHead => ({ ...handshake(...lines), target });
    const offered = (raw: RawHead): readonly string[] | null => offeredUpstream(permitted(listener, raw));

    test('the pair is taken out, the others stay', () => {
      const raw = upgrade('/', `Sec-WebSocket-Protocol: chat, bearer, ${TOKEN}, v2`);
      assert.deepEqual(offered(raw), ['chat', 'v2']);
      assert.deepEqual(valuesOf(head(raw), 'sec-websocket-protocol'), ['chat, v2']);
      const alone = upgrade('/', `Sec-WebSocket-Protocol: bearer, ${TOKEN}`);
      assert.deepEqual(offered(alone), []);
      assert.ok(!head(alone).some((text) => text.includes(TOKEN)));
    });

    test('on a public route too', () => {
      const raw = upgrade('/open', 'Sec-WebSocket-Protocol: bearer', `Sec-WebSocket-Protocol: ${TOKEN}, chat`);
      assert.deepEqual(offered(raw), ['chat']);
      assert.ok(!head(raw).some((text) => text.includes(TOKEN)));
    });

    test('where the carrier is not enabled the list goes on as it came', () => {
      const raw = upgrade('/own', 'Sec-WebSocket-Protocol: bearer, theirs', `X-Api-Key: ${TOKEN}`);
      assert.equal(offered(raw), null);
      assert.deepEqual(valuesOf(head(raw), 'sec-websocket-protocol'), ['bearer, theirs']);
    });

    test('outside a handshake the field goes nowhere', () => {
      const sent = proxied('/open', `Sec-WebSocket-Protocol: bearer, ${TOKEN}`);
      assert.ok(!sent.some((text) => text.includes(TOKEN)));
    });
  });
});
