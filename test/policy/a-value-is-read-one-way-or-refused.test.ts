import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { formatBind, parseBind } from '../../src/policy/bind.js';
import { parseDate } from '../../src/policy/date.js';
import { didYouMean } from '../../src/policy/did-you-mean.js';
import { parseDuration } from '../../src/policy/duration.js';
import { parseFieldName } from '../../src/policy/field-name.js';
import { parseHostName } from '../../src/policy/host-name.js';
import { parseName } from '../../src/policy/name.js';
import type { Parsed } from '../../src/policy/parsed.js';
import { formatSize, parseSize } from '../../src/policy/size.js';
import { parseUpstream } from '../../src/policy/upstream.js';

/** The value, or the hint of the refusal (empty where there is none). */
function read<T>(result: Parsed<T>): T | { readonly refused: string } {
  return result.ok ? result.value : { refused: result.hint ?? '' };
}
const no = (hint = ''): { readonly refused: string } => ({ refused: hint });

function table<T>(
  name: string,
  parse: (text: string) => Parsed<T>,
  rows: readonly (readonly [string, unknown])[],
): void {
  describe(name, () => {
    for (const [text, expected] of rows)
      test(JSON.stringify(text), () => assert.deepEqual(read(parse(text)), expected));
  });
}

table('duration', parseDuration, [
  ['500ms', 500],
  ['15s', 15_000],
  ['5m', 300_000],
  ['24h', 86_400_000],
  ['7d', 604_800_000],
  ['24d', 24 * 86_400_000],
  ['25d', no()],
  ['0s', no()],
  ['', no()],
  ['15', no('write the unit too: 15s')],
  ['15 s', no('write 15s')],
  ['1.5h', no('write 90m')],
  ['2min', no('write 2m')],
  ['1m30s', no('write 90s')],
  ['1h30m', no('write 90m')],
  ['-1s', no()],
  ['1e3s', no()],
  ['１s', no()],
  ['1s\n', no('write 1s')],
  ['99999999999999s', no()],
  ['none', no()],
]);

table('size', parseSize, [
  ['512B', 512],
  ['16KiB', 16_384],
  ['2MiB', 2_097_152],
  ['1GiB', 1_073_741_824],
  ['0B', no()],
  ['2MB', no('write 2MiB')],
  ['2M', no('write 2MiB')],
  ['2 kb', no('write 2KiB')],
  ['100', no('write 100B')],
  ['1.5MiB', no()],
  ['999999999999GiB', no()],
]);

test('sizes are written as they are read', () => {
  for (const text of ['1B', '512B', '16KiB', '1MiB', '3GiB', '1025B']) {
    const size = parseSize(text);
    assert.ok(size.ok);
    assert.equal(formatSize(size.value), text);
  }
});

table('date', parseDate, [
  ['2027-01-01', Date.UTC(2027, 0, 1)],
  ['2028-02-29', Date.UTC(2028, 1, 29)],
  ['2027-02-29', no()],
  ['2027-13-01', no()],
  ['2027-01-01T08:00:00Z', Date.UTC(2027, 0, 1, 8)],
  ['2027-01-01t08:00:00z', Date.UTC(2027, 0, 1, 8)],
  ['2027-01-01T08:00:00.25+02:30', Date.UTC(2027, 0, 1, 5, 30, 0, 250)],
  ['2027-01-01T00:00:00-01:00', Date.UTC(2027, 0, 1, 1)],
  ['2027-01-01T24:00:00Z', no()],
  ['2027-01-01T08:00:60Z', no()],
  ['2027-01-01T08:00:00', no('say the time zone too: 2027-01-01T08:00:00Z')],
  ['2027-1-1', no('write 2027-01-01')],
  ['1.1.2027', no('write 2027-01-01')],
  ['2027/01/01', no('write 2027-01-01')],
  ['1969-12-31', no()],
  ['never', no()],
]);

table('name', parseName, [
  ['a', 'a'],
  ['jobs.read:all-x_1', 'jobs.read:all-x_1'],
  ['a'.repeat(64), 'a'.repeat(64)],
  ['a'.repeat(65), no()],
  ['1a', no()],
  ['a b', no()],
  ['ä', no()],
  ['a\n', no()],
  ['', no()],
]);

