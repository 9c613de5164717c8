import assert from 'node:assert/strict';
import { posix } from 'node:path';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { DenialReason } from '../../src/denial.js';
import { type TargetResult, readTarget } from '../../src/http/target.js';
import { head1, head2, read, refusal } from './heads.js';

const reasonOf = (result: TargetResult): DenialReason | null => (result.ok ? null : result.reason);

/** Paths that some reader takes for another path than some other reader. */
const AMBIGUOUS = [
  // Dot segments, in every spelling that one decoding makes a dot of.
  '/.',
  '/..',
  '/./',
  '/../',
  '/a/.',
  '/a/..',
  '/a/./b',
  '/a/../b',
  '/%2e',
  '/%2E',
  '/%2e%2e',
  '/%2E%2e/',
  '/.%2e/a',
  '/%2e./a',
  '/a/%2e%2E/b',
  '/a/..?x',
  // Dots that a second decoding makes.
  '/%252e%252e/a',
  '/%252E',
  '/%25%32%65/a',
  '/%25%32e/a',
  '/%252%65/a',
  '/%25252e/a',
  '/%2525',
  '/%25u002e/a',
  '/a%252fb',
  '/a%255cb',
  '/a%2500',
  '/%25c0%25ae/a',
  // Dots to who normalizes Unicode: U+FF0E, U+2024, U+2025, with U+FF0F and U+FF3C as slashes.
  '/%ef%bc%8e',
  '/%ef%bc%8e%ef%bc%8e/a',
  '/.%ef%bc%8e/a',
  '/%e2%80%a4%e2%80%a4/a',
  '/%e2%80%a5/a',
  '/a%ef%bc%8f%e2%80%a5%ef%bc%8fb',
  '/a%ef%bc%bc..%ef%bc%bcb',
  // Slashes: empty segments are merged by some (nginx, werkzeug) and kept by others; a path that begins with two
  // names a host to whoever resolves it as a reference (RFC 3986 §4.2).
  '//',
  '//evil.test',
  '//evil.test/a',
  '/a//b',
  '/a//',
  '/a///b',
  '/http://evil.test/',
  // An encoded slash may make the same.
  '/%2f',
  '/%2F/a',
  '/%2fevil.test',
  '/a%2f',
  '/a/%2fb',
  '/a%2f%2fb',
  '/a%2f../b',
  '/a/..%2fb',
  '/a%2f.%2fb',
  '/a%2f%2e%2e%2fb',
  '/..%2f..%2fetc%2fpasswd',
  // Backslashes are slashes to WHATWG URL and to Windows.
  '/\\',
  '/\\evil.test',
  '/a\\b',
  '/a\\..\\b',
  '/%5c',
  '/%5C..',
  '/a%5cb',
  '/..%5c..',
  // Path parameters: Java's servers cut them off, before or after they look for dots.
  '/a;b',
  '/;',
  '/..;/a',
  '/..;x=y/a',
  '/.;/a',
  '/a;/../b',
  '/a%3bb',
  '/..%3b/a',
  '/admin;jsessionid=1',
  // Control characters, which end names in C and lines in logs.
  '/%00',
  '/a%00b',
  '/a%00.png',
  '/..%00/a',
  '/a%0a',
  '/a%0d%0aX-Auth-User:%20root',
  '/a%09b',
  '/a%1f',
  '/a%7f',
];

