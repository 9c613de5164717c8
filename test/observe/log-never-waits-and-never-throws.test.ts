/** Slow readers, full disks, readers that went: the log loses lines then, says how many, and nothing else suffers. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, existsSync, openSync, readFileSync, readSync, renameSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { createLog } from '../../src/observe/log.js';
import { LineSink } from '../../src/observe/sink.js';
import type { LogSettings } from '../../src/policy/policy.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';
import { redactorThatKnows } from './known-tokens.js';
import { parsed } from './log-file.js';

const redactor = redactorThatKnows();
const settings = (file: string): LogSettings => ({ level: 'info', file, format: 'json' });

/** A FIFO whose reader reads when it is told to. */
class Fifo {
  readonly path: string;
  #fd: number;
  constructor(directory: TemporaryDirectory) {
    this.path = directory.file('fifo');
    execFileSync('mkfifo', [this.path]);
    this.#fd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
  }
  read(): string {
    const pieces: Buffer[] = [];
    const buffer = Buffer.alloc(65_536);
    try {
      for (;;) {
        const count = readSync(this.#fd, buffer);
        if (count === 0) break;
        pieces.push(Buffer.from(buffer.subarray(0, count)));
      }
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'EAGAIN');
    }
    return Buffer.concat(pieces).toString('utf8');
  }
  leave(): void {
    closeSync(this.#fd);
  }
  comeBack(): void {
    this.#fd = openSync(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
  }
}

test('a reader that reads nothing costs lines, not memory and not time; then it is told how many', async () => {
  using directory = new TemporaryDirectory();
  const fifo = new Fifo(directory);
  const log = createLog(settings(fifo.path), redactor, undefined, { maxBytes: 100_000 });
  const started = performance.now();
  for (let index = 0; index < 5_000; index++) log.info('test', `line ${index}`);
  assert.ok(performance.now() - started < 5_000);
  assert.ok(log.droppedLines > 1_000, String(log.droppedLines));
  assert.equal(log.trouble, null);
  const dropped = log.droppedLines;

  let text = '';
  await waitUntil(() => {
    text += fifo.read();
    return text.includes('log lines were lost');
  }, 'the line that says so');
  log.info('test', 'after');
  await log.close();
  text += fifo.read();
  fifo.leave();
  const lines = text.trimEnd().split('\n').map(parsed);
  const kept = lines.filter((line) => String(line['msg']).startsWith('line '));
  assert.deepEqual(
    kept.map((line) => line['msg']),
    kept.map((_, index) => `line ${index}`),
  );
  assert.equal(kept.length + dropped, 5_000);
  const said = lines.find((line) => line['event.name'] === 'log.lines_lost');
  assert.equal(said?.['guardbee.lines_lost'], dropped);
  assert.equal(said['level'], 'WARN');
  assert.equal(lines.at(-1)?.['msg'], 'after');
});

test('a reader that goes away and comes back', async () => {
  using directory = new TemporaryDirectory();
  const fifo = new Fifo(directory);
  const log = createLog(settings(fifo.path), redactor, undefined, { flushMs: 1 });
  fifo.leave();
  log.info('test', 'nobody there');
  await waitUntil(() => log.trouble, 'EPIPE to be seen');
  assert.equal(log.trouble, 'EPIPE');
  fifo.comeBack();
  let text = '';
  await waitUntil(() => {
    text += fifo.read();
    return text.includes('nobody there');
  }, 'the line');
  assert.equal(log.trouble, null);
  await log.close();
  fifo.leave();
});

test('half a line that a killed process left takes no other with it', async () => {
  using directory = new TemporaryDirectory();
  const file = directory.file('log');
  for (const left of ['', '{"msg":"before"}\n', '{"msg":"before"}\n{"msg":"cut off']) {
    writeFileSync(file, left);
    const log = createLog(settings(file), redactor);
    log.info('test', 'after');
    await log.close();
    const lines = readFileSync(file, 'utf8').slice(left.length).trim().split('\n');
    assert.deepEqual(
      lines.map((line) => parsed(line)['msg']),
      ['after'],
    );
    assert.ok(readFileSync(file, 'utf8').startsWith(left));
  }
});

test('a full disk', { skip: !existsSync('/dev/full') }, async () => {
  const log = createLog(settings('/dev/full'), redactor, undefined, { maxBytes: 10_000, flushMs: 1 });
  for (let index = 0; index < 1_000; index++) log.error('test', `line ${index}`);
  await waitUntil(() => log.trouble, 'ENOSPC to be seen');
  assert.equal(log.trouble, 'ENOSPC');
  assert.ok(log.droppedLines > 0);
  const started = performance.now();
  await within(log.close(100), 'the end');
  assert.ok(performance.now() - started < 2_000);
  log.info('test', 'after the end is nothing');
  log.flush();
  log.reopen();
  await log.close();
});

describe('a file that logrotate moved away', () => {
  test('gets what was written before, the new one what comes after, and no line is torn', async () => {
    using directory = new TemporaryDirectory();
    const file = directory.file('log');
    const log = createLog(settings(file), redactor, undefined, { flushBytes: 512, flushMs: 5 });
    for (let turn = 0; turn < 5; turn++) {
      for (let index = 0; index < 200; index++) {
        log.info('test', `${turn} ${index}`);
        if (index % 20 === 0) await new Promise(setImmediate);
      }
      renameSync(file, `${file}.${turn}`);
      log.reopen();
    }
    await log.close();
    const all = [0, 1, 2, 3, 4]
      .map((turn) => readFileSync(`${file}.${turn}`, 'utf8'))
      .concat(readFileSync(file, 'utf8'));
    const said = all
      .flatMap((text) => text.split('\n').filter((line) => line !== ''))
      .map((line) => parsed(line)['msg']);
    assert.equal(said.length, 1_000);
    assert.deepEqual(
      said,
      said.map((_, index) => `${Math.floor(index / 200)} ${index % 200}`),
    );
  });
  test('stays in use when the new one cannot be opened', async () => {
    using directory = new TemporaryDirectory();
    const folder = directory.file('logs');
    execFileSync('mkdir', [folder]);
    const log = createLog(settings(`${folder}/log`), redactor);
    renameSync(folder, `${folder}.old`);
    log.reopen();
    await log.close();
    const [line] = readFileSync(`${folder}.old/log`, 'utf8').split('\n');
    assert.equal(parsed(line)['event.name'], 'log.reopen_failed');
    assert.equal(parsed(line)['error.type'], 'ENOENT');
  });
});

describe('standard output', () => {
  const module = (name: string): string =>
    JSON.stringify(new URL(`../../src/observe/${name}.js`, import.meta.url).href);
  const program = (body: string): string => `
    import { createLog } from ${module('log')};
    import { Redactor } from ${module('redact')};
    const log = createLog({ level: 'info', file: null, format: 'auto' }, new Redactor({ knowsDigest: () => false }));
    ${body}`;
  const run = (body: string, shell?: string): ReturnType<typeof spawn> =>
    shell === undefined
      ? spawn(process.execPath, ['--input-type=module', '-e', program(body)], { stdio: ['ignore', 'pipe', 'inherit'] })
      : spawn('sh', ['-c', shell, 'sh', process.execPath, program(body)], { stdio: ['ignore', 'pipe', 'inherit'] });

  const output = async (child: ReturnType<typeof spawn>): Promise<string> => {
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (piece: string) => (text += piece));
    await within(once(child, 'close'), 'the end of the process');
    return text;
  };

  test('has everything at the end, without anybody having asked', async () => {
    for (const ending of ['', 'process.exit(0)', 'throw new Error("x")']) {
      const body = `process.on('uncaughtException', () => process.exit(1));
        for (let index = 0; index < 100; index++) log.info('test', 'line ' + index); ${ending}`;
      for (const shell of [undefined, '"$1" --input-type=module -e "$2" | cat']) {
        const lines = (await output(run(body, shell))).trimEnd().split('\n');
        assert.equal(lines.length, 100, `${ending} ${shell ?? 'socket'}`);
        assert.equal(parsed(lines[99])['msg'], 'line 99');
      }
    }
  });

  // Both kinds: Node gives its children sockets, a shell gives them pipes.
  const STALL = `
    let ticks = 0;
    setInterval(() => { ticks++; for (let index = 0; index < 500; index++) log.info('test', 'x'.repeat(200)); }, 10);
    setTimeout(() => { process.exit(ticks > 10 && ticks < 1000 ? 42 : 1); }, 1000);`;

  test('that nobody reads does not stop the process, nor its end (socket)', async () => {
    const child = run(STALL);
    child.stdout?.pause();
    const [code] = (await within(once(child, 'exit'), 'the end of the process')) as [number | null];
    child.stdout?.destroy();
    assert.equal(code, 42);
  });

  test('that nobody reads does not stop the process, nor its end (pipe)', async () => {
    const child = run(STALL, 'exec 3>&1; { "$1" --input-type=module -e "$2"; echo $? >&3; } | sleep 4');
    const text = await output(child);
    assert.equal(text.trim(), '42');
  });

  test('that was closed by its reader does not end the process', async () => {
    const body = `setInterval(() => log.info('test', 'x'), 1); setTimeout(() => process.exit(42), 300);`;
    assert.equal(
      (await output(run(body, 'exec 3>&1; { "$1" --input-type=module -e "$2"; echo $? >&3; } | true'))).trim(),
      '42',
    );
    const child = run(body);
    child.stdout?.destroy();
    const [code] = (await within(once(child, 'exit'), 'the end of the process')) as [number | null];
    assert.equal(code, 42);
  });
});

test('a thousand small lines are a few writes', async () => {
  using directory = new TemporaryDirectory();
  const file = directory.file('log');
  const sink = new LineSink({ target: { file }, flushBytes: 8192, flushMs: 50, maxBytes: 1 << 20, lost: () => '' });
  sink.write('first');
  assert.equal(readFileSync(file, 'utf8'), '');
  await waitUntil(() => readFileSync(file, 'utf8') === 'first\n', 'the first line');
  for (let index = 0; index < 10; index++) sink.write('x');
  assert.equal(readFileSync(file, 'utf8'), 'first\n');
  await sink.close();
  assert.equal(readFileSync(file, 'utf8'), `first\n${'x\n'.repeat(10)}`);
});
