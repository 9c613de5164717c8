import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { REPOSITORY } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

const PRESETS = join(REPOSITORY, 'policies');
const NAMES = readdirSync(PRESETS)
  .filter((file) => file.endsWith('.yaml'))
  .map((file) => file.replace('.yaml', ''));

const withoutSchema = (text: string): string => text.replace(/^# yaml-language-server:.*\n(?:#\n)?/, '');

test('--list tells each preset with its first line', async () => {
  const { code, stdout } = await perform('init', '--list');
  assert.equal(code, 0);
  const lines = stdout.trimEnd().split('\n');
  assert.deepEqual(
    lines.map((line) => line.split(' ')[0]),
    NAMES.sort(),
  );
  for (const line of lines) assert.match(line, /^\S+ {2,}[A-Za-z].{10}/);
});

for (const name of NAMES) {
  test(`${name} is written as it is, for its owner alone`, async (t) => {
    const folder = new TemporaryDirectory(t);
    const file = folder.file('policy.yaml');
    const { code, stdout, stderr } = await perform('init', '--for', name, '--output', file);
    assert.equal(code, 0, stderr);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const text = readFileSync(file, 'utf8');
    assert.equal(withoutSchema(text), withoutSchema(readFileSync(join(PRESETS, `${name}.yaml`), 'utf8')));
    const schema = /^# yaml-language-server: \$schema=(.*)$/m.exec(text)?.[1];
    if (schema !== undefined) assert.ok(existsSync(schema), `${schema} is not there`);
    assert.match(stdout, new RegExp(`^wrote ${file}\nNext:\n`));
    assert.ok(stdout.includes(`guardbee check ${file}\n`));

    // The steps work as they are written.
    const mint = /guardbee (token new --name me --role \S+ --file \S+)/.exec(stdout)?.[1];
    if (mint !== undefined) {
      const made = await perform(...mint.split(' '));
      assert.equal(made.code, 0, made.stderr);
      // The addresses in it are those of the example, so check may still find that an upstream is exposed here.
      const checked = await perform('check', file);
      assert.doesNotMatch(checked.stderr, /tokens_file/);
    }
  });
}

test('what is there is not written over without --force', async (t) => {
  const folder = new TemporaryDirectory(t);
  const file = folder.file('policy.yaml');
  writeFileSync(file, 'mine\n', { mode: 0o644 });
  const refused = await perform('init', '--for', 'quickstart', '--output', file);
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /is there already, and nothing was written: say --force/);
  assert.equal(readFileSync(file, 'utf8'), 'mine\n');
  const forced = await perform('init', '--for', 'quickstart', '--output', file, '--force');
  assert.equal(forced.code, 0, forced.stderr);
  assert.match(readFileSync(file, 'utf8'), /^version: 1$/m);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test('a symbolic link stays one, and one to nowhere is not followed', async (t) => {
  const folder = new TemporaryDirectory(t);
  const target = folder.file('target.yaml');
  writeFileSync(target, 'mine\n');
  const link = folder.file('link.yaml');
  symlinkSync(target, link);
  assert.equal((await perform('init', '--for', 'quickstart', '--output', link)).code, 2);
  assert.equal((await perform('init', '--for', 'quickstart', '--output', link, '--force')).code, 0);
  assert.equal(readlinkSync(link), target);
  assert.match(readFileSync(target, 'utf8'), /^version: 1$/m);
  const nowhere = folder.file('nowhere.yaml');
  symlinkSync(folder.file('not-there.yaml'), nowhere);
  assert.equal((await perform('init', '--for', 'quickstart', '--output', nowhere)).code, 1);
  assert.ok(!existsSync(folder.file('not-there.yaml')));
});

test('places that cannot be written are told', async (t) => {
  const folder = new TemporaryDirectory(t);
  mkdirSync(folder.file('folder'));
  const isFolder = await perform('init', '--for', 'quickstart', '--output', folder.file('folder'), '--force');
  assert.equal(isFolder.code, 2);
  assert.match(isFolder.stderr, /is a folder/);
  const noFolder = await perform('init', '--for', 'quickstart', '--output', folder.file('not', 'there.yaml'));
  assert.equal(noFolder.code, 1);
  assert.match(noFolder.stderr, /there is no such folder\n$/);
});

test('- writes to stdout, and nothing else', async () => {
  const { code, stdout, stderr } = await perform('init', '--for', 'quickstart', '--output', '-');
  assert.equal(code, 0);
  assert.equal(stderr, '');
  assert.equal(withoutSchema(stdout), withoutSchema(readFileSync(join(PRESETS, 'quickstart.yaml'), 'utf8')));
});
