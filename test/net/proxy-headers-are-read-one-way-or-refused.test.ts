import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { addressOf, formatAddressAndPort, parseAddress, sameAddress } from '../../src/net/address.js';
import {
  MOST_HEADER_BYTES,
  type ProxiedConnection,
  type ProxyHeader,
  proxyHeader,
  readProxyHeader,
} from '../../src/net/proxy-protocol.js';

const SIGNATURE = '0d0a0d0a000d0a515549540a';
const V4 = 'c0a80107' + 'c0a8010a' + 'c001' + '08ae';
const V6 = `${'20010db8'.padEnd(31, '0')}1${'20010db8'.padEnd(31, '0')}2c00108ae`;

const text = (line: string): Buffer => Buffer.from(line, 'latin1');
const binary = (hex: string): Buffer => Buffer.from(`${SIGNATURE}${hex}`, 'hex');

/** `192.168.1.7:49153 > 192.168.1.10:2222 after 46`, `nobody after 15`, `more`, `malformed`. */
function said(bytes: Buffer): string {
  const read: ProxyHeader = readProxyHeader(bytes);
  if (read.kind !== 'header') return read.kind;
  if (read.connection === null) return `nobody after ${String(read.length)}`;
  const { source, destination } = read.connection;
  const [from, to] = [source, destination].map(({ address, port }) => formatAddressAndPort(address, port));
  return `${from ?? ''} > ${to ?? ''} after ${String(read.length)}`;
}

