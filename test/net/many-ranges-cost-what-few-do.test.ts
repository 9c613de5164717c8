import assert from 'node:assert/strict';
import { BlockList, isIPv4 } from 'node:net';
import { test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { formatAddress, parseAddress } from '../../src/net/address.js';
import type { Address } from '../../src/net/address.js';
import { parseCidr } from '../../src/net/cidr.js';
import type { CidrRange } from '../../src/net/cidr.js';
import { CidrSet } from '../../src/net/cidr-set.js';

const range = (text: string): CidrRange => {
  const result = parseCidr(text);
  assert.ok(result.ok, text);
  return result.range;
};
const set = (...texts: string[]): CidrSet => new CidrSet(texts.map(range));
const address = (text: string): Address => {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null, text);
  return parsed;
};

test('both ends of a range are in it and their neighbours are not', () => {
  const ranges = set('10.0.0.0/8', '192.168.1.7', '2001:db8::/32', '::1', '255.255.255.255', 'ffff::/16');
  const inside = [
    '10.0.0.0',
    '10.255.255.255',
    '::ffff:10.1.2.3',
    '192.168.1.7',
    '2001:db8::',
    '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff',
    '::1',
    '255.255.255.255',
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
  ];
  const outside = [
    '9.255.255.255',
    '11.0.0.0',
    '192.168.1.6',
    '192.168.1.8',
    '2001:db7:ffff:ffff:ffff:ffff:ffff:ffff',
    '2001:db9::',
    '::',
    '::2',
    '0.0.0.0',
    '255.255.255.254',
    'fffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    '::10.0.0.1',
  ];
  for (const text of inside) assert.ok(ranges.has(address(text)), text);
  for (const text of outside) assert.ok(!ranges.has(address(text)), text);
});

test('every IPv6 address is not every address, nor the other way round', () => {
  assert.ok(set('::/0').has(address('::1')));
  assert.ok(!set('::/0').has(address('10.0.0.1')));
  assert.ok(!set('::/0').has(address('::ffff:10.0.0.1')));
  assert.ok(!set('::/64').has(address('::ffff:10.0.0.1')));
  assert.ok(set('0.0.0.0/0').has(address('::ffff:10.0.0.1')));
  assert.ok(!set('0.0.0.0/0').has(address('::1')));
});

test('an empty set holds nothing', () => {
  assert.equal(CidrSet.EMPTY.size, 0);
  assert.deepEqual(CidrSet.EMPTY.texts, []);
  for (const text of ['0.0.0.0', '127.0.0.1', '::', '::1']) assert.ok(!CidrSet.EMPTY.has(address(text)));
});

test('it says the ranges as they were written, repeated and overlapping ones too', () => {
  const texts = ['10.0.0.0/8', '10.1.0.0/16', '10.0.0.0/8', '2001:DB8::/32'];
  const ranges = set(...texts);
  assert.deepEqual(ranges.texts, texts);
  assert.equal(ranges.size, 4);
  assert.ok(Object.isFrozen(ranges) && Object.isFrozen(ranges.texts));
  assert.match(inspect(ranges), /10\.1\.0\.0\/16/);
});

/** Few bits vary, so that ranges overlap, touch and hold the addresses asked for. */
const bits4 = fc.tuple(fc.constantFrom(0, 10, 127, 128, 255), fc.constantFrom(0, 1, 255), fc.nat(3), fc.nat(255));
const v4 = bits4.map((octets) => octets.join('.'));
const group = fc.constantFrom(0, 1, 0x7fff, 0x8000, 0xfffe, 0xffff);
const v6 = fc
  .tuple(group, fc.constantFrom(0, 1), fc.constantFrom(0, 0xffff), group, group, group, fc.nat(3), fc.nat(0xffff))
  .map((groups) => groups.map((one) => one.toString(16)).join(':'));
const cidr = fc.oneof(
  fc.tuple(v4, fc.nat(32)).map(([text, prefix]) => network(text, prefix)),
  fc.tuple(v6, fc.nat(128)).map(([text, prefix]) => network(text, prefix)),
);

/** The address with the bits beyond the prefix cleared, in the words of the hint that parseCidr gives. */
function network(text: string, prefix: number): string {
  const result = parseCidr(`${text}/${prefix}`);
  if (result.ok) return `${text}/${prefix}`;
  return /write (\S+\/\d+), or/u.exec(result.hint ?? '')?.[1] ?? '198.51.100.0/24';
}

test('node:net.BlockList gives the same answers', () => {
  fc.assert(
    fc.property(
      fc.array(cidr, { maxLength: 30 }),
      fc.array(fc.oneof(v4, v6, fc.ipV4(), fc.ipV6()), { minLength: 1, maxLength: 30 }),
      (texts, probes) => {
        const ours = set(...texts);
        const v4List = new BlockList();
        const v6List = new BlockList();
        for (const text of texts) {
          const [base = '', prefix] = text.split('/');
          if (isIPv4(base)) v4List.addSubnet(base, Number(prefix), 'ipv4');
          else v6List.addSubnet(base, Number(prefix), 'ipv6');
        }
        // The ends of each range and their neighbours are where an error would be.
        const ends = texts.flatMap((text) => {
          const { first, last, family } = range(text);
          return [first, last].flatMap((words) =>
            [-1, 0, 1].map((step): Address => {
              const low = (words[3] + step) >>> 0;
              return { family, words: [words[0], words[1], words[2], low] };
            }),
          );
        });
        for (const probe of [...ends, ...probes.map(address)]) {
          // node has answered differently for v4-mapped addresses over time; ours are IPv4, so ask as IPv4.
          const text = formatAddress(probe);
          const theirs = isIPv4(text) ? v4List.check(text, 'ipv4') : v6List.check(text, 'ipv6');
          assert.equal(ours.has(probe), theirs, `${text} in ${texts.join(' ')}`);
        }
      },
    ),
    { numRuns: 1_000, interruptAfterTimeLimit: 20_000 },
  );
});

test('10,000 ranges cost per look-up what 10 do', () => {
  const ranges = (count: number): CidrSet =>
    new CidrSet(
      Array.from({ length: count }, (_, i) => [
        // Every second network, so that nothing merges.
        range(
          `10.${(i * 2) >> 8}.${(i * 2) & 0xff}.0/24`.replace(/^10\.(\d+)/u, (_m, n: string) => {
            return `${10 + (Number(n) >> 8)}.${Number(n) & 0xff}`;
          }),
        ),
        range(`2001:db8:${(i * 2).toString(16)}::/48`),
      ]).flat(),
    );
  const probes = ['10.0.2.7', '10.200.3.1', '192.0.2.1', '2001:db8:2::1', '2001:db9::1', '::1'].map(address);
  const look = (where: CidrSet): number => {
    const start = process.hrtime.bigint();
    let found = 0;
    for (let i = 0; i < 20_000; i++) for (const probe of probes) if (where.has(probe)) found++;
    assert.ok(found > 0);
    return Number(process.hrtime.bigint() - start) / (20_000 * probes.length);
  };
  const few = ranges(10);
  const many = ranges(10_000);
  // The best of several rounds: other tests run on the same cores.
  const best = { few: Infinity, many: Infinity };
  for (let round = 0; round < 15; round++) {
    best.few = Math.min(best.few, look(few));
    best.many = Math.min(best.many, look(many));
  }
  // log2(20,000) is four times log2(20); a walk over the list would be a thousand times.
  assert.ok(best.many < best.few * 10 + 100, `${best.few} ns for 10, ${best.many} ns for 10,000`);
});
