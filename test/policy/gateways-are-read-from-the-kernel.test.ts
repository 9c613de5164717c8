import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { test } from 'node:test';
import { defaultGatewaysV4, defaultGatewaysV6 } from '../../src/policy/gateways.js';

const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';

test('default routes through a gateway, of every interface, and no others', () => {
  const table =
    HEAD +
    'eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n' +
    'wlan0\t00000000\tFE01A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n' +
    // On the wire; a gateway of one network; a default route without gateway; a half of the default route.
    'eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n' +
    'eth0\t0000000A\t630200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n' +
    'tun0\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n' +
    'tun0\t00000000\t630200C0\t0003\t0\t0\t0\t00000080\t0\t0\t0\n';
  assert.deepEqual(defaultGatewaysV4(table, 'LE'), ['192.0.2.1', '192.168.1.254']);
  assert.deepEqual(defaultGatewaysV4(`${HEAD}eth0 00000000 C0000201 0003 0 0 0 00000000 0 0 0\n`, 'BE'), ['192.0.2.1']);
});

test('the same for IPv6', () => {
  const zeros = '0'.repeat(32);
  const line = (destination: string, length: string, gateway: string): string =>
    `${destination} ${length} ${zeros} 00 ${gateway} 00000400 00000003 00000000 00000003     eth0\n`;
  const table =
    line(zeros, '00', 'fd000000000000000000000000000001') +
    line(zeros, '00', 'fe80000000000000000000000000000a') +
    line(zeros, '00', zeros) +
    line('fd000000000000000000000000000000', '40', 'fd000000000000000000000000000009') +
    line(zeros, '01', 'fd000000000000000000000000000009');
  assert.deepEqual(defaultGatewaysV6(table), ['fd00::1', 'fe80::a']);
});

test('what is no table has no gateways', () => {
  for (const text of ['', 'x', HEAD, '\n\n\n', 'a b c d e f g h\n'.repeat(3)]) {
    assert.deepEqual(defaultGatewaysV4(text, 'LE'), []);
    assert.deepEqual(defaultGatewaysV6(text), []);
  }
});

test("the kernel's own tables can be read", () => {
  for (const gateway of [
    ...defaultGatewaysV4(readFileSync('/proc/net/route', 'latin1'), endianness()),
    ...defaultGatewaysV6(readFileSync('/proc/net/ipv6_route', 'latin1')),
  ]) {
    assert.match(gateway, /^[\d.]+$|^[\da-f:]+$/);
  }
});
