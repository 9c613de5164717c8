import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseDocument } from '../../src/policy/document.js';
import { tokensFileSchema } from '../../src/policy/schema.js';
import { validate } from '../../src/policy/validate.js';
import { sha256Hex } from '../../src/secret/digest.js';
import { NOW, authenticateOn, bearer, compileRoutes, tokenEntry } from '../gate/listeners.js';
import { head1, read } from '../http/heads.js';

const tokenOf = (i: number): string => `a-token-of-many-${i}`;

/** CPU time of this process, in microseconds for each look-up: what others do on the same cores is not in it. */
function lookUps(count: number): () => number {
  const entries = Array.from({ length: count }, (_, i) => tokenEntry({ name: `t${i}`, token: tokenOf(i) }));
  const { route } = compileRoutes([{ path: '/', access: ['read'], authenticators: [bearer(entries)] }])[0]!;
  // The first, the last, one in between, and one that is nobody's.
  const messages = [0, count - 1, count >> 1, -1].map((i) => read(head1({}, `Authorization: Bearer ${tokenOf(i)}`)));
  const ROUNDS = 2_000;
  return () => {
    const before = process.cpuUsage();
    let known = 0;
    for (let round = 0; round < ROUNDS; round++) {
      for (const message of messages) if (authenticateOn(route, message, NOW).ok) known++;
    }
    const { user, system } = process.cpuUsage(before);
    assert.equal(known, ROUNDS * 3);
    return (user + system) / (ROUNDS * messages.length);
  };
}

test('10,000 tokens cost per request what 10 do', (t) => {
  const few = lookUps(10);
  const many = lookUps(10_000);
  const best = { few: Infinity, many: Infinity };
  for (let round = 0; round < 12; round++) {
    best.few = Math.min(best.few, few());
    best.many = Math.min(best.many, many());
  }
  t.diagnostic(`${best.few.toFixed(2)} µs with 10, ${best.many.toFixed(2)} µs with 10,000`);
  // A walk over the list would be some hundred times as much.
  assert.ok(best.many < best.few * 1.5 + 0.5, `${best.few} µs with 10, ${best.many} µs with 10,000`);
});

test('a file of ten times as many tokens is read in some ten times as long', (t) => {
  const text = (count: number): string =>
    `tokens:\n${Array.from({ length: count }, (_, i) => `  - { name: t${i}, roles: [viewer], sha256: "${sha256Hex(tokenOf(i))}" }\n`).join('')}`;
  const readIt = (document: string, count: number): number => {
    const before = process.cpuUsage();
    const { value, issues } = validate(parseDocument(document, 'tokens.yaml'), tokensFileSchema);
    const { user, system } = process.cpuUsage(before);
    assert.deepEqual([value?.tokens.length, issues], [count, []]);
    return (user + system) / 1000;
  };
  const [few, many] = [text(1_000), text(10_000)];
  const best = { few: Infinity, many: Infinity };
  for (let round = 0; round < 3; round++) {
    best.few = Math.min(best.few, readIt(few, 1_000));
    best.many = Math.min(best.many, readIt(many, 10_000));
  }
  t.diagnostic(`${best.few.toFixed(0)} ms for 1,000, ${best.many.toFixed(0)} ms for 10,000`);
  // Quadratic would be a hundred times. The collector has more to do, the larger the tree is.
  assert.ok(best.many < best.few * 35 + 500, `${best.few} ms for 1,000, ${best.many} ms for 10,000`);
});
