/**
 * Which changes of files have them read again, when, and what is said where nothing comes of it. Whoever reads them here
 * is a stand-in, that takes over all but what says `broken`; the clock is one too.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { type FileRead, type FilesRead, contentOf, readFile } from '../../src/secret/files.js';
import { FileWatch } from '../../src/server/file-watch.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

const LIMIT = 4096;
const ANYBODY = { groups: new Set<number>(), credentialsDirectory: null, secretMounts: [] };

class Reading {
  readonly directory: TemporaryDirectory;
  readonly paths: readonly string[];
  /** How it was read each time: `taken over`, `failed`, `FAILED` where that was said. */
  told: string[] = [];
  inForce = '';
  /** Nothing can be taken over, whatever the files hold. */
  obstacle = false;
  /** Happens while it reads, before it has read all. */
  meanwhile: (() => void) | null = null;
  #ticks = 0;
  readonly #watch: FileWatch;

  private constructor(directory: TemporaryDirectory, paths: readonly string[], files: FilesRead, text: string) {
    this.directory = directory;
    this.paths = paths;
    this.inForce = text;
    this.#watch = new FileWatch({
      files,
      reload: async (aloud) => {
        await this.reload(aloud);
      },
      ticks: () => this.#ticks,
    });
  }

  static async of(directory: TemporaryDirectory, ...names: readonly string[]): Promise<Reading> {
    const paths = names.map((name) => directory.file(name));
    const { files, text } = await read(paths);
    return new Reading(directory, paths, files, text);
  }

  /** Another text of the same length, within the same tick of the file system's clock, would look like the one before. */
  write(name: string, text: string): void {
    writeFileSync(this.directory.file(name), text);
  }

  /** Reads them as a signal would have it done, or as the watch does. */
  async reload(aloud: boolean): Promise<void> {
    this.meanwhile?.();
    const { files, text } = await read(this.paths);
    const ok = !this.obstacle && !text.includes('broken') && !text.includes('nothing');
    this.told.push(ok ? 'taken over' : aloud ? 'FAILED' : 'failed');
    if (ok) this.inForce = text;
    this.#watch.wasRead(files, ok ? 'taken_over' : aloud ? 'failed_aloud' : 'failed_quietly');
  }

  /** What is going on takes so long. */
  takes(ms: number): void {
    this.#ticks += ms;
  }

  /** Lets so much time pass; what was told meanwhile. */
  async pass(ms: number): Promise<readonly string[]> {
    const from = this.told.length;
    for (let left = ms; left > 0;) {
      const next = await this.#watch.look();
      left -= next;
      this.#ticks += next;
    }
    return this.told.slice(from);
  }
}

async function read(paths: readonly string[]): Promise<{ readonly files: FilesRead; readonly text: string }> {
  const files = new Map<string, FileRead>();
  const texts: string[] = [];
  for (const path of paths) {
    const found = await readFile(path, 'any', LIMIT, ANYBODY);
    files.set(path, { limit: LIMIT, content: contentOf(found) });
    texts.push(found.bytes?.toString('utf8') ?? 'nothing');
  }
  return { files, text: texts.join(' ') };
}

test('what is written in place, renamed over, or behind a link that leads elsewhere by now', async () => {
  using directory = new TemporaryDirectory();
  const at = (...names: string[]): string => directory.file(...names);
  writeFileSync(at('policy'), 'one');
  // Kubernetes: the name leads through a folder that is exchanged. certbot: it is a link that is exchanged.
  for (const n of ['1', '2']) {
    mkdirSync(at(`..${n}`));
    writeFileSync(at(`..${n}`, 'tls.crt'), `mounted-${n}`);
    mkdirSync(at('archive'), { recursive: true });
    writeFileSync(at('archive', `fullchain${n}.pem`), `chain-${n}`);
  }
  symlinkSync('..1', at('..data'));
  symlinkSync('..data/tls.crt', at('tls.crt'));
  symlinkSync('archive/fullchain1.pem', at('fullchain.pem'));
  const reading = await Reading.of(directory, 'policy', 'tls.crt', 'fullchain.pem');
  const comesToBe = async (text: string): Promise<void> => {
    assert.deepEqual(await reading.pass(3000), ['taken over']);
    assert.equal(reading.inForce, text);
    assert.deepEqual(await reading.pass(100_000), [], 'and once');
  };
  assert.deepEqual(await reading.pass(100_000), [], 'nothing has changed');

  writeFileSync(at('policy'), 'second');
  await comesToBe('second mounted-1 chain-1');
  writeFileSync(at('policy~'), 'third');
  renameSync(at('policy~'), at('policy'));
  await comesToBe('third mounted-1 chain-1');
  symlinkSync('..2', at('..data_tmp'));
  renameSync(at('..data_tmp'), at('..data'));
  rmSync(at('..1'), { recursive: true });
  await comesToBe('third mounted-2 chain-1');
  rmSync(at('fullchain.pem'));
  symlinkSync('archive/fullchain2.pem', at('fullchain.pem'));
  await comesToBe('third mounted-2 chain-2');
});

test('what is written while it starts is seen, too', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  reading.write('policy', 'second');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  assert.equal(reading.inForce, 'second');
});

