import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { readAuthority, sameAuthority } from '../../src/http/host.js';
import { head1, head2, read, refusal } from './heads.js';

/** As sent; the name that rules see, and the port. */
const GOOD: readonly (readonly [text: string, name: string, port: number | null])[] = [
  ['bee.test', 'bee.test', null],
  ['Bee.TEST', 'bee.test', null],
  ['bee.test:8443', 'bee.test', 8443],
  ['bee.test:00080', 'bee.test', 80],
  ['bee.test:0', 'bee.test', 0],
  ['bee.test:65535', 'bee.test', 65535],
  ['bee.test.', 'bee.test', null],
  ['bee.test.:80', 'bee.test', 80],
  ['localhost', 'localhost', null],
  ['a_b.test', 'a_b.test', null],
  ['a-b-.test', 'a-b-.test', null],
  ['xn--bcher-kva.test', 'xn--bcher-kva.test', null],
  ['127.0.0.1:1', '127.0.0.1', 1],
  ['127.1', '127.1', null],
  ['[::1]', '::1', null],
  ['[::1]:8443', '::1', 8443],
  // One address, one name: what `hosts` holds is in this form.
  ['[0:0:0:0:0:0:0:1]', '::1', null],
  ['[::0001]:80', '::1', 80],
  ['[2001:DB8::000A]', '2001:db8::a', null],
  ['[::ffff:127.0.0.1]', '127.0.0.1', null],
  [`${'a'.repeat(63)}.test`, `${'a'.repeat(63)}.test`, null],
  [`${'a.'.repeat(126)}b.`, `${'a.'.repeat(126)}b`, null],
];

const BAD = [
  '.',
  '.bee.test',
  'bee..test',
  'bee.test..',
  '-bee.test',
  '_bee.test',
  'bee.test:',
  'bee.test:x',
  'bee.test:-1',
  'bee.test:+80',
  'bee.test:65536',
  'bee.test:100000',
  'bee.test:80:80',
  'bee.test: 80',
  'bee.test :80',
  ' bee.test',
  'bee.test ',
  'bee test',
  'bee.test\t',
  'bee.test,evil.test',
  'bee.test, evil.test',
  'bee.test/',
  'bee.test/a',
  'bee.test?a',
  'bee.test#a',
  'bee.test\\evil.test',
  'user@bee.test',
  'user:password@bee.test',
  'bee.test@',
  'bee%2etest',
  'bee.test%00',
  'bee.test%2f.evil.test',
  'http://bee.test',
  '*.bee.test',
  'b\u00fccher.test',
  'bee.test\u00a0',
  '"bee.test"',
  "bee'test",
  'bee;test',
  'bee!test',
  'bee$test',
  'bee(test)',
  '[]',
  '[::1',
  '::1',
  '::1]:80',
  '[::1]80',
  '[::1]:',
  '[::1]:x',
  '[::1]:65536',
  '[::1%25eth0]',
  '[fe80::1%eth0]',
  '[:::]',
  '[::::]',
  '[....]',
  '[1.2.3.4]',
  '[1:2]',
  '[1:2:3:4:5:6:7:8:9]',
  '[12345::]',
  '[::1]evil.test',
  '[::1]@evil.test',
  '[v1.a]',
  '[bee.test]',
  '[[::1]]',
  'a'.repeat(255),
  `${'a.'.repeat(127)}b`,
];

