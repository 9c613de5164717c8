import assert from 'node:assert/strict';
import test from 'node:test';
import { type Rule, violation } from '../../src/check/check.js';
import { type HostRules, type UrlRules, url } from '../../src/check/url.js';
import { parseCidr } from '../../src/net/cidr.js';

const PLAIN: UrlRules = {
  schemes: ['http', 'https'],
  hosts: null,
  ports: null,
  private: 'refuse',
  loopback: 'refuse',
  max: 2048,
};

function judge(rules: Partial<UrlRules>, value: string): Rule | null {
  return violation(url(false, { ...PLAIN, ...rules }), value, { caller: null, form: 'text' });
}

function hosts(names: readonly string[], suffixes: readonly string[], ranges: readonly string[]): HostRules {
  return {
    names: new Set(names),
    suffixes,
    ranges: ranges.map((text) => {
      const read = parseCidr(text);
      assert.ok(read.ok, text);
      return read.range;
    }),
  };
}

const TABLE: readonly (readonly [string, Rule | null])[] = [
  ['http://hive.example.com:7835', null],
  ['https://hive.example.com/', null],
  ['HTTP://HIVE.example.COM/a?b=c:d@e', null],
  ['http://8.8.8.8/', null],
  ['http://[2606:4700::1]:80/', null],
  ['http://xn--bcher-kva.example/', null],
  ['http://a.example/%2e%2E/@b', null],
  ['', 'empty'],
  [`http://a.example/${'a'.repeat(2048)}`, 'too_long'],
  // Other schemes.
  ['file:///etc/passwd', 'url_malformed'],
  ['gopher://a.example/', 'url_scheme'],
  ['ftp://a.example/', 'url_scheme'],
  ['javascript:alert(1)', 'url_malformed'],
  ['//a.example/', 'url_malformed'],
  ['http:/a.example/', 'url_malformed'],
  ['http:///a.example/', 'url_malformed'],
  ['http:a.example', 'url_malformed'],
  // Two readers, two hosts.
  ['http://user@a.example/', 'url_malformed'],
  ['http://user:pass@127.0.0.1/', 'url_malformed'],
  ['http://a.example@127.0.0.1/', 'url_malformed'],
  ['http://127.0.0.1\\@a.example/', 'url_malformed'],
  ['http:\\\\127.0.0.1/', 'url_malformed'],
  ['http://a.example\\.evil.example/', 'url_malformed'],
  ['http://a.example#@127.0.0.1/', 'url_malformed'],
  ['http://a.example?@127.0.0.1/', 'url_malformed'],
  ['http://a.example/#x', 'url_malformed'],
  ['http://a.example:80:81/', 'url_malformed'],
  ['http://a.example:/', 'url_malformed'],
  ['http://a.example:0/', 'url_malformed'],
  ['http://a.example:080/', 'url_malformed'],
  ['http://a.example:65536/', 'url_malformed'],
  ['http://a.example:99999/', 'url_malformed'],
  ['http://a.example:-1/', 'url_malformed'],
  ['http://a.example/\t', 'url_malformed'],
  ['http://a.exa\tmple/', 'url_malformed'],
  ['http://a.exa\nmple/', 'url_malformed'],
  ['http://a.example/\r\nX: y', 'url_malformed'],
  [' http://a.example/', 'url_malformed'],
  ['http://a.example/ ', 'url_malformed'],
  ['http://a.example/\n', 'url_malformed'],
  ['http://a.example/\0', 'url_malformed'],
  ['http://a.example/%', 'url_malformed'],
  ['http://a.example/%zz', 'url_malformed'],
  ['http://a%2eexample/', 'url_malformed'],
  ['http://127%2e0.0.1/', 'url_malformed'],
  ['http://a.example./', 'url_malformed'],
  ['http://localhost./', 'url_malformed'],
  ['http://127.0.0.1./', 'url_malformed'],
  ['http://a..example/', 'url_malformed'],
  ['http://-a.example/', 'url_malformed'],
  ['http://a_b.example/', 'url_malformed'],
  ['http://b\u00fccher.example/', 'url_malformed'],
  ['http://\uff11\uff12\uff17.0.0.1/', 'url_malformed'],
  ['http://127\u30020\u30020\u30021/', 'url_malformed'],
  ['http://ⓛocalhost/', 'url_malformed'],
  ['http://a.example/"', 'url_malformed'],
  ['http://a.example/{x}', 'url_malformed'],
  // Loopback, in all its clothes.
  ['http://127.0.0.1/', 'url_loopback'],
  ['http://127.1.2.3:7835/', 'url_loopback'],
  ['http://localhost:7833', 'url_loopback'],
  ['http://LOCALHOST/', 'url_loopback'],
  ['http://a.localhost/', 'url_loopback'],
  ['http://[::1]/', 'url_loopback'],
  ['http://[0:0:0:0:0:0:0:1]/', 'url_loopback'],
  ['http://[::ffff:127.0.0.1]/', 'url_loopback'],
  ['http://[::ffff:7f00:1]/', 'url_loopback'],
  ['http://[::127.0.0.1]/', 'url_loopback'],
  ['http://[64:ff9b::127.0.0.1]/', 'url_loopback'],
  ['http://[2002:7f00:1::]/', 'url_loopback'],
  ['http://[::ffff:0:127.0.0.1]/', 'url_loopback'],
  ['http://2130706433/', 'url_malformed'],
  ['http://0x7f000001/', 'url_malformed'],
  ['http://0x7f.0.0.1/', 'url_malformed'],
  ['http://017700000001/', 'url_malformed'],
  ['http://0177.0.0.1/', 'url_malformed'],
  ['http://127.0.0.01/', 'url_malformed'],
  ['http://127.1/', 'url_malformed'],
  ['http://127.0.1/', 'url_malformed'],
  ['http://0/', 'url_malformed'],
  ['http://a.0x1/', 'url_malformed'],
  ['http://a.0x/', 'url_malformed'],
  ['http://127.0.0.256/', 'url_malformed'],
  ['http://[127.0.0.1]/', 'url_malformed'],
  ['http://[::1%25lo]/', 'url_malformed'],
  ['http://[::1/', 'url_malformed'],
  ['http://[]/', 'url_malformed'],
  // Private networks.
  ['http://10.0.0.1/', 'url_private'],
  ['http://172.16.0.1/', 'url_private'],
  ['http://172.31.255.255/', 'url_private'],
  ['http://172.32.0.1/', null],
  ['http://192.168.1.7/', 'url_private'],
  ['http://100.64.0.1/', 'url_private'],
  ['http://100.100.100.200/', 'url_private'],
  ['http://198.18.0.1/', 'url_private'],
  ['http://192.0.0.170/', 'url_private'],
  ['http://240.0.0.1/', 'url_private'],
  ['http://[fc00::1]/', 'url_private'],
  ['http://[fd00:ec2::254]/', 'url_private'],
  ['http://[fec0::1]/', 'url_private'],
  ['http://[2001:db8::1]/', 'url_private'],
  ['http://[64:ff9b:1::1]/', 'url_private'],
  ['http://[::ffff:10.0.0.1]/', 'url_private'],
  ['http://[64:ff9b::a00:1]/', 'url_private'],
  ['http://[2002:c0a8:101::1]/', 'url_private'],
  ['http://[2001::1]/', 'url_private'],
  // Nothing a service should ask.
  ['http://169.254.169.254/latest/meta-data/', 'url_special_address'],
  ['http://169.254.1.1/', 'url_special_address'],
  ['http://[::ffff:169.254.169.254]/', 'url_special_address'],
  ['http://[fe80::1]/', 'url_special_address'],
  ['http://0.0.0.0/', 'url_special_address'],
  ['http://0.1.2.3/', 'url_special_address'],
  ['http://[::]/', 'url_special_address'],
  ['http://224.0.0.1/', 'url_special_address'],
  ['http://255.255.255.255/', 'url_special_address'],
  ['http://[ff02::1]/', 'url_special_address'],
];

