import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmod, chown, lchown, mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { currentReader, readFile, secretFrom } from '../../src/secret/files.js';
import type { Demand, Reader } from '../../src/secret/files.js';

const NOBODY: Reader = { groups: new Set(), credentialsDirectory: null, secretMounts: [] };
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

  test('0640 and 0440 of our own and of a group of ours', async () => {
    const own = process.getegid?.() ?? -1;
    for (const [mode, expected] of [
      [0o640, 'fine'],
      [0o440, 'fine'],
      [0o660, 'too_open'],
      [0o650, 'too_open'],
      [0o644, 'too_open'],
    ] as const) {
      const file = await make(`own-${mode}`, mode);
      await chown(file, process.geteuid?.() ?? 0, own);
      assert.equal(await judge(file, 'private', { ...NOBODY, groups: new Set([own]) }), expected, mode.toString(8));
      assert.equal(await judge(file, 'private', { ...NOBODY, groups: new Set([own + 1]) }), 'too_open');
    }
  });

  test('0640 of root and of a group of ours is the way of a service', { skip: !root && 'needs root' }, async () => {
    const ours: Reader = { groups: new Set([4242]), credentialsDirectory: null, secretMounts: [] };
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
    const reader: Reader = { groups: new Set(), credentialsDirectory: directory, secretMounts: [] };
    const inside = await make('credentials/token', 0o440);
    const outside = await make('credentials-of-another', 0o440);
    assert.equal(await judge(inside, 'private', reader), 'fine');
    assert.equal(await judge(inside, 'private', NOBODY), 'too_open');
    assert.equal(await judge(outside, 'private', reader), 'too_open');
    await chmod(inside, 0o444);
    assert.equal(await judge(inside, 'private', reader), 'too_open');
    await chmod(inside, 0o640);
    assert.equal(await judge(inside, 'private', reader), 'too_open', 'systemd makes them read-only');
    await chmod(inside, 0o440);
    const relative = path.relative(process.cwd(), directory);
    assert.equal(await judge(inside, 'private', { ...reader, credentialsDirectory: relative }), 'too_open');
    await chmod(inside, 0o640);
    await symlink(outside, path.join(directory, 'link'));
    assert.equal(
      await judge(path.join(directory, 'link'), 'private', reader),
      'too_open',
      'a link does not move a file',
    );
  });

  test('0440 below the directory of systemd is of root or of ourselves', { skip: !root && 'needs root' }, async () => {
    const directory = path.join(folder, 'credentials-of-others');
    await mkdir(directory);
    const reader: Reader = { ...NOBODY, credentialsDirectory: directory };
    const file = await make('credentials-of-others/token', 0o440);
    for (const [owner, expected] of [
      [0, 'fine'],
      [4343, 'too_open'],
    ] as const) {
      await chown(file, owner, 4242);
      assert.equal(await judge(file, 'private', reader), expected, `owner ${owner}`);
    }
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

  describe('the folders on the way', () => {
    /** A private file in a folder of this mode, which may lie deeper. */
    async function below(name: string, mode: number, more = ''): Promise<string> {
      await mkdir(path.join(folder, name, more), { recursive: true });
      const file = await make(path.join(name, more, 'secret'), 0o600);
      await chmod(path.join(folder, name), mode);
      return file;
    }
    for (const [mode, expected] of [
      [0o700, 'fine'],
      [0o755, 'fine'],
      [0o2755, 'fine'],
      [0o777, 'too_open'],
      [0o757, 'too_open'],
      [0o1777, 'fine'],
      [0o3777, 'fine'],
    ] as const) {
      test(`0${mode.toString(8)}`, async () => {
        assert.equal(await judge(await below(`way-${mode}`, mode), 'private'), expected);
        assert.equal(await judge(await below(`far-${mode}`, mode, 'deeper/still'), 'private'), expected);
        assert.equal(
          await judge(path.join(folder, `way-${mode}`, 'secret'), 'trusted'),
          'fine',
          'asked of secrets only',
        );
      });
    }

    test('the fix names the folder, and can be pasted', async () => {
      const file = await below('an open folder', 0o777);
      const { fault } = await readFile(file, 'private', 1000, NOBODY);
      assert.ok(fault?.kind === 'too_open');
      assert.deepEqual([fault.mode, fault.why.includes(path.dirname(file))], ['0777', true]);
      execFileSync('sh', ['-c', fault.fix]);
      assert.equal(await judge(file, 'private'), 'fine');
    });

    test('those that a link leads through count, and the one that it stands in', async () => {
      const target = await below('closed', 0o755);
      const open = path.join(folder, 'open');
      await mkdir(open);
      await chmod(open, 0o777);
      await symlink(target, path.join(open, 'link'));
      assert.equal(await judge(path.join(open, 'link'), 'private'), 'too_open', 'anybody may turn it elsewhere');
      await symlink(path.join('..', 'closed'), path.join(open, 'folder'));
      assert.equal(await judge(path.join(open, 'folder', 'secret'), 'private'), 'too_open');
      await chmod(open, 0o1777);
      assert.equal(await judge(path.join(open, 'link'), 'private'), 'fine');
      assert.equal(await judge(path.join(open, 'folder', 'secret'), 'private'), 'fine');
      assert.equal(await judge(path.join(open, 'folder', '..', 'folder', 'secret'), 'private'), 'fine');
    });

    test('groups, and what others put into /tmp', { skip: !root && 'needs root' }, async () => {
      const group = await below('group', 0o775);
      await chown(path.dirname(group), 0, 4242);
      assert.equal(await judge(group, 'private'), 'too_open', 'whoever is in it');
      await chown(path.dirname(group), 4343, 4343);
      assert.equal(await judge(group, 'private'), 'fine', 'the group that a user has for himself');
      const sticky = await below('sticky', 0o1777);
      await chown(path.dirname(sticky), 4343, 4343);
      assert.equal(await judge(sticky, 'private'), 'too_open', 'its owner may still');
      await chown(path.dirname(sticky), 0, 0);
      assert.equal(await judge(sticky, 'private'), 'fine');
      await chown(sticky, 4343, 4343);
      assert.equal(await judge(sticky, 'private'), 'too_open', 'a stranger put it there');
      const link = path.join(path.dirname(sticky), 'link');
      await symlink(await make('theirs', 0o600), link);
      assert.equal(await judge(link, 'private'), 'fine');
      await lchown(link, 4343, 4343);
      assert.equal(await judge(link, 'private'), 'too_open', 'a stranger says which file');
    });
  });

  /** The mount that every Linux has in memory, root's, where anybody may make folders. */
  const SHM = '/dev/shm';
  describe('a mount in memory that the policy names', { skip: !root && 'needs root' }, () => {
    let inside: string;
    const named: Reader = { ...NOBODY, secretMounts: [SHM] };
    before(async () => {
      inside = await mkdtemp(path.join(SHM, 'guardbee-'));
      await chmod(inside, 0o755);
    });
    after(() => rm(inside, { recursive: true, force: true }));
    async function put(mode: number): Promise<string> {
      const file = path.join(inside, `mode-${mode}`);
      await writeFile(file, 'secret\n');
      await chmod(file, mode);
      return file;
    }

    for (const [mode, expected] of [
      [0o400, 'fine'],
      [0o440, 'fine'],
      [0o444, 'fine'],
      [0o644, 'fine'],
      [0o664, 'too_open'],
      [0o646, 'too_open'],
      [0o755, 'too_open'],
    ] as const) {
      test(`0${mode.toString(8)}`, async () => {
        const file = await put(mode);
        assert.equal(await judge(file, 'private', named), expected);
        assert.equal(await judge(file, 'private', NOBODY), mode === 0o400 ? 'fine' : 'too_open', 'not named');
      });
    }

    test('is that mount itself, in memory, and the file is of root', async () => {
      const file = await put(0o444);
      const say = async (mounts: readonly string[], of = file): Promise<string> => {
        const { fault } = await readFile(of, 'private', 1000, { ...NOBODY, secretMounts: mounts });
        return fault?.kind === 'too_open' ? fault.why : (fault?.kind ?? 'fine');
      };
      assert.equal(await say([folder, SHM]), 'fine');
      assert.match(await say([inside]), /is not where it is mounted$/);
      assert.match(await say(['/dev']), /is not where it is mounted$/);
      const elsewhere = await make('not-in-memory', 0o444);
      assert.match(await say([folder], elsewhere), /is not where it is mounted$/);
      assert.match(await say([SHM], elsewhere), /may read it$/);
      await chown(file, 4343, 0);
      assert.match(await say([SHM]), /only files of root are taken/);
    });

    test('Kubernetes changes all of its files at once, by a link', async () => {
      for (const version of ['..2026_11_22', '..2026_11_23']) {
        await mkdir(path.join(inside, version));
        await writeFile(path.join(inside, version, 'token'), 'secret\n', { mode: 0o644 });
      }
      await symlink('..2026_11_22', path.join(inside, '..data'));
      await symlink('..data/token', path.join(inside, 'token'));
      assert.equal(await judge(path.join(inside, 'token'), 'private', named), 'fine');
      await symlink('..2026_11_23', path.join(inside, '..new'));
      await rename(path.join(inside, '..new'), path.join(inside, '..data'));
      assert.equal(await judge(path.join(inside, 'token'), 'private', named), 'fine');
      await symlink(await make('outside', 0o644), path.join(inside, 'outside'));
      assert.equal(
        await judge(path.join(inside, 'outside'), 'private', named),
        'too_open',
        'a link does not move a file',
      );
    });
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
