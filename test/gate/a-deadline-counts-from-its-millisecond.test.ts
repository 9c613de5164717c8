import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Decision } from '../../src/gate/authorize.js';
import { decide as decideCaller, type Means, MEANS_OF_POLICY } from '../../src/gate/decide.js';
import type { HttpListener } from '../../src/policy/policy.js';
import { head1, read } from '../http/heads.js';
import { NOW, UNDERWAY, address, bearer, callerAt, listenerOf, tokenEntry } from './listeners.js';

const TOKEN = 'a-token-of-more-than-sixteen';
const keys = bearer([tokenEntry({ token: TOKEN })]);
const LISTENER = listenerOf({
  routes: [
    { name: 'health', path: '/health', access: 'public' },
    { name: 'closed', path: '/closed', access: 'deny' },
    { name: 'rest', path: '/**' },
  ],
  authenticators: [keys],
});

interface Asked {
  readonly decision: Decision;
  /** What was said of its end, in order. */
  readonly ends: readonly number[];
}

function ask(
  fields: readonly string[],
  { path = '/x', listener = LISTENER, nowMs = NOW }: { path?: string; listener?: HttpListener; nowMs?: number } = {},
): Asked {
  const ends: number[] = [];
  const underway = { ...UNDERWAY, endBy: (atMs: number) => ends.push(atMs) };
  const message = read(head1({ target: path }, ...fields));
  const decision = decideCaller(listener, message, callerAt(address('127.0.0.1')), nowMs, underway, MEANS_OF_POLICY);
  assert.ok(!(decision instanceof Promise));
  return { decision, ends };
}

const reason = ({ decision }: Asked): string => (decision.allow ? 'allowed' : decision.reason);
const token = `Authorization: Bearer ${TOKEN}`;

test('a deadline is past in its own millisecond, and not in the one before', () => {
  for (const [atMs, said] of [
    [0, 'deadline_passed'],
    [NOW - 1, 'deadline_passed'],
    [NOW, 'deadline_passed'],
    [NOW + 1, 'allowed'],
    [NOW + 60_000, 'allowed'],
  ] as const) {
    const asked = ask([token, `X-Deadline: ${atMs}`]);
    assert.equal(reason(asked), said);
    assert.deepEqual(asked.ends, atMs > NOW ? [atMs] : []);
    const written = ask([token, `X-Deadline: ${new Date(atMs).toISOString()}`]);
    assert.equal(reason(written), said);
  }
});

test('who may not ask is told nothing of deadlines', () => {
  for (const deadline of ['0', 'nonsense']) {
    const field = `X-Deadline: ${deadline}`;
    assert.equal(reason(ask([field])), 'credential_missing');
    assert.equal(reason(ask([field, 'Authorization: Bearer another-one-that-is-not-it'])), 'credential_invalid');
    assert.equal(reason(ask([field], { path: '/closed' })), 'route_denied');
    // Whoever may ask is.
    assert.equal(
      reason(ask([field], { path: '/health' })),
      deadline === '0' ? 'deadline_passed' : 'deadline_malformed',
    );
    assert.equal(reason(ask([field, token])), deadline === '0' ? 'deadline_passed' : 'deadline_malformed');
  }
});

test('the time of the route counts as well, and neither extends the other', () => {
  const limited = listenerOf({ routes: [{ path: '/**', wholeMs: 5_000 }], authenticators: [keys] });
  assert.deepEqual(ask([token], { listener: limited }).ends, [NOW + 5_000]);
  assert.deepEqual(ask([token, `X-Deadline: ${NOW + 100}`], { listener: limited }).ends, [NOW + 5_000, NOW + 100]);
  // The deadline is over, and still only for those who may ask.
  assert.equal(reason(ask([token, `X-Deadline: ${NOW}`], { listener: limited })), 'deadline_passed');
  assert.deepEqual(ask([token]).ends, [], 'without either nothing is counted');
});

test('where deadlines are off the field is one like any other', () => {
  const off: HttpListener = { ...LISTENER, deadlines: null };
  for (const field of ['X-Deadline: 0', 'X-Deadline: nonsense', `X-Deadline: ${NOW + 5}`]) {
    const asked = ask([token, field], { listener: off });
    assert.equal(reason(asked), 'allowed');
    assert.deepEqual(asked.ends, []);
  }
});

test('the time begins before the credential is checked', async () => {
  const order: string[] = [];
  let proven: () => void = () => undefined;
  const means: Means = {
    ...MEANS_OF_POLICY,
    prove: async (...asked) => {
      order.push('asked');
      await new Promise<void>((resolve) => {
        proven = resolve;
      });
      return await MEANS_OF_POLICY.prove(...asked);
    },
  };
  const underway = {
    ...UNDERWAY,
    endBy: (): void => {
      order.push('counting');
    },
  };
  const message = read(head1({}, token, `X-Deadline: ${NOW + 5}`));
  const pending = decideCaller(LISTENER, message, callerAt(address('127.0.0.1')), NOW, underway, means);
  assert.ok(pending instanceof Promise);
  assert.deepEqual(order, ['counting', 'asked']);
  proven();
  assert.equal((await pending).allow, true);
});
