import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { writeFileIn } from './policy-builder.js';
import { runCommand } from './process.js';
import { TemporaryDirectory } from './temporary-directory.js';

/** Runs a test file of one test that asks for curl, with a PATH that may hold one. */
async function runner(options: { present: boolean; ci: boolean }): Promise<{ code: number; stdout: string }> {
  using directory = new TemporaryDirectory();
  const component = new URL('component.js', import.meta.url).href;
  const file = writeFileIn(
    directory,
    'asks.test.mjs',
    `import { test } from 'node:test';
     import { requireComponent } from ${JSON.stringify(component)};
     test('asks', (t) => { if (requireComponent('curl', t) !== null) console.log('has curl'); });`,
  );
  writeFileIn(directory, 'bin/nothing', '');
  if (options.present) writeFileIn(directory, 'bin/curl', '#!/bin/sh\n', 0o700);
  return await runCommand(process.execPath, ['--test', '--test-reporter=tap', file], {
    env: { PATH: directory.file('bin'), ...(options.ci ? { CI: 'true' } : {}) },
  });
}

describe('a component that a test needs', () => {
  test('is used where it is present', async () => {
    const result = await runner({ present: true, ci: true });
    assert.match(result.stdout, /has curl/);
    assert.equal(result.code, 0);
  });

  test('is skipped visibly where it is absent', async () => {
    const result = await runner({ present: false, ci: false });
    assert.match(result.stdout, /# SKIP needs curl \(Debian package curl\)/);
    assert.match(result.stdout, /# skipped 1/);
    assert.equal(result.code, 0);
  });

  test('is a failure where it is absent in CI', async () => {
    const result = await runner({ present: false, ci: true });
    assert.match(result.stdout, /needs curl \(Debian package curl\), which CI must have/);
    assert.equal(result.code, 1);
  });
});
