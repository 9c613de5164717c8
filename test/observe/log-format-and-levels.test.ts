import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { type Log, createLog } from '../../src/observe/log.js';
import { constant } from '../../src/observe/redact.js';
import type { LogSettings } from '../../src/policy/policy.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { redactorThatKnows } from './known-tokens.js';
import { linesOf, parsed } from './log-file.js';

const redactor = redactorThatKnows();
const SETTINGS: LogSettings = { level: 'info', file: null, format: 'auto' };

test('an event is a line of JSON with its level as a word', async () => {
  const before = Date.now();
  const [line] = await linesOf(redactor, (log) => {
    log.warn('certificate.expiring', 'the certificate expires in 6 days', {
      'guardbee.listener': constant('queen'),
      'guardbee.days_left': 6,
      'guardbee.self_signed': false,
      'guardbee.nothing': null,
    });
  });
  const { time, ...rest } = parsed(line);
  assert.deepEqual(rest, {
    level: 'WARN',
    'event.name': 'certificate.expiring',
    'guardbee.listener': 'queen',
    'guardbee.days_left': 6,
    'guardbee.self_signed': false,
    msg: 'the certificate expires in 6 days',
  });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  const at = Date.parse(String(time));
  assert.ok(at >= before && at <= Date.now());
});

test('a format string is not one', async () => {
  const [line] = await linesOf(redactor, (log) => {
    log.info('test', '%s %d %o %j %%', { a: constant('%s') });
  });
  assert.equal(parsed(line)['msg'], '%s %d %o %j %%');
});

test('an event in text is a line of words', async () => {
  const [line] = await linesOf(
    redactor,
    (log) => {
      log.error('request.broke', 'a request failed', {
        'error.type': constant('TypeError'),
        why: constant('two words'),
      });
    },
    { format: 'text' },
  );
  assert.match(line ?? '', /^\S+Z ERROR a request failed error\.type=TypeError why="two words"$/);
});

test('an error is told by its code, or its name, and its message', async () => {
  const errors = [
    Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:7833'), { code: 'ECONNREFUSED' }),
    new TypeError('no such thing'),
    'a string',
    42,
  ];
  const lines = await linesOf(redactor, (log) => {
    for (const error of errors) log.error('test', 'x', log.errorFields(error));
  });
  assert.deepEqual(
    lines.map((line) => [parsed(line)['error.type'], parsed(line)['error.message']]),
    [
      ['ECONNREFUSED', 'connect ECONNREFUSED 127.0.0.1:7833'],
      ['TypeError', 'no such thing'],
      ['string', 'a string'],
      ['number', ''],
    ],
  );
});

describe('levels', () => {
  test('keep out what is below them', async () => {
    for (const [level, count] of [
      ['trace', 5],
      ['debug', 4],
      ['info', 3],
      ['warn', 2],
      ['error', 1],
    ] as const) {
      const lines = await linesOf(
        redactor,
        (log) => {
          for (const at of ['trace', 'debug', 'info', 'warn', 'error'] as const) log[at]('test', at);
        },
        { level },
      );
      assert.equal(lines.length, count, level);
    }
  });

  test('can change while it runs', async () => {
    const lines = await linesOf(redactor, (log) => {
      log.level = 'error';
      log.info('test', 'not this');
      log.level = 'debug';
      log.debug('test', 'this');
    });
    assert.equal(lines.length, 1);
  });
});

describe('the format', () => {
  async function written(settings: LogSettings, terminal: boolean, colours: boolean): Promise<string> {
    using directory = new TemporaryDirectory();
    const fd = openSync(directory.file('out'), 'w');
    const log: Log = createLog(settings, redactor, { fd, terminal, colours });
    log.warn('test', 'hello');
    await log.close();
    closeSync(fd);
    return readFileSync(directory.file('out'), 'utf8');
  }
  test('auto is text on a terminal, with colours', async () => {
    // eslint-disable-next-line no-control-regex -- colours begin with ESC
    assert.match(await written(SETTINGS, true, true), /^\u001b\[2m\S+Z\u001b\[0m \u001b\[33mWARN \u001b\[0m hello\n$/);
  });
  test('auto is text without colours for those who want none', async () => {
    assert.match(await written(SETTINGS, true, false), /^\S+Z WARN {2}hello\n$/);
  });
  test('auto is JSON elsewhere', async () => {
    assert.match(await written(SETTINGS, false, false), /^\{.*\}\n$/);
  });
  test('json is JSON on a terminal too, and never coloured', async () => {
    assert.match(await written({ ...SETTINGS, format: 'json' }, true, true), /^\{.*\}\n$/);
  });
  test('a file is not a terminal', async () => {
    using directory = new TemporaryDirectory();
    const log = createLog({ ...SETTINGS, file: directory.file('f') }, redactor, {
      fd: 1,
      terminal: true,
      colours: true,
    });
    log.info('test', 'hello');
    await log.close();
    assert.match(readFileSync(directory.file('f'), 'utf8'), /^\{.*\}\n$/);
  });
});

describe('the file', () => {
  test('is private, and is added to', async () => {
    using directory = new TemporaryDirectory();
    const file = directory.file('log');
    for (const word of ['one', 'two']) {
      const log = createLog({ ...SETTINGS, file }, redactor);
      log.info('test', word);
      await log.close();
    }
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(
      readFileSync(file, 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => parsed(line)['msg']),
      ['one', 'two'],
    );
  });
  test('that cannot be opened is an error at once', () => {
    using directory = new TemporaryDirectory();
    writeFileSync(directory.file('a'), '');
    assert.throws(() => createLog({ ...SETTINGS, file: directory.file('a', 'b') }, redactor), { code: 'ENOTDIR' });
  });
});
