import assert from 'node:assert/strict';
import { isIP, isIPv4 } from 'node:net';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  formatAddress,
  formatAddressAndPort,
  isLoopback,
  isUnspecified,
  parseAddress,
  parsePeerAddress,
  sameAddress,
} from '../../src/net/address.js';
import type { Address } from '../../src/net/address.js';
import { charactersOf } from './characters-of.js';

const parsed = (text: string): Address => {
  const address = parseAddress(text);
  assert.ok(address !== null, text);
  return address;
};

const good: readonly (readonly [text: string, canonical: string])[] = [
  ['0.0.0.0', '0.0.0.0'],
  ['10.0.0.1', '10.0.0.1'],
  ['255.255.255.255', '255.255.255.255'],
  ['::', '::'],
  ['::1', '::1'],
  ['1::', '1::'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
  ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
  ['::2:3:4:5:6:7:8', '0:2:3:4:5:6:7:8'],
  ['1::3:4:5:6:7:8', '1:0:3:4:5:6:7:8'],
  ['FE80::00AB', 'fe80::ab'],
  ['2001:db8::1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
  ['0:0:0:0:0:0:0:0', '::'],
  ['::1.2.3.4', '::102:304'],
  ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ['1:2:3:4:5:6:1.2.3.4', '1:2:3:4:5:6:102:304'],
  ['1:2:3:4:5::1.2.3.4', '1:2:3:4:5:0:102:304'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['::FFFF:a00:1', '10.0.0.1'],
  ['0:0:0:0:0:ffff:10.0.0.1', '10.0.0.1'],
  ['0000:0000:0000:0000:0000:ffff:255.255.255.255', '255.255.255.255'],
  ['::ffff:0:10.0.0.1', '::ffff:0:a00:1'],
];

const bad: readonly string[] = [
  '',
  '.',
  ':',
  ' 10.0.0.1',
  '10.0.0.1 ',
  '10.0.0.1\n',
  '10.0.0.1\0',
  '010.0.0.1',
  '10.0.0.01',
  '00.0.0.0',
  '1.2.3',
  '1.2.3.',
  '1.2.3.4.',
  '.1.2.3.4',
  '1..2.3',
  '1.2.3.4.5',
  '256.0.0.1',
  '1.2.3.999999999999',
  '1.2.3.-4',
  '+1.2.3.4',
  '1e1.0.0.1',
  '0x7f.0.0.1',
  '2130706433',
  '127.1',
  '１.2.3.4',
  '10。0.0.1',
  '10.0.0.1/32',
  '10.0.0.1:80',
  '[::1]',
  '::1%lo',
  ':::',
  '1:::2',
  '1::2::3',
  ':1',
  '1:',
  '1:2:3:4:5:6:7',
  '1:2:3:4:5:6:7:',
  ':2:3:4:5:6:7:8',
  '1:2:3:4:5:6:7:8:9',
  '1:2:3:4:5:6:7:8::',
  '::1:2:3:4:5:6:7:8',
  '1:2:3:4::5:6:7:8',
  '00001::',
  'g::',
  '::1.2.3',
  '::01.2.3.4',
  '::1.2.3.4:1',
  '1.2.3.4::',
  '1.2.3.4::1',
  '1:2:3:4:5:6:7:1.2.3.4',
  '1:2:3:4:5:6::1.2.3.4',
  '::ffff:a.0.0.1',
  '::ffff:256.0.0.1',
  'localhost',
  'abcd',
  '1'.repeat(100_000),
  ':'.repeat(100_000),
];

test('every form of RFC 4291 is read and printed in its one canonical form', () => {
  for (const [text, canonical] of good) assert.equal(formatAddress(parsed(text)), canonical, text);
});

test('whatever two readers could read differently is not an address', () => {
  for (const text of bad) assert.equal(parseAddress(text), null, JSON.stringify(text.slice(0, 60)));
});

test('IPv4 and its v4-mapped form are one value of unsigned words', () => {
  for (const text of ['255.1.2.3', '::ffff:255.1.2.3', '::ffff:ff01:203']) {
    assert.deepEqual(parsed(text), { family: 4, words: [0, 0, 0xffff, 0xff010203] });
  }
  assert.deepEqual(parsed('ffff:ffff:8000::ffff:fffe'), { family: 6, words: [0xffffffff, 0x80000000, 0, 0xfffffffe] });
  assert.ok(sameAddress(parsed('10.0.0.1'), parsed('::ffff:10.0.0.1')));
  assert.ok(!sameAddress(parsed('10.0.0.1'), parsed('::10.0.0.1')));
});

test('a zone is cut off a peer address and accepted nowhere else', () => {
  const peers: readonly (readonly [string | undefined, string | null])[] = [
    ['fe80::1%eth0', 'fe80::1'],
    ['fe80::1%3', 'fe80::1'],
    ['::ffff:10.0.0.1%eth0', '10.0.0.1'],
    ['fe80::1', 'fe80::1'],
    ['10.0.0.1', '10.0.0.1'],
    ['10.0.0.1%eth0', null],
    ['fe80::1%', null],
    ['%eth0', null],
    ['', null],
    [undefined, null],
  ];
  for (const [text, canonical] of peers) {
    const address = parsePeerAddress(text);
    assert.equal(address === null ? null : formatAddress(address), canonical, text);
    if (text?.includes('%') === true) assert.equal(parseAddress(text), null);
  }
});

test('loopback is 127.0.0.0/8 in both forms and ::1, and nothing else', () => {
  for (const text of ['127.0.0.1', '127.255.255.255', '127.0.0.0', '::1', '::ffff:127.0.0.1', '::ffff:7f12:3456']) {
    assert.ok(isLoopback(parsed(text)), text);
  }
  for (const text of [
    '126.255.255.255',
    '128.0.0.0',
    '0.0.0.0',
    '::',
    '::2',
    '1::1',
    '::127.0.0.1',
    '::1:1',
    '7f00::1',
  ]) {
    assert.ok(!isLoopback(parsed(text)), text);
  }
});

test('unspecified is 0.0.0.0 in both forms and ::, and nothing else', () => {
  for (const text of ['0.0.0.0', '::', '::ffff:0:0']) assert.ok(isUnspecified(parsed(text)), text);
  for (const text of ['0.0.0.1', '::1', '1::', '::1:0:0', '127.0.0.1']) assert.ok(!isUnspecified(parsed(text)), text);
});

test('a port is written after the address, brackets where they are needed', () => {
  assert.equal(formatAddressAndPort(parsed('10.0.0.1'), 80), '10.0.0.1:80');
  assert.equal(formatAddressAndPort(parsed('::ffff:10.0.0.1'), 80), '10.0.0.1:80');
  assert.equal(formatAddressAndPort(parsed('::1'), 80), '[::1]:80');
});

const almostAddress = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.ipV4Extended(),
  fc.string({ unit: charactersOf('0123456789abcdefAFg.:::%'), maxLength: 46 }),
  // One character of a right address changed, taken out or put in.
  fc
    .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.nat(45), fc.nat(1), fc.constantFrom('', '0', '.', ':', 'f', '-', ' '))
    .map(([text, at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut)),
);

test('node:net accepts the same texts', () => {
  fc.assert(
    fc.property(almostAddress, (text) => {
      assert.equal(parseAddress(text) !== null, isIP(text) !== 0 && !text.includes('%'), text);
    }),
    { numRuns: 20_000, interruptAfterTimeLimit: 10_000 },
  );
});

test('the WHATWG URL parser reads the same value', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const canonical = formatAddress(parsed(text));
      const literal = isIPv4(canonical) && !isIPv4(text) ? `::ffff:${canonical}` : canonical;
      const host = (t: string): string => new URL(`http://${isIPv4(t) ? t : `[${t}]`}/`).hostname;
      assert.equal(host(literal), host(text));
      if (!isIPv4(canonical)) assert.equal(`[${canonical}]`, host(text));
      else if (isIPv4(text)) assert.equal(canonical, text);
    }),
    { numRuns: 5_000, interruptAfterTimeLimit: 10_000 },
  );
});

test('printing and reading again gives the same value', () => {
  const anyWord = fc.oneof(fc.constantFrom(0, 1, 0xffff, 0x10000), fc.integer({ min: 0, max: 0xffffffff }));
  fc.assert(
    fc.property(fc.tuple(anyWord, anyWord, anyWord, anyWord), (words) => {
      const mapped = words[0] === 0 && words[1] === 0 && words[2] === 0xffff;
      const address: Address = { family: mapped ? 4 : 6, words };
      assert.deepEqual(parseAddress(formatAddress(address)), address);
    }),
    { numRuns: 5_000, interruptAfterTimeLimit: 10_000 },
  );
});
