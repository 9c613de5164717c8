import assert from 'node:assert/strict';
import { appendFileSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { main } from '../../src/cli/guardbee.js';
import { ProcessVoice } from '../../src/cli/voice.js';
import { headText } from '../../src/observe/audit/record.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { TrailBuilder } from '../audit/trail-fixture.js';
import { within } from '../support/wait.js';
import { Capture, perform } from './in-process.js';

interface Fixture {
  readonly folder: TemporaryDirectory;
  readonly trail: TrailBuilder;
  readonly dir: string;
  readonly key: string;
}

function setUp(t: TestContext): Fixture {
  const folder = new TemporaryDirectory(t);
  const trail = new TrailBuilder().denials(3).checkpoint().rotate();
  trail
    .add({ event: 'auth_success', result: 'answered', who: '=cmd|x', client: '192.0.2.1', resource: '/login' })
    .checkpoint();
  const key = folder.file('trusted.pem');
  writeFileSync(key, trail.key.pem);
  return { folder, trail, dir: trail.write(folder.file('trail')), key };
}

function lastFile({ trail, dir }: Fixture): string {
  return join(dir, trail.segments.at(-1)?.name ?? '');
}

test('verify: 0 where nothing is wrong, 6 with the first bad line where something is', async (t) => {
  const fixture = setUp(t);
  const { dir, key, trail } = fixture;
  const good = await perform('audit', 'verify', '--dir', dir, '--key', key);
  assert.equal(good.code, 0);
  assert.match(good.stdout, /^ok: 9 records in 2 segments, 1 to 9, /);
  assert.ok(good.stdout.includes(`head: ${headText(trail)}\n`));
  assert.equal(good.stderr, '');
  const report = JSON.parse(
    (await perform('audit', 'verify', '--dir', dir, '--key', key, '--json')).stdout,
  ) as Readonly<Record<string, unknown>>;
  assert.deepEqual(Object.keys(report), [
    ...['ok', 'chain', 'segments', 'records', 'bytes', 'live', 'first', 'last', 'signed', 'unsigned'],
    ...['problems', 'problem_count', 'notes'],
  ]);

  const first = join(dir, trail.segments[0]?.name ?? '');
  writeFileSync(first, readFileSync(first, 'utf8').replace('"status":403', '"status":200'));
  const bad = await perform('audit', 'verify', dir, '--key', key);
  assert.equal(bad.code, 6);
  assert.match(bad.stdout, /^broken: 000000000001-2026-11-20\.ndjson line 2, record 2: its hash does not fit/);
  const { ok, problems } = JSON.parse(
    (await perform('audit', 'verify', '--dir', dir, '--key', key, '--json')).stdout,
  ) as {
    ok: boolean;
    problems: unknown[];
  };
  assert.equal(ok, false);
  assert.deepEqual(problems, [
    {
      kind: 'hash_wrong',
      file: '000000000001-2026-11-20.ndjson',
      line: 2,
      seq: 2,
      says: 'its hash does not fit what it says: one of the two was changed',
    },
  ]);
});

test('verify: a cut end shows against a head, from the option, a log or stdout of both formats', async (t) => {
  const fixture = setUp(t);
  const { folder, dir, key, trail } = fixture;
  const head = headText(trail);
  const log = folder.file('guardbee.log');
  const lines = [
    '{"level":"INFO","msg":"ready"}',
    `{"level":"INFO","event.name":"audit.checkpoint","guardbee.audit.head":"${head}","msg":"the audit trail was signed"}`,
    `12:00:00 INFO the audit trail was signed guardbee.audit.head=${head}`,
  ];
  writeFileSync(log, `${lines.join('\n')}\n`);
  const plain = `${trail.seq}:${trail.hash}`;
  for (const given of [
    ['--head', head],
    ['--head', plain, '--head', head],
    ['--head-file', log],
  ]) {
    assert.equal((await perform('audit', 'verify', '--dir', dir, '--key', key, ...given)).code, 0, given.join(' '));
  }
  const file = lastFile(fixture);
  const kept = readFileSync(file, 'utf8').split('\n').slice(0, -2).join('\n');
  writeFileSync(file, `${kept}\n`);
  assert.equal((await perform('audit', 'verify', '--dir', dir, '--key', key)).code, 0, 'nobody can tell');
  for (const given of [
    ['--head', head],
    ['--head', plain],
    ['--head-file', log],
  ]) {
    const found = await perform('audit', 'verify', '--dir', dir, '--key', key, ...given);
    assert.equal(found.code, 6, given.join(' '));
    assert.match(found.stdout, /record 9 was written, and the trail ends with record 8: its end is cut off/);
  }
});

test('verify: heads are taken from lines of guardbee alone, whatever carried them', async (t) => {
  const { folder, dir, key, trail } = setUp(t);
  const log = folder.file('guardbee.log');
  const verify = async (...lines: readonly string[]): ReturnType<typeof perform> => {
    writeFileSync(log, `${lines.join('\n')}\n`);
    return await perform('audit', 'verify', '--dir', dir, '--key', key, '--head-file', log);
  };
  const line = (head: string): string =>
    JSON.stringify({ level: 'INFO', 'event.name': 'audit.checkpoint', 'guardbee.audit.head': head, msg: 'signed' });
  const real = headText(trail);
  const made = `9:${'deadbeef:'.repeat(7)}deadbeef`;
  const carried = (head: string): string[] => [
    line(head),
    `guardbee-1  | ${line(head)}`,
    `2026-11-20T12:00:00.1Z stdout F ${line(head)}`,
    JSON.stringify({ log: `${line(head)}\n`, stream: 'stdout' }),
    JSON.stringify({ __CURSOR: 's=1', MESSAGE: line(head) }),
    `2026-11-20T12:00:00.000Z INFO  the audit trail was signed guardbee.audit.head=${head}`,
    `\u001b[2m2026-11-20T12:00:00.000Z\u001b[0m \u001b[32mINFO \u001b[0m the audit trail was signed guardbee.audit.head=${head}`,
    head,
  ];
  for (const one of carried(real)) assert.equal((await verify(one)).code, 0, one);
  for (const one of carried(made)) assert.equal((await verify(one)).code, 6, one);

  const said = `the audit trail was signed guardbee.audit.head=${made}`;
  const requests = [
    { 'url.path': `/guardbee.audit.head=${made}` },
    { 'url.path': `/"guardbee.audit.head":"${made}"` },
    { 'user_agent.original': line(made) },
    { 'user_agent.original': said },
  ];
  for (const fields of requests) {
    const [[name, value] = ['', '']] = Object.entries(fields);
    const json = JSON.stringify({ level: 'INFO', msg: 'request', ...fields, 'guardbee.listener': 'main' });
    for (const one of [
      json,
      `guardbee-1  | ${json}`,
      JSON.stringify({ log: `${json}\n` }),
      `12:00:00 INFO  request ${name}=${JSON.stringify(value)}`,
      `12:00:00 INFO  request ${name}=${value.replace(/[\s"]/g, '')} guardbee.listener=main`,
    ]) {
      const found = await verify(one, line(real));
      assert.equal(found.code, 0, `${one}\n${found.stdout}`);
    }
  }
});

test('names and texts that hold line ends begin no line of their own', async (t) => {
  const { dir, key, trail } = setUp(t);
  writeFileSync(join(dir, 'x\nok: 12 records'), '');
  const verified = await perform('audit', 'verify', '--dir', dir, '--key', key);
  assert.equal(verified.code, 6);
  assert.doesNotMatch(verified.stdout, /^ok/m);
  assert.ok(verified.stdout.includes('x\\nok: 12 records'));
  trail.add({ event: 'auth_failure', result: 'denied', who: 'x\n2026-11-20T12:00:00.000Z  auth_success' });
  trail.write(dir);
  const printed = await perform('audit', 'tail', '--dir', dir, '-n', '1');
  assert.equal(printed.stdout.trimEnd().split('\n').length, 1, printed.stdout);
});

test('verify: the key is the one that is given, and one that lies beside is said to be no more than that', async (t) => {
  const { folder, dir, trail } = setUp(t);
  const beside = await perform('audit', 'verify', '--dir', dir);
  assert.equal(beside.code, 0);
  assert.match(beside.stderr, /whoever can write there can have put it there/);
  const other = folder.file('other.pem');
  writeFileSync(other, new TrailBuilder().key.pem);
  const wrong = await perform('audit', 'verify', '--dir', dir, '--key', other);
  assert.equal(wrong.code, 6);
  assert.match(wrong.stdout, /signed with the key/);
  assert.equal(
    (await perform('audit', 'verify', '--dir', dir, '--key', other, '--key', join(dir, 'audit.pub.pem'))).code,
    0,
  );
  unlinkSync(join(dir, 'audit.pub.pem'));
  const without = await perform('audit', 'verify', '--dir', dir);
  assert.equal(without.code, 1);
  assert.match(without.stderr, /which key signs it/);
  assert.equal((await perform('audit', 'verify', '--dir', dir, '--no-signatures')).code, 0);
  const file = join(dir, trail.segments[0]?.name ?? '');
  assert.equal((await perform('audit', 'verify', file, '--no-signatures')).code, 0);
  writeFileSync(other, 'not a key');
  assert.equal((await perform('audit', 'verify', '--dir', dir, '--key', other)).code, 1);
});

test('wrong usage is 2, and what is not there is 1', async (t) => {
  const { folder, dir, key } = setUp(t);
  for (const [code, ...argv] of [
    [2, 'verify', '--dir', dir, '--head', '12'],
    [2, 'verify', '--dir', dir, '--head', `12:${'g'.repeat(64)}`],
    [2, 'verify', '--dir', dir, '--policy', 'x.yaml'],
    [2, 'verify', '--dir', dir, '--key', key, '--no-signatures'],
    [2, 'tail', '--dir', dir, '-n', 'many'],
    [2, 'tail', '--dir', dir, '--event', 'nothing'],
    [2, 'export', '--dir', dir, '--format', 'xml'],
    [2, 'export', '--dir', dir],
    [2, 'export', '--dir', dir, '--format', 'csv', '--since', 'yesterday'],
    [1, 'verify', '--dir', folder.file('nowhere'), '--key', key],
    [1, 'verify', '--dir', dir, '--key', folder.file('nowhere')],
    [1, 'verify', '--dir', dir, '--key', key, '--head-file', folder.file('nowhere')],
    [1, 'tail', '--dir', folder.path],
    [1, 'export', '--dir', dir, '--key', key, '--format', 'csv', '--out', key],
  ] as const) {
    assert.equal((await perform('audit', ...argv)).code, code, argv.join(' '));
  }
});

test('tail: the last records, over segments, and only those that are wanted', async (t) => {
  const fixture = setUp(t);
  const { dir } = fixture;
  const { code, stdout, stderr } = await perform('audit', 'tail', '--dir', dir, '-n', '4');
  assert.equal(code, 0);
  assert.equal(stderr, '');
  const words = stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.split(/ {2,}/)[1]);
  assert.deepEqual(words, ['segment_sealed', 'segment_opened', 'auth_success', 'checkpoint']);
  const wanted = await perform('audit', 'tail', '--dir', dir, '-n', '2', '--event', 'authorization_denied', '--json');
  const ids = wanted.stdout
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { request_id: string }).request_id);
  assert.deepEqual(ids, ['r2', 'r3']);
  assert.equal((await perform('audit', 'tail', '--dir', dir, '-n', '0')).stdout, '');
  assert.equal((await perform('audit', 'tail', '--dir', dir, '-n', '100')).stdout.trimEnd().split('\n').length, 9);
  appendFileSync(lastFile(fixture), '{"who":"\u001b[2J"}\n');
  const bad = await perform('audit', 'tail', '--dir', dir, '-n', '1');
  assert.equal(bad.stdout, '');
  assert.match(bad.stderr, /a line of the trail is no record/);
  assert.ok(!bad.stderr.includes('\u001b'));
});

