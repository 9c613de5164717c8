import assert from 'node:assert/strict';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, test } from 'node:test';
import { writeFileIn } from '../support/policy-builder.js';
import { REPOSITORY } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

interface House {
  readonly order: readonly (readonly string[])[];
  readonly pure: readonly string[];
  readonly doors: Readonly<Record<string, readonly string[]>>;
  readonly harmless: Readonly<Record<string, readonly string[]>>;
  readonly packages: Readonly<Record<string, readonly string[]>>;
}

interface Script {
  readonly checkImports: (src: string, house: House, dependencies: readonly string[]) => string[];
}

const { checkImports } = (await import(pathToFileURL(join(REPOSITORY, 'scripts', 'check-imports.mjs')).href)) as Script;

const HOUSE: House = {
  order: [['base.ts'], ['left', 'right'], ['top']],
  pure: ['base.ts', 'left'],
  doors: { 'left/load.ts': ['node:fs'] },
  harmless: { 'node:net': ['isIP'] },
  packages: { undici: ['top'] },
};

/** A tree in which every rule of HOUSE is used and none is broken. */
const TREE: Readonly<Record<string, string>> = {
  'base.ts': `export const base = 1;`,
  'left/left.ts': `import { isIP } from 'node:net';\nimport { createHash } from 'node:crypto';\nimport { base } from '../base.js';`,
  'left/load.ts': `import { readFileSync } from 'node:fs';\nimport './left.js';`,
  'right/right.ts': `import { connect } from 'node:net';`,
  'top/top.ts': `import { request } from 'undici';\nimport { left } from '../left/left.js';\nconst late = await import('../right/right.js');`,
};

function problems(
  changes: Readonly<Record<string, string>>,
  house: Partial<House> = {},
  dependencies = ['undici'],
): string[] {
  using directory = new TemporaryDirectory();
  for (const [name, text] of Object.entries({ ...TREE, ...changes }))
    writeFileIn(directory, `src/${name}`, `${text}\n`);
  return checkImports(directory.file('src'), { ...HOUSE, ...house }, dependencies);
}

describe('import order', () => {
  test('a tree that keeps to it has no problems', () => {
    assert.deepEqual(problems({}), []);
  });

  const BROKEN = [
    [
      'downwards',
      'base.ts',
      `import '../src/top/top.js';`,
      /^src\/base\.ts:1: base\.ts imports top, which does not stand above/,
    ],
    ['downwards, late', 'base.ts', `\nconst x = import('./left/left.js');`, /^src\/base\.ts:2: base\.ts imports left/],
    [
      'downwards, by re-export',
      'base.ts',
      `export * from './left/left.js';`,
      /^src\/base\.ts:1: base\.ts imports left/,
    ],
    [
      'downwards, a type',
      'base.ts',
      `import type { A } from './left/left.js';`,
      /^src\/base\.ts:1: base\.ts imports left/,
    ],
    ['downwards, a type in passing', 'base.ts', `export type A = import('./left/left.js').A;`, /base\.ts imports left/],
    ['sideways', 'right/a.ts', `import '../left/left.js';`, /^src\/right\/a\.ts:1: right imports left/],
    ['out of src', 'base.ts', `import '../test/x.js';`, /outside of src/],
    ['what is not there', 'base.ts', `import './gone.js';`, /which is not there/],
    [
      'I/O in a pure folder',
      'left/a.ts',
      `import { readFile } from 'node:fs/promises';`,
      /left does no I\/O; the doors are left\/load\.ts/,
    ],
    ['I/O for its side effect', 'left/a.ts', `import 'node:http';`, /left does no I\/O/],
    ['more than is harmless', 'left/a.ts', `import { isIP, connect } from 'node:net';`, /left does no I\/O/],
    [
      'other I/O through a door',
      'left/load.ts',
      `import 'node:fs';\nimport 'node:http';`,
      /^src\/left\/load\.ts:2: imports node:http/,
    ],
    [
      "a package in another's place",
      'right/a.ts',
      `import { Pool } from 'undici';`,
      /imports undici, which only top may/,
    ],
    ["a package's type", 'right/a.ts', `import type { Pool } from 'undici';`, /imports undici, which only top may/],
    ['a package by a path in it', 'right/a.ts', `import 'undici/lib/x.js';`, /imports undici, which only top may/],
    [
      'a package nobody knows',
      'top/a.ts',
      `import '@scope/name/sub';`,
      /imports @scope\/name, which is not in the table/,
    ],
    ['a module of Node by its old name', 'top/a.ts', `import 'fs';`, /written node:fs/],
    ['a name made at run time', 'top/a.ts', `await import(process.argv[2]);`, /made at run time/],
    ['a folder without a place', 'new/a.ts', ``, /new has no place in the order/],
  ] as const;
  for (const [name, file, text, complaint] of BROKEN) {
    test(`finds an import ${name}`, () => {
      const found = problems({ [file]: text }).filter((problem) => !/stale rule|import cycle/.test(problem));
      assert.equal(found.length, 1, found.join('\n'));
      assert.match(found[0] ?? '', complaint);
    });
  }

  test('finds a cycle of values, and lets types refer to each other', () => {
    assert.deepEqual(
      problems({ 'top/a.ts': `import { b } from './b.js';`, 'top/b.ts': `import { type B, a } from './a.js';` }),
      ['import cycle: src/top/a.ts → src/top/b.ts → src/top/a.ts'],
    );
    assert.deepEqual(
      problems({ 'top/a.ts': `import { b } from './b.js';`, 'top/b.ts': `import { type A } from './a.js';` }),
      [],
    );
  });

  const STALE = [
    ['a place without a folder', { order: [...HOUSE.order, ['gone']] }, /there is no src\/gone/],
    ['a pure folder without a place', { pure: [...HOUSE.pure, 'gone'] }, /gone is called pure/],
    [
      'a door nobody uses',
      { doors: { ...HOUSE.doors, 'left/left.ts': ['node:fs'] } },
      /left\/left\.ts does not import node:fs/,
    ],
    ['a harmless name nobody uses', { harmless: { 'node:net': ['isIP', 'isIPv6'] } }, /no pure folder imports isIPv6/],
    ['a package edge nobody uses', { packages: { undici: ['top', 'right'] } }, /src\/right does not import undici/],
    ['a package that is no dependency', { packages: { undici: ['top'], pino: [] } }, /does not depend on pino/],
  ] as const;
  for (const [name, house, complaint] of STALE) {
    test(`a stale rule is an error: ${name}`, () => {
      const found = problems({}, house);
      assert.equal(found.length, 1, found.join('\n'));
      assert.match(found[0] ?? '', complaint);
    });
  }

  test('a dependency that nothing uses is an error', () => {
    assert.match(problems({}, {}, ['undici', 'left-pad'])[0] ?? '', /nothing in the table uses left-pad/);
  });
});
