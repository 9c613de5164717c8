import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { currentReader, readFile, secretFrom } from '../../src/secret/files.js';
import type { Demand, Reader } from '../../src/secret/files.js';

const NOBODY: Reader = { groups: new Set(), credentialsDirectory: null };
const root = process.getuid?.() === 0;

describe('files', () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'guardbee-files-'));
  });
  after(() => rm(folder, { recursive: true, force: true }));

  async function make(name: string, mode: number, content = 'secret\n'): Promise<string> {
    const file = path.join(folder, name);
    await writeFile(file, content);
    await chmod(file, mode);
    return file;
  }
  async function judge(file: string, demand: Demand, reader: Reader = NOBODY): Promise<string> {
    const { fault, bytes } = await readFile(file, demand, 1000, reader);
    if (fault?.kind === 'too_open')
      assert.equal(bytes?.toString(), 'secret\n', 'what is too open is checked all the same');
    return fault?.kind ?? 'fine';
  }

  for (const [mode, asPrivate, asTrusted] of [
    [0o600, 'fine', 'fine'],
    [0o400, 'fine', 'fine'],
    [0o700, 'fine', 'fine'],
    [0o644, 'too_open', 'fine'],
    [0o640, 'too_open', 'fine'],
    [0o604, 'too_open', 'fine'],
    [0o440, 'too_open', 'fine'],
    [0o620, 'too_open', 'too_open'],
    [0o602, 'too_open', 'too_open'],
    [0o610, 'too_open', 'fine'],
    [0o664, 'too_open', 'too_open'],
    [0o666, 'too_open', 'too_open'],
    [0o777, 'too_open', 'too_open'],
  ] as const) {
    test(`0${mode.toString(8)}`, async () => {
      const file = await make(`mode-${mode}`, mode);
      assert.equal(await judge(file, 'private'), asPrivate);
      assert.equal(await judge(file, 'trusted'), asTrusted);
      assert.equal(await judge(file, 'any'), 'fine');
    });
  }

  test('0640 of root and of a group of ours is the way of a service', { skip: !root && 'needs root' }, async () => {
    const ours: Reader = { groups: new Set([4242]), credentialsDirectory: null };
    const file = await make('service', 0o640);
    await chown(file, 0, 4242);
    assert.equal(await judge(file, 'private', ours), 'fine');
    assert.equal(await judge(file, 'private', NOBODY), 'too_open');
    await chmod(file, 0o660);
    assert.equal(await judge(file, 'private', ours), 'too_open', 'the group may not write');
    await chmod(file, 0o644);
    assert.equal(await judge(file, 'private', ours), 'too_open', 'others may not read');
    await chmod(file, 0o640);
    await chown(file, 4343, 4242);
    assert.equal(await judge(file, 'private', ours), 'too_open', 'another owner may change it');
  });

  test('0440 is fine below the directory of systemd, and nowhere else', async () => {
    const directory = path.join(folder, 'credentials');
    await mkdir(directory);
    const reader: Reader = { groups: new Set(), credentialsDirectory: directory };
    const inside = await make('credentials/token', 0o440);
    const outside = await make('credentials-of-another', 0o440);
    assert.equal(await judge(inside, 'private', reader), 'fine');
    assert.equal(await judge(inside, 'private', NOBODY), 'too_open');
    assert.equal(await judge(outside, 'private', reader), 'too_open');
    await chmod(inside, 0o444);
    assert.equal(await judge(inside, 'private', reader), 'too_open');
    await chmod(inside, 0o640);
    assert.equal(await judge(inside, 'private', reader), 'too_open', 'systemd makes them read-only');
    await symlink(outside, path.join(directory, 'link'));
    assert.equal(
      await judge(path.join(directory, 'link'), 'private', reader),
      'too_open',
      'a link does not move a file',
    );
  });

  test('a link is judged by what it leads to', async () => {
    await make('target', 0o644);
    await symlink(path.join(folder, 'target'), path.join(folder, 'link'));
    assert.equal(await judge(path.join(folder, 'link'), 'private'), 'too_open');
    await chmod(path.join(folder, 'target'), 0o600);
    assert.equal(await judge(path.join(folder, 'link'), 'private'), 'fine');
    await symlink(path.join(folder, 'circle'), path.join(folder, 'circle'));
    assert.equal(await judge(path.join(folder, 'circle'), 'private'), 'unreadable');
  });

  test('what is no file is refused, and does not hang', { timeout: 5000 }, async () => {
    execFileSync('mkfifo', ['-m', '600', path.join(folder, 'fifo')]);
    for (const name of ['fifo', '.', '/dev/zero', '/dev/null']) {
      assert.equal(await judge(path.resolve(folder, name), 'private'), 'not_a_file', name);
    }
    assert.equal(await judge(path.join(folder, 'none'), 'private'), 'missing');
    assert.equal(await judge(path.join(folder, 'target', 'x'), 'private'), 'missing');
  });

  test('more than the limit is refused', async () => {
    assert.equal(await judge(await make('large', 0o600, 'x'.repeat(1001)), 'private'), 'too_large');
    assert.equal(await judge(await make('just', 0o600, 'x'.repeat(1000)), 'private'), 'fine');
  });

  test('the fix can be pasted', async () => {
    const { fault } = await readFile(await make("it's open", 0o644), 'private', 1000, NOBODY);
    assert.ok(fault?.kind === 'too_open');
    execFileSync('sh', ['-c', fault.fix]);
    assert.equal(await judge(path.join(folder, "it's open"), 'private'), 'fine');
  });
});

test('the reader is this process', () => {
  const reader = currentReader({ CREDENTIALS_DIRECTORY: '/run/credentials/x' });
  assert.equal(reader.credentialsDirectory, '/run/credentials/x');
  assert.ok(reader.groups.has(process.getegid?.() ?? -1));
  assert.equal(currentReader({}).credentialsDirectory, null);
  assert.equal(currentReader({ CREDENTIALS_DIRECTORY: '' }).credentialsDirectory, null);
});

describe('the content of a secret', () => {
  for (const [content, expected] of [
    ['hunter2', 'hunter2'],
    ['hunter2\n', 'hunter2'],
    ['hunter2\r\n', 'hunter2'],
    ['two words', 'two words'],
    ['pässword', 'pässword'],
    ['QUJDREVGRw==', 'QUJDREVGRw=='],
    ['ABCDEFGH=', 'ABCDEFGH='],
    ['a+b/c=\n', 'a+b/c='],
    ['', 'empty'],
    ['\n', 'empty'],
    [' \t\n', 'empty'],
    ['hunter2\n\n', 'several_lines'],
    ['one\ntwo', 'several_lines'],
    ['CHANGE_ME', 'placeholder'],
    ['change-me-please', 'placeholder'],
    ['<your token>', 'placeholder'],
    ['your-token-here', 'placeholder'],
    ['API_KEY=hunter2', 'assignment'],
    ['export API_KEY=hunter2', 'assignment'],
    ['key = hunter2', 'assignment'],
    ['hun\u0000ter2', 'control_character'],
    [' hunter2', 'blank'],
    ['hunter2 \n', 'blank'],
  ] as const) {
    test(JSON.stringify(content), () => {
      const secret = secretFrom(Buffer.from(content));
      assert.equal('bytes' in secret ? secret.bytes.toString() : secret.fault, expected);
    });
  }
});
