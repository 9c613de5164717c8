import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { addressOf, formatAddress } from '../../src/net/address.js';
import { parseCidr } from '../../src/net/cidr.js';
import { charactersOf } from './characters-of.js';

const good: readonly (readonly [text: string, first: string, last: string, prefixLength: number])[] = [
  ['0.0.0.0/0', '0.0.0.0', '255.255.255.255', 0],
  ['10.0.0.0/8', '10.0.0.0', '10.255.255.255', 8],
  ['192.168.1.0/24', '192.168.1.0', '192.168.1.255', 24],
  ['128.0.0.0/1', '128.0.0.0', '255.255.255.255', 1],
  ['10.0.0.2/31', '10.0.0.2', '10.0.0.3', 31],
  ['10.0.0.7/32', '10.0.0.7', '10.0.0.7', 32],
  ['10.0.0.7', '10.0.0.7', '10.0.0.7', 32],
  ['::/0', '::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 0],
  ['::1', '::1', '::1', 128],
  ['2001:DB8::/32', '2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff', 32],
  ['fe80::/10', 'fe80::', 'febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 10],
  ['2001:db8::/127', '2001:db8::', '2001:db8::1', 127],
  ['64:ff9b::10.0.0.0/104', '64:ff9b::a00:0', '64:ff9b::aff:ffff', 104],
];

const bad: readonly (readonly [text: string, problem: RegExp, hint: string | RegExp])[] = [
  ['', /empty/, /10\.0\.0\.7/],
  ['10.0.0.0/33', /prefix length 33 is more than 32/, /10\.0\.0\.0 for that one host, or a prefix length from 0 to 32/],
  ['2001:db8::/129', /prefix length 129 is more than 128/, /from 0 to 128/],
  ['010.0.0.1', /leading zero.*octal/, 'write 10.0.0.1'],
  ['10.00.0.0/8', /leading zero/, 'write 10.0.0.0/8'],
  ['010.0.0.5/8', /leading zero/, /like 10\.0\.0\.7/],
  ['10.0.0.5/8', /bits set beyond its prefix of 8/, 'write 10.0.0.0/8, or 10.0.0.5'],
  ['2001:db8::1/32', /bits set/, 'write 2001:db8::/32, or 2001:db8::1'],
  ['::1/0', /bits set/, 'write ::/0, or ::1'],
  ['::ffff:10.0.0.0/8', /v4-mapped/, 'write it as IPv4: 10.0.0.0/8'],
  ['::ffff:10.0.0.0/104', /v4-mapped/, 'write it as IPv4: 10.0.0.0/8'],
  ['::ffff:10.0.0.5/104', /v4-mapped/, 'write it as IPv4: 10.0.0.0/8'],
  ['::ffff:a00:1', /v4-mapped/, 'write it as IPv4: 10.0.0.1'],
  ['::ffff:10.0.0.1', /v4-mapped/, 'write it as IPv4: 10.0.0.1'],
  ['::ffff:0:0/96', /v4-mapped/, 'write it as IPv4: 0.0.0.0/0'],
  ['::ffff:10.0.0.0/64', /v4-mapped/, /write it as IPv4/],
  ['fe80::1%eth0', /zone/, 'leave it out and write fe80::1'],
  ['fe80::%eth0/10', /zone/, 'leave it out and write fe80::/10'],
  [' 10.0.0.1', /blank/, 'leave it out and write 10.0.0.1'],
  ['10.0.0.0 /8', /blank/, 'leave it out and write 10.0.0.0/8'],
  ['10.0.0.1\n', /blank/, 'leave it out and write 10.0.0.1'],
  ['10.0.0.1 10.0.0.2', /list/, /one entry for each/],
  ['10.0.0.1,10.0.0.2', /list/, /one entry for each/],
  ['10.0.0.1, 10.0.0.2', /blank|list/, /one entry for each|leave it out/],
  ['localhost', /name/, 'write 127.0.0.1 and ::1, one entry each'],
  ['queen.lan', /name/, /not looked up/],
  ['queen-1.lan/24', /name/, /not looked up/],
  ['*', /not an address/, /0\.0\.0\.0\/0.*::\/0/],
  ['any', /not an address/, /0\.0\.0\.0\/0/],
  ['10/8', /four numbers, here are 1/, 'write 10.0.0.0/8'],
  ['10.1', /four numbers, here are 2/, 'write 10.1.0.0/16'],
  ['192.168.1/24', /four numbers, here are 3/, 'write 192.168.1.0/24'],
  ['1.2.3.4.5', /four numbers, here are 5/, /like 10/],
  ['10.0.0.', /dot too many/, /like 10/],
  ['10.0.0.256', /more than 255/, /like 10/],
  ['2130706433', /more than 255/, /like 10/],
  ['192.168.1.*', /wildcard/, 'write 192.168.1.0/24'],
  ['10.*.*.*', /wildcard/, 'write 10.0.0.0/8'],
  ['10.0.0.1-10.0.0.9', /range from one address to another/, /prefixes/],
  ['10.0.0.0/255.0.0.0', /netmask/, 'write 10.0.0.0/8'],
  ['10.0.0.7/255.255.255.0', /netmask/, 'write 10.0.0.0/24'],
  ['10.0.0.0/255.0.255.0', /netmask/, /like 10/],
  ['10.0.0.0/', /no prefix length/, /10\.0\.0\.0/],
  ['10.0.0.0/08', /leading zero/, 'write 10.0.0.0/8'],
  ['10.0.0.0/-8', /not a prefix length/, /0 to 32/],
  ['10.0.0.0/+8', /not a prefix length/, /0 to 32/],
  ['10.0.0.0/8/8', /not a prefix length/, /0 to 32/],
  ['10.0.0.0/1e1', /not a prefix length/, /0 to 32/],
  ['::/x', /not a prefix length/, /0 to 128/],
  ['/8', /no address before/, /like 10/],
  ['10.0.0.1:80', /port/, 'leave it out and write 10.0.0.1'],
  ['[::1]', /brackets/, 'leave them out and write ::1'],
  ['[::1]:80', /brackets/, 'leave them out and write ::1'],
  ['http://10.0.0.1/', /URL/, /like 10/],
  ['1::2::3', /not a valid IPv6/, /like 10/],
  ['::g', /not a valid IPv6/, /like 10/],
  ['!10.0.0.1', /not an address/, /like 10/],
  ['1'.repeat(100_000), /too long/, /like 10/],
];

test('an address is a range of one, a prefix the range it says', () => {
  for (const [text, first, last, prefixLength] of good) {
    const result = parseCidr(text);
    assert.ok(result.ok, `${text}: ${result.ok ? '' : result.problem}`);
    assert.equal(result.range.text, text);
    assert.equal(formatAddress(addressOf(result.range.first)), first, text);
    assert.equal(formatAddress(addressOf(result.range.last)), last, text);
    assert.equal(result.range.prefixLength, prefixLength, text);
    assert.equal(result.range.family, first.includes(':') ? 6 : 4, text);
  }
});

test('each way to be wrong has its own words and its own way out', () => {
  for (const [text, problem, hint] of bad) {
    const result = parseCidr(text);
    const name = JSON.stringify(text.slice(0, 60));
    assert.ok(!result.ok, name);
    assert.match(result.problem, problem, name);
    if (typeof hint === 'string') assert.equal(result.hint, hint, name);
    else assert.match(result.hint ?? '', hint, name);
  }
});

test('a hint that says what to write is right itself', () => {
  for (const [text] of bad) {
    const result = parseCidr(text);
    assert.ok(!result.ok);
    const written = /(?:^|and )write (?:it as IPv4: )?([\da-f.:]+(?:\/\d+)?)(?:, or ([\da-f.:]+))?$/u.exec(
      result.hint ?? '',
    );
    const offered = (written ?? []).slice(1).filter((one: string | undefined) => one !== undefined);
    for (const one of offered) assert.ok(parseCidr(one).ok, `${text} → ${one}`);
  }
});

test('the words of a problem never repeat the text', () => {
  const result = parseCidr('hunter2');
  assert.ok(!result.ok);
  assert.ok(!JSON.stringify(result).includes('hunter2'));
});

test('no text makes it throw, and what it accepts has no bit beyond the prefix', () => {
  const nearly = fc.oneof(
    fc.string({ maxLength: 70 }),
    fc.string({ unit: charactersOf('0123456789af.:/%[]-*, '), maxLength: 24 }),
    fc.tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(140)).map(([text, prefix]) => `${text}/${prefix}`),
  );
  fc.assert(
    fc.property(nearly, (text) => {
      const result = parseCidr(text);
      if (!result.ok) {
        assert.notEqual(result.problem, '');
        assert.ok(result.hint === undefined || result.hint.length < 120);
        return;
      }
      const { first, last, family, prefixLength } = result.range;
      const bits = (words: readonly number[]): string =>
        words
          .map((word) => word.toString(2).padStart(32, '0'))
          .join('')
          .slice(family === 4 ? 96 : 0);
      assert.equal(bits(first).slice(prefixLength), '0'.repeat(bits(first).length - prefixLength));
      assert.equal(bits(last).slice(prefixLength), '1'.repeat(bits(last).length - prefixLength));
      assert.equal(bits(last).slice(0, prefixLength), bits(first).slice(0, prefixLength));
    }),
    { numRuns: 10_000, interruptAfterTimeLimit: 15_000 },
  );
});