describe('bind', () => {
  for (const [text, formatted, loopback] of [
    ['127.0.0.1:8443', '127.0.0.1:8443', true],
    ['127.255.0.1:1', '127.255.0.1:1', true],
    ['localhost:8443', '127.0.0.1:8443', true],
    ['LOCALHOST:0', '127.0.0.1:0', true],
    ['[::1]:8443', '[::1]:8443', true],
    ['[0:0:0:0:0:0:0:1]:8443', '[::1]:8443', true],
    ['[::ffff:127.0.0.1]:8443', '127.0.0.1:8443', true],
    ['[::ffff:10.0.0.1]:8443', '10.0.0.1:8443', false],
    ['0.0.0.0:443', '0.0.0.0:443', false],
    ['[::]:443', '[::]:443', false],
    ['128.0.0.1:65535', '128.0.0.1:65535', false],
  ] as const) {
    test(text, () => {
      const bind = parseBind(text);
      assert.ok(bind.ok);
      assert.equal(formatBind(bind.value), formatted);
      assert.equal(bind.value.loopback, loopback);
      assert.ok(!bind.value.host.includes('['));
    });
  }
});

table('bind, refused', parseBind, [
  ['', no()],
  ['8443', no('write 127.0.0.1:8443')],
  [':8443', no('write 127.0.0.1:8443 for this machine alone, or 0.0.0.0:8443 for every IPv4 address')],
  ['*:443', no('write 127.0.0.1:443 for this machine alone, or 0.0.0.0:443 for every IPv4 address')],
  ['::1:8443', no('write "[::1]:8443"')],
  ['::1', no('write "[::1]:8443"')],
  ['2001:db8::1', no('write "[2001:db8::1]:8443"')],
  ['[::1]', no('write "[::1]:8443"')],
  ['[::1]:', no()],
  ['[::1', no()],
  ['[127.0.0.1]:80', no('write 127.0.0.1:80')],
  ['[fe80::1%eth0]:80', no('bind an address that is not link-local, or [::]')],
  ['127.0.0.1', no('write 127.0.0.1:8443')],
  ['localhost', no('write localhost:8443')],
  ['127.0.0.1:', no()],
  ['127.0.0.1:65536', no()],
  ['127.0.0.1:080', no()],
  ['127.0.0.1:0x50', no()],
  ['127.0.0.01:80', no('write 127.0.0.1:80')],
  ['127.1:80', no()],
  ['2130706433:80', no()],
  ['queen.lan:80', no('write the address itself, or localhost')],
  [' 127.0.0.1:80', no()],
  ['http://127.0.0.1:80', no('leave out the scheme and the path; TLS is switched on by tls')],
  ['unix:/run/x.sock', no()],
]);

