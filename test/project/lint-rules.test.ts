import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { ESLint } from 'eslint';
import { writeFileIn } from '../support/policy-builder.js';
import { REPOSITORY } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const PURE = 'src/denial.ts';
const OTHER = 'src/demo/demo.ts';

/** For the types in the texts below it is enough to know these two files and what they import. */
const folder = new TemporaryDirectory();
after(() => {
  folder.remove();
});
const project = writeFileIn(
  folder,
  'tsconfig.json',
  JSON.stringify({
    extends: join(REPOSITORY, 'tsconfig.json'),
    compilerOptions: { rootDir: REPOSITORY, typeRoots: [join(REPOSITORY, 'node_modules', '@types')] },
    include: [],
    files: [PURE, OTHER].map((file) => join(REPOSITORY, file)),
  }),
);

const eslint = new ESLint({
  cwd: REPOSITORY,
  // The texts stand in no file, and a program that is made for a single run knows files alone.
  overrideConfig: {
    languageOptions: { parserOptions: { project, disallowAutomaticSingleRunInference: true } },
  },
});

/** Rules that complain about a text, as if it stood in that file. The file must exist: the compiler reads types from it. */
async function complaints(file: string, text: string): Promise<string[]> {
  const [result] = await eslint.lintText(text, { filePath: join(REPOSITORY, file) });
  return (result?.messages ?? []).map((message) => `${String(message.ruleId)}: ${message.message}`);
}

describe('lint rules', () => {
  const CASES = [
    ['a clock in a pure folder', PURE, 'export const now = Date.now();', /no-restricted-properties.*nowMs/],
    ['a date of now in a pure folder', PURE, 'export const now = new Date();', /no-restricted-syntax.*nowMs/],
    [
      'I/O in a pure folder',
      PURE,
      `import { readFileSync } from 'node:fs';\nexport const x = readFileSync('x');`,
      /no-restricted-imports.*does no I\/O/,
    ],
    [
      'the environment in a pure folder',
      PURE,
      `export const x = process.env['X'];`,
      /no-restricted-globals.*parameter/,
    ],
    ['console anywhere in src', OTHER, `console.log('x');`, /no-restricted-globals.*Only observe\/log writes/],
    [
      'a promise nobody waits for',
      OTHER,
      `async function f(): Promise<void> { await Promise.resolve(); }\nf();`,
      /no-floating-promises/,
    ],
    ['any', OTHER, 'export function f(x: any): void { x(); }', /no-explicit-any/],
    [
      'a switch that forgot a case',
      OTHER,
      `export function f(x: 'a' | 'b'): number { switch (x) { case 'a': return 1; } return 2; }`,
      /switch-exhaustiveness-check/,
    ],
    [
      'a default that would swallow the next case',
      OTHER,
      `export function f(x: 'a' | 'b'): number { switch (x) { case 'a': return 1; case 'b': return 2; default: return 3; } }`,
      /switch-exhaustiveness-check/,
    ],
    [
      'a value import of a type',
      OTHER,
      `import { Server } from 'node:http';\nexport type S = Server;`,
      /consistent-type-imports/,
    ],
    [
      'a suppression without a reason',
      OTHER,
      `// eslint-disable-next-line no-eval\neval('1');`,
      /explained-suppressions.*Say why/,
    ],
    [
      'a suppression without a rule',
      OTHER,
      `// eslint-disable-next-line -- because\neval('1');`,
      /explained-suppressions.*Name the rule/,
    ],
    [
      'a suppression of a whole file',
      OTHER,
      `/* eslint-disable no-eval -- because */\neval('1');`,
      /explained-suppressions.*one line/,
    ],
    [
      'a suppression of nothing',
      OTHER,
      `// eslint-disable-next-line no-eval -- because\nexport const x = 1;`,
      /Unused eslint-disable/,
    ],
    ['ts-ignore', OTHER, `// @ts-ignore\nexport const x = 1;`, /ban-ts-comment/],
    ['ts-expect-error without a reason', OTHER, `// @ts-expect-error\nexport const x: number = '1';`, /ban-ts-comment/],
    ['a deprecated call', OTHER, `export const x = Buffer.from('a').slice(0);`, /no-deprecated/],
  ] as const;
  for (const [name, file, text, complaint] of CASES) {
    test(`complain about ${name}`, async () => {
      const found = await complaints(file, text);
      assert.ok(
        found.some((message) => complaint.test(message)),
        found.join('\n'),
      );
    });
  }

  test('let an explained suppression pass, and types of I/O modules', async () => {
    assert.deepEqual(
      await complaints(OTHER, `// eslint-disable-next-line no-eval -- this is a test\neval('1');\n`),
      [],
    );
    assert.deepEqual(
      await complaints(PURE, `import type { IncomingMessage } from 'node:http';\nexport type M = IncomingMessage;\n`),
      [],
    );
  });
});
