import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import * as path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadPolicyText } from '../../src/policy/load.js';
import type { LoadOptions } from '../../src/policy/load.js';
import { renderIssues } from '../../src/policy/render-issues.js';
import { NOW, POLICIES } from './policy-fixture.js';

const TIME_LIMIT_MS = 2500;

/** As they are pasted by mistake: a token where its digest belongs, a password where a reference belongs. */
const SECRETS = ['s3cr3tS3cr3tS3cr3t42', 'gb_7Hq2mVx0Lr9TzKb4WnYd', 'sk-proj4bW9xQ2mT7vL1cRz8'];

function plant(text: string): string {
  return text
    .replace(/sha256: "[^"]+"/, `sha256: ${SECRETS[0] ?? ''}`)
    .replace('token: { file: upstream-token.txt }', `token: ${SECRETS[1] ?? ''}`)
    .replace('password: { credential: upstream-token }', `password: "${SECRETS[2] ?? ''}"`);
}

type Mutation = (text: string) => string;

const at = (text: string, place: number): number => Math.floor(place * text.length);
const lineAt = (lines: readonly string[], place: number): number =>
  Math.min(lines.length - 1, Math.floor(place * lines.length));
const place = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const bit = fc.constantFrom(
  '{',
  '}',
  '[',
  ']',
  ':',
  ': ',
  ',',
  '"',
  "'",
  '\n',
  '  ',
  '\t',
  '#',
  '*',
  '&a',
  '!t',
  '- ',
  '~',
  '0',
  '\u0000',
  '|',
  '>',
  '<<: ',
  '%',
  '...\n',
  '---\n',
  '🐝',
);

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ place, length: fc.nat(3) }).map(
    ({ place, length }): Mutation =>
      (text) =>
        text.slice(0, at(text, place)) + text.slice(at(text, place) + length + 1),
  ),
  fc.record({ place, bit }).map(
    ({ place, bit }): Mutation =>
      (text) =>
        text.slice(0, at(text, place)) + bit + text.slice(at(text, place)),
  ),
  fc.record({ place, to: place }).map(({ place, to }): Mutation => (text) => {
    const lines = text.split('\n');
    const [moved = ''] = lines.splice(lineAt(lines, place), 1);
    lines.splice(lineAt(lines, to), 0, moved);
    return lines.join('\n');
  }),
  place.map((place): Mutation => (text) => {
    const lines = text.split('\n');
    lines.splice(lineAt(lines, place), 0, lines[lineAt(lines, place)] ?? '');
    return lines.join('\n');
  }),
  fc.record({ place, indent: fc.constantFrom('', '  ', '      ') }).map(({ place, indent }): Mutation => (text) => {
    const lines = text.split('\n');
    const line = lineAt(lines, place);
    lines[line] = indent + (lines[line] ?? '').trimStart();
    return lines.join('\n');
  }),
  place.map(
    (place): Mutation =>
      (text) =>
        text.slice(0, at(text, place)),
  ),
  // Two keys exchanged, so that a value stands under another one's key.
  fc.record({ one: place, other: place }).map(({ one, other }): Mutation => (text) => {
    const keys = [...text.matchAll(/[a-z_]+(?=:)/g)];
    const [a, b] = [keys[Math.floor(one * keys.length)]?.[0], keys[Math.floor(other * keys.length)]?.[0]];
    return a === undefined || b === undefined
      ? text
      : text.replaceAll(new RegExp(`\\b(?:${a}|${b})(?=:)`, 'g'), (key) => (key === a ? b : a));
  }),
);

test('no mutation of a policy throws or tells a secret', async () => {
  const good = await readFile(path.join(POLICIES, 'good', 'everything.yaml'), 'utf8');
  const planted = plant(good);
  for (const secret of SECRETS) assert.ok(planted.includes(secret));
  const options: LoadOptions = { env: {}, now: NOW, lookup: () => Promise.resolve([{ address: '127.0.0.1' }]) };
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 6 }), fc.boolean(), async (mutations, skip) => {
      const text = mutations.reduce((before, mutate) => mutate(before), planted);
      const loaded = await loadPolicyText(text, '/nonexistent/policy.yaml', { ...options, skipSecretFiles: skip });
      const issues = loaded.ok ? loaded.warnings : loaded.issues;
      const told = renderIssues(issues) + JSON.stringify(issues);
      for (const secret of SECRETS) assert.ok(!told.includes(secret), told);
      for (const line of renderIssues(issues).split('\n')) assert.ok(line.length < 1200, line);
      if (!loaded.ok)
        assert.ok(
          issues.some((issue) => issue.severity === 'error'),
          'refused without a reason',
        );
    }),
    { numRuns: 100_000, interruptAfterTimeLimit: TIME_LIMIT_MS },
  );
});

test('no text at all makes it throw', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.string({ unit: 'binary', maxLength: 300 }),
        fc.array(bit, { maxLength: 60 }).map((bits) => bits.join('')),
      ),
      async (text) => {
        const loaded = await loadPolicyText(text, 'policy.yaml', { env: {}, now: NOW });
        assert.equal(loaded.ok, false);
      },
    ),
    { numRuns: 100_000, interruptAfterTimeLimit: 1000 },
  );
});

test('what is nested without end is refused, and does not end the process', async () => {
  for (const piece of ['[', '{a: ', '- ', '? ', '!x &a [ ', '"', '{{', '[{']) {
    const loaded = await loadPolicyText(piece.repeat(20_000), 'policy.yaml', { env: {}, now: NOW });
    assert.equal(loaded.ok, false);
  }
});