describe('hosts are read one way', () => {
  for (const [text, name, port] of GOOD) {
    test(`good: ${text.slice(0, 80)}`, () => {
      assert.deepEqual(readAuthority(text), { text, name, port });
      assert.equal(read(head1({ fields: ['host', text] })).authority.text, text);
      assert.equal(read(head2({ authority: text })).authority.name, name);
      assert.equal(read(head2({ authority: null }, `host: ${text}`)).authority.name, name);
    });
  }

  for (const text of BAD) {
    test(`bad: ${JSON.stringify(text.slice(0, 80))}`, () => {
      assert.equal(readAuthority(text), null);
      assert.equal(refusal(head1({ fields: ['host', text] })), 'malformed_head');
      assert.equal(refusal(head2({ authority: text })), 'malformed_head');
    });
  }

  describe('who says so', () => {
    test('HTTP/1: nobody', () => assert.equal(refusal(head1({ fields: [] })), 'host_missing'));
    test('HTTP/1: an empty field', () => assert.equal(refusal(head1({ fields: ['host', ''] })), 'host_missing'));
    test('HTTP/1.0: nobody', () => assert.equal(refusal(head1({ protocol: '1.0', fields: [] })), 'host_missing'));
    test('HTTP/1: an absolute form alone', () =>
      assert.equal(refusal(head1({ target: 'http://bee.test/', fields: [] })), 'host_missing'));
    test('HTTP/2: nobody', () => assert.equal(refusal(head2({ authority: null })), 'host_missing'));
    test('HTTP/2: an empty :authority, whatever the Host field says', () => {
      assert.equal(refusal(head2({ authority: '' })), 'host_missing');
      assert.equal(refusal(head2({ authority: '' }, 'host: bee.test')), 'host_missing');
    });

    for (const second of ['bee.test', 'BEE.test', 'evil.test', '']) {
      test(`two Host fields: bee.test and ${JSON.stringify(second)}`, () => {
        assert.equal(refusal(head1({}, `Host: ${second}`)), 'host_ambiguous');
        assert.equal(refusal(head1({}, `hOST: ${second}`)), 'host_ambiguous');
        assert.equal(refusal(head2({}, 'host: bee.test', `host: ${second}`)), 'host_ambiguous');
      });
    }

    for (const [host, expected] of [
      ['bee.test', null],
      ['BEE.TEST', null],
      ['evil.test', 'host_ambiguous'],
      ['bee.test:443', 'host_ambiguous'],
      ['bee.test.', 'host_ambiguous'],
      ['', 'host_ambiguous'],
    ] as const) {
      test(`HTTP/2: :authority bee.test and host ${JSON.stringify(host)}`, () => {
        assert.equal(refusal(head2({}, `host: ${host}`)), expected);
        assert.equal(refusal(head2({ authority: 'BEE.test' }, `host: ${host}`)), expected);
      });
    }
  });

  test('the same host: case, a dot at the end and the usual port make no difference, any other port does', () => {
    const same = (a: string, b: string, scheme: 'http' | 'https'): boolean =>
      sameAuthority(readAuthority(a)!, readAuthority(b)!, scheme);
    assert.ok(same('bee.test', 'BEE.test.:80', 'http'));
    assert.ok(same('bee.test', 'bee.test:443', 'https'));
    assert.ok(same('[::1]', '[0::1]:80', 'http'));
    assert.ok(!same('bee.test', 'bee.test:443', 'http'));
    assert.ok(!same('bee.test', 'bee.test:80', 'https'));
    assert.ok(!same('bee.test:8080', 'bee.test:8081', 'http'));
    assert.ok(!same('bee.test', 'sub.bee.test', 'http'));
  });

  test('what is accepted is a host to WHATWG URL too, with the same port', () => {
    const piece = fc.constantFrom(
      ...[
        'a',
        'B',
        '0',
        '127',
        '.',
        '..',
        '-',
        '_',
        ':',
        ':80',
        ':443',
        '[',
        ']',
        '::1',
        '[::1]',
        '@',
        '/',
        '\\',
        '%2e',
      ],
      ...['?', '#', ' ', ',', '\u00e9', 'localhost', 'test'],
    );
    fc.assert(
      fc.property(fc.array(piece, { minLength: 1, maxLength: 6 }), (pieces) => {
        const text = pieces.join('');
        const authority = readAuthority(text);
        // A last label of digits is an IPv4 address to WHATWG, often a broken one; `hosts` can't hold such a name.
        if (authority === null || /(?:^|\.)(?:\d+|0x[0-9a-f]*)$/.test(authority.name)) return;
        const url = new URL(`http://${text}/`);
        assert.equal(url.username, '');
        assert.equal(url.pathname, '/');
        assert.equal(url.port === '' ? 80 : Number(url.port), authority.port ?? 80);
        const name = url.hostname.replace(/^\[|\]$/g, '').replace(/\.$/, '');
        // It writes a v4-mapped address in hexadecimal.
        if (!authority.name.includes('.') || !name.includes(':')) assert.equal(name, authority.name);
      }),
      { numRuns: 40_000, interruptAfterTimeLimit: 1_000 },
    );
  });
});