table(
  'upstream',
  (text) => {
    const upstream = parseUpstream(text);
    return upstream.ok
      ? { ok: true, value: [upstream.value.name, upstream.value.authority, upstream.value.nearness] }
      : upstream;
  },
  [
    ['http://127.0.0.1:7833', ['127.0.0.1:7833', '127.0.0.1:7833', 'loopback']],
    ['HTTP://127.0.0.1', ['127.0.0.1:80', '127.0.0.1', 'loopback']],
    ['http://[::1]:7833', ['[::1]:7833', '[::1]:7833', 'loopback']],
    ['http://[::ffff:127.0.0.1]:1', ['127.0.0.1:1', '127.0.0.1:1', 'loopback']],
    ['http://localhost:7833', ['localhost:7833', 'localhost:7833', 'loopback']],
    ['http://LocalHost.:7833', ['localhost:7833', 'localhost:7833', 'loopback']],
    ['http://queen:7833', ['queen:7833', 'queen:7833', 'name']],
    ['http://localhost.evil.example:1', ['localhost.evil.example:1', 'localhost.evil.example:1', 'name']],
    ['http://10.0.0.5:7833', ['10.0.0.5:7833', '10.0.0.5:7833', 'remote']],
    ['http://0.0.0.0:1', ['0.0.0.0:1', '0.0.0.0:1', 'remote']],
    ['unix:/run/queen.sock', ['unix:/run/queen.sock', '', 'loopback']],
    ['unix:///run/queen.sock', no('write unix:/run/queen.sock')],
    ['unix:queen.sock', no('write unix:/run/NAME.sock')],
    [`unix:/${'a'.repeat(107)}`, no()],
    ['/run/queen.sock', no('a unix socket is written unix:/path/of.sock')],
    ['127.0.0.1:7833', no('write http://127.0.0.1:7833')],
    ['7833', no('write http://127.0.0.1:7833')],
    ['https://127.0.0.1:7833/x', no('write https://127.0.0.1:7833')],
    ['ws://127.0.0.1:7833', no('write http://127.0.0.1:7833')],
    ['http://127.0.0.1:7833/', no('write http://127.0.0.1:7833')],
    ['http://127.0.0.1:7833?a=b', no('write http://127.0.0.1:7833')],
    ['http://127.0.0.1:0', no()],
    ['http://127.0.0.1:65536', no()],
    ['http://127.0.0.1:', no()],
    ['http://::1:7833', no('write "http://[::1]:7833"')],
    ['http://2130706433:80', no('write four numbers from 0 to 255, without leading zeros')],
    ['http://0x7f.1:80', no('write four numbers from 0 to 255, without leading zeros')],
    ['http://127.1:80', no('write four numbers from 0 to 255, without leading zeros')],
    ['http://', no('write http://127.0.0.1:PORT')],
    ['ftp://127.0.0.1', no()],
  ],
);

test('what stands before an @ is never said again', () => {
  for (const text of [
    'http://u:hunter2@127.0.0.1',
    'https://hunter2@h/x',
    'hunter2@127.0.0.1:80',
    'ftp://a:hunter2@b',
  ]) {
    const upstream = parseUpstream(text);
    assert.ok(!upstream.ok);
    assert.doesNotMatch(JSON.stringify(upstream), /hunter2/);
  }
});

table('host name', parseHostName, [
  ['Queen.LAN', 'queen.lan'],
  ['queen.lan.', 'queen.lan'],
  ['localhost', 'localhost'],
  ['a_b', 'a_b'],
  ['192.168.1.10', '192.168.1.10'],
  ['[2001:DB8:0::1]', '2001:db8::1'],
  ['2001:db8::1', '2001:db8::1'],
  ['::ffff:10.0.0.1', no('write 10.0.0.1')],
  ['*.lan', no('list each name')],
  ['queen.lan:80', no('write queen.lan')],
  ['http://queen.lan:80/x', no('write queen.lan')],
  ['queen/x', no()],
  ['', no()],
  ['.', no()],
  ['a..b', no()],
  ['-a', no()],
  ['_a', no()],
  ['a b', no()],
  ['1.2.3', no('write four numbers from 0 to 255, without leading zeros')],
  [`${'a'.repeat(64)}.lan`, no()],
  ['bücher.example', no('write xn--bcher-kva.example')],
]);

table('field name', parseFieldName, [
  ['X-Admin-Token', 'x-admin-token'],
  ['Host', no()],
  ['CONTENT-LENGTH', no()],
  ['Connection', no()],
  ['X-Admin-Token: x', no('write X-Admin-Token')],
  ['X Y', no()],
  ['', no()],
]);

describe('did you mean', () => {
  const keys = ['allow_from', 'trusted_proxies', 'upstream', 'routes', 'name', 'warn'];
  for (const [text, expected] of [
    ['allow_form', 'allow_from'],
    ['allowFrom', 'allow_from'],
    ['Allow-From', 'allow_from'],
    ['upstraem', 'upstream'],
    ['rotues', 'routes'],
    ['warning', 'warn'],
    ['nam', 'name'],
    ['zebra', undefined],
    ['', undefined],
    ['a'.repeat(10_000), undefined],
  ] as const) {
    test(text.slice(0, 20), () => assert.equal(didYouMean(text, keys), expected));
  }
});