/** Not a path at all. */
const MALFORMED = [
  '',
  '*',
  'a',
  '?a',
  '.',
  'bee.test:80',
  'bee.test/',
  'http://bee.test/',
  '%2fa',
  '\\a',
  // A fragment never stands in a request; one reader cuts it off, the other sends it on.
  '/a#b',
  '/#',
  '/a?b#c',
  '/#/../admin',
  // Broken encodings: some keep them, some drop them, some guess.
  '/%',
  '/a%',
  '/a%2',
  '/a%g0',
  '/a%2g',
  '/a%%2e',
  '/%u002e%u002e/a',
  '/a%-1',
  '/a% 20',
  // Not UTF-8: overlong dots and slashes (CVE-2000-0884, CVE-2008-2938), surrogates, lone and missing bytes, too far.
  '/%c0%ae%c0%ae/a',
  '/%c0%2e',
  '/%e0%80%ae',
  '/%f0%80%80%ae',
  '/%f8%80%80%80%ae',
  '/a%c0%af..%c0%afb',
  '/%c1%9c',
  '/%e0%80%af',
  '/%c0%80',
  '/%ed%a0%80',
  '/%ed%a0%bd%ed%b8%80',
  '/%ff',
  '/%80',
  '/%c3',
  '/%f4%90%80%80',
  '/%2e%c0%2e',
  // C1 controls and the separators that end lines in JavaScript and Unicode-aware logs.
  '/%c2%80',
  '/%c2%85',
  '/%e2%80%a8',
  '/%e2%80%a9',
  // Bytes that may not stand in a target.
  '/a b',
  '/a\tb',
  '/a\r\nb',
  '/a\0b',
  '/a\x7fb',
  '/\xe9',
  '/\u00a0',
  '/é',
  '/\uff0e',
  '/a?b c',
  '/a?\xe9',
  '/a?b\0',
  '/a?b\r\nX: y',
];

/** Path and the segments in it. */
const GOOD: readonly (readonly [path: string, ...segments: string[]])[] = [
  ['/', ''],
  ['/a', 'a'],
  ['/a/', 'a', ''],
  ['/v1/jobs/job-1_2.3~4/stream', 'v1', 'jobs', 'job-1_2.3~4', 'stream'],
  ['/.well-known/openid-configuration', '.well-known', 'openid-configuration'],
  ['/...', '...'],
  ['/a/.../b', 'a', '...', 'b'],
  ['/.a/..b/c../d.', '.a', '..b', 'c..', 'd.'],
  ['/%2ea', '.a'],
  ['/a%2e', 'a.'],
  ['/%61dmin', 'admin'],
  ['/%41%4D', 'AM'],
  ['/a%20b', 'a b'],
  ['/a+b', 'a+b'],
  ['/100%25', '100%'],
  ['/100%25/x', '100%', 'x'],
  ['/%25', '%'],
  ['/%25%25', '%%'],
  ['/%252', '%2'],
  ['/%25x0', '%x0'],
  ['/a%2Fb', 'a/b'],
  ['/a%2fb/c', 'a/b', 'c'],
  ['/caf%C3%A9', 'café'],
  ['/%F0%9F%90%9D', '🐝'],
  ['/AC%EF%BC%8FDC', 'AC／DC'],
  ['/wait%E2%80%A6', 'wait…'],
  ["/!$&'()*+,=:@-._~", "!$&'()*+,=:@-._~"],
  ['/"<>^`{|}[]', '"<>^`{|}[]'],
  ['/a%3Fb', 'a?b'],
  ['/a%23b', 'a#b'],
  ['/@evil.test', '@evil.test'],
  ['/:80', ':80'],
  ['/a:b@c', 'a:b@c'],
  ['/*', '*'],
  [`/${'a/'.repeat(500)}b`, ...'a'.repeat(500), 'b'],
];

