import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { COMPONENTS, type Component } from '../support/component.js';
import { REPOSITORY } from '../support/process.js';

test('.ci/run installs the package of every component that a test asks for', () => {
  const script = readFileSync(join(REPOSITORY, '.ci', 'run'), 'utf8');
  const installed = /^packages=\((.*)\)$/m.exec(script)?.[1]?.split(' ') ?? [];
  assert.ok(installed.length > 0);
  const folder = join(REPOSITORY, 'test');
  const asked = new Set<Component>();
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const text = readFileSync(join(folder, file), 'utf8');
    for (const [, name] of text.matchAll(/requireComponent\('([^']+)', t\)/g)) asked.add(name as Component);
  }
  assert.ok(asked.size > 0);
  for (const name of asked) {
    assert.ok(installed.includes(COMPONENTS[name].package), `${name} comes in ${COMPONENTS[name].package}`);
  }
});