const HEADERS: readonly (readonly [string, Buffer, string])[] = [
  ['v1', text('PROXY TCP4 192.168.1.7 192.168.1.10 49153 2222\r\n'), '192.168.1.7:49153 > 192.168.1.10:2222 after 48'],
  ['v1 and what follows', text('PROXY TCP4 1.2.3.4 5.6.7.8 1 65535\r\nSSH-2.0'), '1.2.3.4:1 > 5.6.7.8:65535 after 36'],
  ['v1 of IPv6', text('PROXY TCP6 2001:db8::1 2001:DB8:0::2 0 2\r\n'), '[2001:db8::1]:0 > [2001:db8::2]:2 after 42'],
  ['v1 of mapped IPv4', text('PROXY TCP6 ::ffff:1.2.3.4 ::1 1 2\r\n'), '1.2.3.4:1 > [::1]:2 after 35'],
  ['the longest v1', text(`PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`), 'FULL'],
  ['v1 that does not say', text('PROXY UNKNOWN\r\n'), 'nobody after 15'],
  ['v1 that does not say, and more', text('PROXY UNKNOWN ffff:f...f 1 2\r\n'), 'nobody after 30'],
  ['v2', binary(`2111000c${V4}`), '192.168.1.7:49153 > 192.168.1.10:2222 after 28'],
  [
    'v2 and what follows',
    Buffer.concat([binary(`2111000c${V4}`), text('SSH')]),
    '192.168.1.7:49153 > 192.168.1.10:2222 after 28',
  ],
  ['v2 of IPv6', binary(`21210024${V6}`), '[2001:db8::1]:49153 > [2001:db8::2]:2222 after 52'],
  ['v2 with TLVs', binary(`21110013${V4}04000474657374`), '192.168.1.7:49153 > 192.168.1.10:2222 after 35'],
  [
    'v2 with as many TLVs as fit',
    binary(`21110208${V4}${'00'.repeat(508)}`),
    '192.168.1.7:49153 > 192.168.1.10:2222 after 536',
  ],
  ['LOCAL', binary('20000000'), 'nobody after 16'],
  ['LOCAL with addresses', binary(`2011000c${V4}`), 'nobody after 28'],
  ['LOCAL of a family that there is not', binary('20ff0002abcd'), 'nobody after 18'],
  ['v2 that does not say', binary('21000004aabbccdd'), 'nobody after 20'],
  // Not yet.
  ['nothing', text(''), 'more'],
  ['a part of v1', text('PROXY TCP4 192.168.1'), 'more'],
  ['v1 whose line has not ended', text('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r'), 'more'],
  ['a part of the signature', Buffer.from('0d0a0d0a00', 'hex'), 'more'],
  ['v2 without its addresses', binary('2111000cc0a8'), 'more'],
  // Never.
  ['HTTP', text('GET / HTTP/1.1\r\n'), 'malformed'],
  ['a banner of SSH', text('SSH-2.0-OpenSSH\r\n'), 'malformed'],
  ['a TLS handshake', Buffer.from('1603010200', 'hex'), 'malformed'],
  ['small letters', text('proxy TCP4 1.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['a request for PROXYD', text('PROXYD'), 'malformed'],
  ['LF alone', text('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n'), 'malformed'],
  ['another CR', text('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\r\n'), 'malformed'],
  ['two blanks', text('PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['a blank at the end', text('PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n'), 'malformed'],
  ['a tab', text('PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['another transport', text('PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['UNKNOWNX', text('PROXY UNKNOWNX\r\n'), 'malformed'],
  ['a missing port', text('PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n'), 'malformed'],
  ['a port too large', text('PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n'), 'malformed'],
  ['a port with a zero', text('PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n'), 'malformed'],
  ['a port with a sign', text('PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n'), 'malformed'],
  ['an octet with a zero', text('PROXY TCP4 010.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['IPv6 as TCP4', text('PROXY TCP4 ::1 ::1 1 2\r\n'), 'malformed'],
  ['IPv4 as TCP6', text('PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n'), 'malformed'],
  ['a zone', text('PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n'), 'malformed'],
  ['a line too long', text(`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`), 'malformed'],
  ['a line without end', text(`PROXY UNKNOWN ${'x'.repeat(200)}`), 'malformed'],
  ['a signature with one byte off', Buffer.from('0d0a0d0a000d0a515549540b', 'hex'), 'malformed'],
  ['version 1 in the binary form', binary(`1111000c${V4}`), 'malformed'],
  ['version 3', binary(`3111000c${V4}`), 'malformed'],
  ['another command', binary(`2211000c${V4}`), 'malformed'],
  ['datagrams', binary(`2112000c${V4}`), 'malformed'],
  ['a unix socket', binary(`213100d8${'00'.repeat(216)}`), 'malformed'],
  ['a family without a protocol', binary(`2110000c${V4}`), 'malformed'],
  ['a length too short for its addresses', binary(`2111000b${V4}`), 'malformed'],
  ['a length too short for IPv6', binary(`21210023${V6}`), 'malformed'],
  ['a header of 537 bytes', binary('21110209'), 'malformed'],
  ['the longest header there could be', binary('2111ffff'), 'malformed'],
  ['LOCAL of 537 bytes', binary('20000209'), 'malformed'],
];

describe('a PROXY header', () => {
  for (const [what, bytes, expected] of HEADERS) {
    test(`${what}: ${expected}`, () => {
      const full = `[${'ffff:'.repeat(7)}ffff]:65535 > [${'ffff:'.repeat(7)}ffff]:65535 after 104`;
      assert.equal(said(bytes), expected === 'FULL' ? full : expected);
    });
  }

  test('is read the same, however it is cut, and no part of it is taken for the whole', () => {
    for (const [what, bytes, expected] of HEADERS) {
      const whole = readProxyHeader(bytes);
      if (whole.kind !== 'header') continue;
      for (let length = 0; length < whole.length; length += 1) {
        assert.equal(said(bytes.subarray(0, length)), 'more', `${what}: ${String(length)} bytes of it`);
      }
      if (expected !== 'FULL') assert.equal(said(bytes.subarray(0, whole.length)), expected, what);
    }
  });

  const endpoint = fc.record({
    address: fc.oneof(
      fc.nat(0xffffffff).map((word) => addressOf([0, 0, 0xffff, word])),
      fc
        .tuple(fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff), fc.nat(0xffffffff))
        .map((words) => addressOf(words)),
    ),
    port: fc.nat(65_535),
  });

  test('that is written is read as it was meant', () => {
    const connection: fc.Arbitrary<ProxiedConnection> = fc.record({ source: endpoint, destination: endpoint });
    fc.assert(
      fc.property(connection, fc.constantFrom('v1', 'v2'), fc.uint8Array({ maxLength: 64 }), (meant, version, rest) => {
        const header = proxyHeader(version, meant);
        const read = readProxyHeader(Buffer.concat([header, rest]));
        assert.ok(read.kind === 'header' && read.connection !== null);
        assert.equal(read.length, header.length);
        for (const end of ['source', 'destination'] as const) {
          assert.ok(sameAddress(read.connection[end].address, meant[end].address));
          assert.equal(read.connection[end].port, meant[end].port);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('of whatever bytes is decided early, within its bound, and stays as it was decided', () => {
    const near = fc
      .tuple(
        fc.constantFrom(...HEADERS.map(([, bytes]) => bytes)),
        fc.nat(),
        fc.nat(255),
        fc.uint8Array({ maxLength: 700 }),
      )
      .map(([bytes, at, value, rest]) => {
        const changed = Buffer.concat([bytes, rest]);
        if (changed.length > 0) changed[at % changed.length] = value;
        return changed;
      });
    const any = fc.uint8Array({ maxLength: 700 }).map((bytes) => Buffer.from(bytes));
    fc.assert(
      fc.property(fc.oneof(near, any), (bytes) => {
        const read = readProxyHeader(bytes);
        if (read.kind === 'more') assert.ok(bytes.length < MOST_HEADER_BYTES);
        if (read.kind === 'header') assert.ok(read.length <= MOST_HEADER_BYTES && read.length <= bytes.length);
        // What was refused stays refused, whatever else comes.
        if (read.kind === 'malformed') assert.equal(said(Buffer.concat([bytes, text('\r\n')])), 'malformed');
        const told = said(bytes);
        if (read.kind === 'header') assert.equal(said(Buffer.concat([bytes, text('more')])), told);
      }),
      { numRuns: 2000 },
    );
  });

  test('of an IPv4 and an IPv6 end is written as IPv6', () => {
    const source = { address: parseAddress('192.168.1.7'), port: 1 };
    const destination = { address: parseAddress('2001:db8::1'), port: 2 };
    assert.ok(source.address !== null && destination.address !== null);
    const mixed = {
      source: { ...source, address: source.address },
      destination: { ...destination, address: destination.address },
    };
    assert.equal(proxyHeader('v1', mixed).toString(), 'PROXY TCP6 ::ffff:192.168.1.7 2001:db8::1 1 2\r\n');
    assert.equal(said(proxyHeader('v2', mixed)), '192.168.1.7:1 > [2001:db8::1]:2 after 52');
  });
});