test('what a URL may be where nothing is said', () => {
  for (const [value, rule] of TABLE) assert.equal(judge({}, value), rule, JSON.stringify(value).slice(0, 60));
});

test('whatever passes has the host for the platform that it has for us', () => {
  for (const [value, rule] of TABLE) {
    if (rule !== null) continue;
    const host = /^[a-z]+:\/\/([^/]*)/i.exec(value)?.[1]?.toLowerCase().replace(/:80$/, '');
    assert.equal(new URL(value).host, host, value);
  }
});

test('private and loopback addresses by choice, special ones never', () => {
  const open = { private: 'allow', loopback: 'allow' } as const;
  for (const value of ['http://10.0.0.1/', 'http://localhost:1/', 'http://[::1]/', 'http://[::ffff:127.0.0.1]/'])
    assert.equal(judge(open, value), null, value);
  for (const value of ['http://169.254.169.254/', 'http://0.0.0.0/', 'http://[fe80::1]/'])
    assert.equal(judge(open, value), 'url_special_address', value);
  assert.equal(judge({ private: 'allow' }, 'http://127.0.0.1/'), 'url_loopback');
  assert.equal(judge({ loopback: 'allow' }, 'http://10.0.0.1/'), 'url_private');
});

test('hosts that are listed, and no others', () => {
  const listed = {
    hosts: hosts(['queen.lan', 'localhost'], ['.hives.lan'], ['192.168.1.0/24', '169.254.169.254', '8.8.0.0/16']),
  };
  const rows: readonly (readonly [string, Rule | null])[] = [
    ['http://queen.lan/', null],
    ['http://QUEEN.LAN:7833/', null],
    ['http://a.hives.lan/', null],
    ['http://a.b.hives.lan/', null],
    ['http://hives.lan/', 'url_host'],
    ['http://evilhives.lan/', 'url_host'],
    ['http://queen.lan.evil.example/', 'url_host'],
    ['http://localhost/', null],
    ['http://127.0.0.1/', 'url_host'],
    ['http://192.168.1.7/', null],
    ['http://192.168.2.7/', 'url_host'],
    ['http://[::ffff:192.168.1.7]/', null],
    ['http://169.254.169.254/', null],
    ['http://169.254.169.253/', 'url_host'],
    ['http://8.8.8.8/', null],
    ['http://9.9.9.9/', 'url_host'],
  ];
  for (const [value, rule] of rows) assert.equal(judge(listed, value), rule, value);
});

test('a wide range opens nothing that nobody names', () => {
  const wide = { hosts: hosts([], ['.localhost'], ['0.0.0.0/0', '::/0']) };
  assert.equal(judge(wide, 'http://8.8.8.8/'), null);
  assert.equal(judge(wide, 'http://10.0.0.1/'), 'url_private');
  assert.equal(judge(wide, 'http://127.0.0.1/'), 'url_loopback');
  assert.equal(judge(wide, 'http://a.localhost/'), 'url_loopback');
  assert.equal(judge(wide, 'http://169.254.169.254/'), 'url_special_address');
});

test('ports that are listed, that of the scheme among them', () => {
  const ports = { ports: new Set([443, 7835]), schemes: ['http', 'https', 'grpc'] };
  assert.equal(judge(ports, 'http://a.example:7835/'), null);
  assert.equal(judge(ports, 'https://a.example/'), null);
  assert.equal(judge(ports, 'http://a.example/'), 'url_port');
  assert.equal(judge(ports, 'https://a.example:80/'), 'url_port');
  assert.equal(judge(ports, 'grpc://a.example/'), 'url_port');
});