test('what is touched, or written as it was, is not read', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  utimesSync(directory.file('policy'), 1, 1);
  assert.deepEqual(await reading.pass(3000), []);
  chmodSync(directory.file('policy'), 0o600);
  assert.deepEqual(await reading.pass(3000), []);
  writeFileSync(directory.file('other'), 'one');
  renameSync(directory.file('other'), directory.file('policy'));
  assert.deepEqual(await reading.pass(3000), []);
});

test('of a file that is away for a moment nobody hears', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  rmSync(directory.file('policy'));
  assert.deepEqual(await reading.pass(3000), ['failed'], 'and nothing is said');
  reading.write('policy', 'one');
  assert.deepEqual(await reading.pass(100_000), []);
});

test('a pair that is half renewed is not spoken of; the other half is read with it', async () => {
  using directory = new TemporaryDirectory();
  for (const name of ['crt', 'key']) writeFileSync(directory.file(name), 'old');
  const reading = await Reading.of(directory, 'crt', 'key');
  await reading.pass(3000);
  reading.write('crt', 'broken');
  assert.deepEqual(await reading.pass(5000), ['failed']);
  reading.write('key', 'newer');
  assert.deepEqual(await reading.pass(3000), ['failed']);
  reading.write('crt', 'new');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  assert.equal(reading.inForce, 'new newer');
  assert.deepEqual(await reading.pass(100_000), []);
});

test('what stays broken is said once, and once more when somebody has changed it and it still is', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  reading.write('policy', 'broken');
  assert.deepEqual(await reading.pass(30_000), ['failed', 'FAILED']);
  // Something may have been mended that no file shows.
  assert.deepEqual(
    await reading.pass(300_000),
    Array.from({ length: 5 }, () => 'failed'),
  );
  utimesSync(directory.file('policy'), 1, 1);
  assert.deepEqual(await reading.pass(5000), ['failed']);
  assert.deepEqual(await reading.pass(30_000), []);
  reading.write('policy', 'broken, too');
  assert.deepEqual(await reading.pass(30_000), ['failed', 'FAILED']);
  reading.write('policy', 'one');
  assert.deepEqual(await reading.pass(3000), ['taken over'], 'so that what was said is not so any more');
  assert.deepEqual(await reading.pass(100_000), []);
});

test('a mode, or something else that no content shows, may have been what was wrong', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  reading.obstacle = true;
  reading.write('policy', 'second');
  assert.deepEqual(await reading.pass(30_000), ['failed', 'FAILED']);
  reading.obstacle = false;
  chmodSync(directory.file('policy'), 0o600);
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  reading.obstacle = true;
  reading.write('policy', 'third');
  await reading.pass(30_000);
  reading.obstacle = false;
  assert.deepEqual(await reading.pass(61_000), ['taken over']);
});

test('what never comes to rest is read all the same, and not at every look', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  const told: string[] = [];
  const minute = async (text: string): Promise<void> => {
    told.length = 0;
    for (let n = 0; n < 120; n += 1) {
      reading.write('policy', `${text} ${'.'.repeat(n)}`);
      told.push(...(await reading.pass(1)));
    }
  };
  await minute('good');
  assert.ok(told.length >= 4 && told.length <= 6, `${String(told.length)} times in a minute`);
  await minute('broken');
  assert.ok(told.includes('FAILED') && told.length <= 6, String(told));
});

test('what changes while it is read is read again; what others had read is not', async () => {
  using directory = new TemporaryDirectory();
  for (const name of ['one', 'two']) writeFileSync(directory.file(name), 'before');
  const reading = await Reading.of(directory, 'one', 'two');
  await reading.pass(3000);
  reading.meanwhile = () => {
    reading.meanwhile = null;
    setImmediate(() => {
      reading.write('one', 'late');
    });
  };
  reading.write('two', 'new');
  await reading.pass(10_000);
  assert.equal(reading.inForce, 'late new');

  reading.told = [];
  reading.write('two', 'newest');
  await reading.reload(true);
  assert.deepEqual(await reading.pass(100_000), []);
  reading.write('two', 'broken');
  await reading.reload(true);
  assert.deepEqual(await reading.pass(30_000), ['failed'], 'it was said to whoever asked, and is not said again');
  reading.write('two', 'newest');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  assert.deepEqual(reading.told, ['taken over', 'FAILED', 'failed', 'taken over']);
});

test('what cannot be read as a file is no reason to read for ever', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  await reading.pass(3000);
  rmSync(directory.file('policy'));
  mkdirSync(directory.file('policy'));
  assert.deepEqual(await reading.pass(30_000), ['failed', 'FAILED']);
  rmSync(directory.file('policy'), { recursive: true });
  reading.write('policy', 'x'.repeat(LIMIT + 1));
  assert.deepEqual(await reading.pass(30_000), ['failed', 'FAILED']);
  reading.write('policy', 'one more');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
});

test('the next change is seen as soon after a reload that took long', async () => {
  using directory = new TemporaryDirectory();
  writeFileSync(directory.file('policy'), 'one');
  const reading = await Reading.of(directory, 'policy');
  assert.deepEqual(await reading.pass(2000), []);
  reading.meanwhile = () => {
    reading.takes(5000);
  };
  reading.write('policy', 'second');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  reading.write('policy', 'the third');
  assert.deepEqual(await reading.pass(3000), ['taken over']);
  assert.equal(reading.inForce, 'the third');
});