describe('targets are read one way', () => {
  for (const path of AMBIGUOUS)
    test(`ambiguous: ${path}`, () => assert.equal(reasonOf(readTarget(path)), 'ambiguous_path'));

  for (const path of MALFORMED)
    test(`malformed: ${JSON.stringify(path)}`, () => assert.equal(reasonOf(readTarget(path)), 'malformed_target'));

  for (const [path, ...segments] of GOOD) {
    test(`good: ${path.slice(0, 60)}`, () => {
      for (const query of [null, '', 'a=b', '/../..//%00;\\?%2e%252e']) {
        const raw = query === null ? path : `${path}?${query}`;
        const result = readTarget(raw);
        assert.ok(result.ok, raw);
        const { encodedSlash, ...rest } = result.target;
        assert.deepEqual(rest, { raw, path, query, segments });
        assert.equal(encodedSlash, /%2f/i.test(path));
      }
    });
  }

  test('a path of the longest head is read in time that grows with its length', () => {
    for (const piece of ['a', '/a', '%61', '%25', '%2f', '.', ';', '%C3%A9', '%EF%BC%8E']) {
      const path = `/${piece.repeat(Math.floor((256 * 1024) / piece.length))}`;
      const before = performance.now();
      readTarget(path);
      assert.ok(performance.now() - before < 2_000, piece);
    }
  });

  test('one reader or two, nested encodings of any depth and mixture are refused', () => {
    const encode = (text: string, all: boolean): string =>
      [...text]
        .map((c) => (all || !/[a-z0-9]/i.test(c) ? `%${c.charCodeAt(0).toString(16).padStart(2, '0')}` : c))
        .join('');
    for (const hidden of ['..', '.', '/', '\\', '\0', ';', '../a']) {
      for (const ways of [
        [true, false],
        [true, true],
        [false, true],
        [true, false, false],
        [true, true, false, true],
      ]) {
        let text = hidden;
        for (const all of ways) text = encode(text, all);
        assert.notEqual(reasonOf(readTarget(`/a/${text}/b`)), null, text);
      }
    }
  });

  describe('forms (RFC 9112 §3.2)', () => {
    const TARGETS: readonly (readonly [target: string, outcome: string])[] = [
      ['http://bee.test/a?b', '/a?b'],
      ['http://bee.test', '/'],
      ['http://bee.test/', '/'],
      ['http://bee.test?b', '/?b'],
      ['HTTP://BEE.test/a', '/a'],
      ['http://bee.test:80/a', '/a'],
      ['http://bee.test./a', '/a'],
      // Another host, port or scheme than the Host field's.
      ['http://evil.test/a', 'host_ambiguous'],
      ['http://bee.test:81/a', 'host_ambiguous'],
      ['http://sub.bee.test/a', 'host_ambiguous'],
      ['https://bee.test/a', 'host_ambiguous'],
      // Userinfo, and everything that moves the end of the authority for some readers.
      ['http://user@bee.test/', 'malformed_target'],
      ['http://user:password@bee.test/', 'malformed_target'],
      ['http://bee.test@evil.test/', 'malformed_target'],
      ['http://bee.test\\@evil.test/', 'malformed_target'],
      ['http://bee.test%2f@evil.test/', 'malformed_target'],
      ['http://bee.test%00/', 'malformed_target'],
      ['http://bee.test#@evil.test/', 'malformed_target'],
      ['http://bee.test#', 'malformed_target'],
      ['http:///a', 'malformed_target'],
      ['http://:80/', 'malformed_target'],
      ['http:/bee.test/', 'malformed_target'],
      ['http:bee.test', 'malformed_target'],
      ['http:\\\\bee.test\\', 'malformed_target'],
      ['ws://bee.test/', 'malformed_target'],
      ['ftp://bee.test/', 'malformed_target'],
      ['file:///etc/passwd', 'malformed_target'],
      [' http://bee.test/', 'malformed_target'],
      // What stands in the path of an absolute form is judged like any other.
      ['http://bee.test//a', 'ambiguous_path'],
      ['http://bee.test/../a', 'ambiguous_path'],
      ['http://bee.test/a;b', 'ambiguous_path'],
      ['http://bee.test/%zz', 'malformed_target'],
      // Authority and asterisk form belong to CONNECT and to a server-wide OPTIONS; neither has a path to judge.
      ['bee.test:80', 'malformed_target'],
      ['*', 'malformed_target'],
      ['', 'malformed_target'],
    ];
    for (const [target, outcome] of TARGETS) {
      test(`HTTP/1.1: ${JSON.stringify(target)}`, () => {
        const raw = head1({ target });
        if (outcome.startsWith('/')) assert.equal(read(raw).target.raw, outcome);
        else assert.equal(refusal(raw), outcome);
      });
      test(`HTTP/2 has origin form only: ${JSON.stringify(target)}`, () => {
        assert.equal(refusal(head2({ target })), 'malformed_target');
      });
    }

    test('OPTIONS * is refused on both', () => {
      assert.equal(refusal(head1({ method: 'OPTIONS', target: '*' })), 'malformed_target');
      assert.equal(refusal(head2({ method: 'OPTIONS', target: '*' })), 'malformed_target');
    });
  });

  describe('properties', () => {
    /** What attacks on paths are made of, and a little of what paths are made of. */
    const piece = fc.constantFrom(
      ...['/', '//', '.', '..', '\\', ';', '?', '#', '%', '+', ' ', ':', '@', '~', '"', '{', '|', '\t', '\0'],
      ...[
        '%2e',
        '%2E',
        '%2f',
        '%5c',
        '%25',
        '%3b',
        '%00',
        '%0a',
        '%20',
        '%3f',
        '%23',
        '%7f',
        '%41',
        '%c0%ae',
        '%c3%a9',
      ],
      ...['%c3', '%a9', '%80', '%ef%bc%8e', '%ef%bc%8f', '%e2%80%a5', '%ef%bb%bf', '%ff', '%u002e', '%2', '%25%32'],
      ...['a', 'A', 'b', '0', '2', '5', 'e', 'f', 'é', 'ff', '2e', '2f', '65', '..;', 'http:'],
    );
    const target = fc.array(piece, { maxLength: 12 }).map((pieces) => `/${pieces.join('')}`);
    const mostly = { numRuns: 40_000, interruptAfterTimeLimit: 1_500 };

    /** Decodes what can be decoded and leaves the rest, as lenient readers do. */
    const again = (text: string): string =>
      text.replaceAll(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
    const hasDots = (path: string): boolean => path.split(/[/\\]/).some((part) => part === '.' || part === '..');

    test('WHATWG URL, a POSIX path and a second decoding see the path that was judged', () => {
      let accepted = 0;
      fc.assert(
        fc.property(target, (text) => {
          const result = readTarget(text);
          if (!result.ok) return;
          accepted += 1;
          const { raw, path, query, segments, encodedSlash } = result.target;
          assert.equal(raw, text);
          assert.equal(query === null ? path : `${path}?${query}`, text);

          const url = new URL(raw, 'http://base.test');
          assert.equal(url.host, 'base.test');
          assert.deepEqual(url.pathname.slice(1).split('/').map(decodeURIComponent), segments);

          const decoded = `/${segments.join('/')}`;
          assert.equal(posix.normalize(decoded), decoded);
          assert.equal(encodedSlash, decoded.split('/').length !== path.split('/').length);

          const twice = again(decoded);
          assert.equal(twice.split(/[/\\]/).length, decoded.split('/').length);
          assert.ok(!hasDots(twice));
          assert.ok(!hasDots(decoded.normalize('NFKC')));
          assert.doesNotMatch(decoded, /[\\;\p{Cc}]/u);
          assert.match(raw, /^[\x21-\x7e]+$/);
        }),
        mostly,
      );
      assert.ok(accepted > 100, String(accepted));
    });

    test('text of any kind is accepted or refused, never thrown at', () => {
      fc.assert(
        fc.property(fc.array(fc.nat(0x2fff), { maxLength: 40 }), (codes) => {
          const text = `/${String.fromCharCode(...codes)}`;
          const result = readTarget(text);
          if (result.ok) assert.match(text, /^\/[\x21-\x7e]*$/);
        }),
        mostly,
      );
    });
  });
});