test('export: nothing of a broken trail, unless that is asked for', async (t) => {
  const fixture = setUp(t);
  const { folder, dir, key, trail } = fixture;
  const exported = async (...argv: string[]): ReturnType<typeof perform> =>
    perform('audit', 'export', '--dir', dir, '--key', key, ...argv);
  const json = await exported('--format', 'json');
  assert.equal(json.code, 0);
  const records = JSON.parse(json.stdout) as { seq: number }[];
  assert.deepEqual(
    records.map(({ seq }) => seq),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  assert.match(json.stderr, /not noted in the trail/);

  const csv = await exported('--format', 'csv', '--event', 'auth_success');
  assert.match(csv.stdout, /^seq,time,event,.*\r\n8,2026-11-21T[^,]*,auth_success,answered,,'=cmd\|x,/);

  const rbee = await exported('--format', 'rbee', '--service-id', 'queen-rbee');
  const lines = rbee.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  assert.equal(lines.length, 4);
  assert.equal(lines[0]?.['audit_id'], 'audit-queen-rbee-0000000000000000');
  assert.equal(lines[1]?.['prev_hash'], lines[0]['hash']);
  assert.match(rbee.stderr, /left out: checkpoint 2, segment_opened 2, segment_sealed 1/);

  const since = await exported('--format', 'json', '--since', '2026-11-21', '--until', '2026-11-22');
  assert.deepEqual(
    (JSON.parse(since.stdout) as { seq: number }[]).map(({ seq }) => seq),
    [7, 8, 9],
  );
  assert.equal((await exported('--format', 'json', '--until', '2020-01-01')).stdout, '[\n]\n');

  const out = folder.file('export.json');
  assert.equal((await exported('--format', 'json', '--out', out)).code, 0);
  assert.equal(readFileSync(out, 'utf8'), json.stdout);
  assert.equal(statSync(out).mode & 0o777, 0o600);

  const first = join(dir, trail.segments[0]?.name ?? '');
  writeFileSync(first, readFileSync(first, 'utf8').replace('"status":403', '"status":200'));
  const bad = await exported('--format', 'json', '--out', folder.file('bad.json'));
  assert.equal(bad.code, 6);
  assert.equal(bad.stdout, '');
  assert.match(bad.stderr, /line 2, record 2: .*\n.*nothing was exported/s);
  assert.throws(() => statSync(folder.file('bad.json')), /ENOENT/);
  const anyway = await exported('--format', 'json', '--broken-too');
  assert.equal(anyway.code, 0);
  assert.equal((JSON.parse(anyway.stdout) as unknown[]).length, 8);
  assert.match(anyway.stderr, /the trail is broken/);
});

const UNPRINTABLE = /[\p{Cc}\p{Cf}]/u;

test('a terminal sees no character that moves its cursor, whoever wrote the trail, and JSON stays JSON', async (t) => {
  const folder = new TemporaryDirectory(t);
  // guardbee itself escapes these before it writes them.
  const who = 'a\u202eb\u009b2Jc\u001b[31m';
  const dir = new TrailBuilder()
    .add({ event: 'auth_success', result: 'answered', who })
    .checkpoint()
    .write(folder.path);
  for (const argv of [['tail'], ['tail', '--json'], ['export', '--format', 'json'], ['export', '--format', 'csv']]) {
    const out = new Capture({ isTTY: true });
    const err = new Capture({ isTTY: true });
    const voice = new ProcessVoice(out, err, { NO_COLOR: '1' });
    assert.equal(await main(['audit', ...argv, '--dir', dir], voice), 0);
    const moving = [...`${out.text}${err.text}`.replaceAll('\r\n', '\n')].filter(
      (one) => one !== '\n' && UNPRINTABLE.test(one),
    );
    assert.deepEqual(moving, [], argv.join(' '));
    if (argv.includes('--json')) {
      const [, record = ''] = out.text.split('\n');
      assert.equal((JSON.parse(record) as { who: string }).who, who);
    }
  }
});

test('tail -f and export end when whoever reads them has gone', async (t) => {
  const { dir } = setUp(t);
  for (const argv of [
    ['tail', '-f'],
    ['export', '--format', 'json'],
  ]) {
    const voice = new ProcessVoice(new Capture({ fails: 'EPIPE' }), new Capture(), {});
    const code = await within(main(['audit', ...argv, '--dir', dir], voice), argv.join(' '));
    assert.equal(code, argv[0] === 'tail' ? 0 : 1);
  }
});
