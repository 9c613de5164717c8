import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatAddress, parseAddress } from '../../src/net/address.js';
import type { Address } from '../../src/net/address.js';
import { parseCidr } from '../../src/net/cidr.js';
import { CidrSet } from '../../src/net/cidr-set.js';
import { clientAddress } from '../../src/net/client-address.js';
import { charactersOf } from './characters-of.js';

const trusted = new CidrSet(
  ['10.0.0.0/8', 'fd00::/8'].map((text) => {
    const result = parseCidr(text);
    assert.ok(result.ok);
    return result.range;
  }),
);
const address = (text: string): Address => {
  const parsed = parseAddress(text);
  assert.ok(parsed !== null, text);
  return parsed;
};
const client = (forwardedFor: string, peer = '10.0.0.1'): string | null => {
  const found = clientAddress(address(peer), forwardedFor, trusted);
  return found === null ? null : formatAddress(found);
};

const REFUSED = null;
const cases: readonly (readonly [forwardedFor: string, client: string | null, why: string])[] = [
  ['203.0.113.5', '203.0.113.5', 'one hop'],
  ['203.0.113.5, 10.0.0.2', '203.0.113.5', 'two hops'],
  ['203.0.113.5,10.0.0.2 ,\t10.0.0.3 ', '203.0.113.5', 'spaces and tabs around commas'],
  ['1.1.1.1, 203.0.113.5, 10.0.0.2', '203.0.113.5', 'the client forged an entry'],
  ['10.0.0.9, 203.0.113.5', '203.0.113.5', 'the client forged a trusted entry'],
  ['<script>, 203.0.113.5', '203.0.113.5', 'what the client wrote before the first untrusted hop is not read'],
  [', 203.0.113.5', '203.0.113.5', 'nor is an empty entry there'],
  ['10.0.0.9, 10.0.0.2', '10.0.0.9', 'all trusted: the leftmost'],
  ['10.0.0.9', '10.0.0.9', 'a proxy that asks itself'],
  ['', '10.0.0.1', 'no entry: the proxy itself asks'],
  [' \t', '10.0.0.1', 'an empty field is no entry'],
  ['203.0.113.5:5123', '203.0.113.5', 'IPv4 with port'],
  ['203.0.113.5:65535, 10.0.0.2:1', '203.0.113.5', 'every hop with port'],
  ['[2001:db8::5]:5123', '2001:db8::5', 'IPv6 with port'],
  ['[2001:db8::5]', '2001:db8::5', 'IPv6 in brackets'],
  ['2001:db8::5', '2001:db8::5', 'IPv6 bare'],
  ['2001:db8::5, fd00::1', '2001:db8::5', 'a trusted IPv6 hop'],
  ['::ffff:203.0.113.5', '203.0.113.5', 'v4-mapped is IPv4'],
  ['203.0.113.5, ::ffff:10.0.0.2', '203.0.113.5', 'a trusted v4-mapped hop'],
  [Array.from({ length: 64 }, () => '10.0.0.2').join(), '10.0.0.2', '64 entries'],
  [Array.from({ length: 65 }, () => '10.0.0.2').join(), REFUSED, '65 entries'],
  [`${','.repeat(64)}203.0.113.5`, REFUSED, 'more than 64 entries, though one would be read'],
  [','.repeat(100_000), REFUSED, 'a flood of commas'],
  ['unknown', REFUSED, 'unknown (RFC 7239 §6.2)'],
  ['_hidden', REFUSED, 'obfuscated (RFC 7239 §6.3)'],
  ['for=203.0.113.5', REFUSED, 'a Forwarded element'],
  ['"203.0.113.5"', REFUSED, 'quoted'],
  [',', REFUSED, 'empty entries'],
  ['203.0.113.5,', REFUSED, 'an empty last entry'],
  ['203.0.113.5, , 10.0.0.2', REFUSED, 'an empty entry within reach'],
  [',10.0.0.2', REFUSED, 'an empty first entry within reach'],
  ['203.0.113.5 10.0.0.2', REFUSED, 'no comma'],
  ['203.0.113.5\u00a0', REFUSED, 'a no-break space is no whitespace here'],
  ['203.0.113.5\r\n', REFUSED, 'a line end'],
  ['0203.0.113.5', REFUSED, 'a leading zero'],
  ['203.0.113.5:', REFUSED, 'no port after the colon'],
  ['203.0.113.5:65536', REFUSED, 'port too large'],
  ['203.0.113.5:-1', REFUSED, 'port negative'],
  ['203.0.113.5:123456', REFUSED, 'port too long'],
  ['[2001:db8::5]:', REFUSED, 'brackets, no port after the colon'],
  ['[2001:db8::5]5', REFUSED, 'no colon before the port'],
  ['[2001:db8::5', REFUSED, 'bracket left open'],
  ['2001:db8::5]', REFUSED, 'bracket never opened'],
  ['[[2001:db8::5]]', REFUSED, 'two brackets'],
  ['[203.0.113.5]:80', REFUSED, 'IPv4 in brackets'],
  ['[]:80', REFUSED, 'nothing in brackets'],
  ['fe80::1%eth0', REFUSED, 'a zone means nothing here'],
  ['203.0.113.0/24', REFUSED, 'a range is nobody'],
];

test('the first entry from the right that is not a trusted proxy is the client', () => {
  for (const [forwardedFor, expected, why] of cases) assert.equal(client(forwardedFor), expected, why);
});

test('a peer that is not trusted is the client, whatever it says', () => {
  for (const [forwardedFor] of cases) assert.equal(client(forwardedFor, '192.0.2.1'), '192.0.2.1');
});

test('whatever a client sends first, the answer is the address its own proxy saw, or a refusal', () => {
  const anything = fc.oneof(
    fc.string({ unit: charactersOf('0123456789abf.:,[] %'), maxLength: 60 }),
    fc.string(),
    fc.array(fc.ipV4()).map((list) => list.join(', ')),
  );
  fc.assert(
    fc.property(anything, (forged) => {
      const found = client(`${forged}, 203.0.113.5, 10.0.0.2`);
      assert.ok(found === '203.0.113.5' || (found === null && forged.split(',').length > 62), forged);
    }),
    { numRuns: 5_000, interruptAfterTimeLimit: 10_000 },
  );
});
