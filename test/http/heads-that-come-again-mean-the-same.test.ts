/**
 * Heads that came before on their connection are not read again. Whoever reads them must not be able to tell: whatever
 * is sent one after the other means what it means alone.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type ClientHeadContext, KnownHead, clientHead } from '../../src/http/client-head.js';
import { readAuthority } from '../../src/http/host.js';
import { type MessageResult, type RawHead, readMessage } from '../../src/http/message.js';
import { readHeadOn } from '../../src/http/repeated-heads.js';
import { MalformedAnswer, answerHead } from '../../src/proxy/answer-head.js';
import { LIMITS, fieldsOf, handshake, head1, head2 } from './heads.js';

const meaning = (read: MessageResult): unknown => (read.ok ? { ...read.message, repeated: null } : read.reason);
const repeated = (read: MessageResult): string | null => (read.ok ? read.message.repeated : null);

/** One of these is done to a head to make the next one on the connection. */
const CHANGES: readonly (readonly [what: string, change: (head: RawHead) => RawHead])[] = [
  ['nothing', (head) => ({ ...head, fields: [...head.fields] })],
  ['another path', (head) => ({ ...head, target: '/other?q=1' })],
  ['the path in another spelling', (head) => ({ ...head, target: '/%6fther' })],
  ['a path that means two things', (head) => ({ ...head, target: '/a/%2e%2e/b' })],
  ['a long path', (head) => ({ ...head, target: `/${'a'.repeat(3_000)}` })],
  ['a path that is too long', (head) => ({ ...head, target: `/${'a'.repeat(20_000)}` })],
  ['a target in absolute form', (head) => ({ ...head, target: `${head.scheme}://bee.test/abs` })],
  ['one of another host', (head) => ({ ...head, target: `${head.scheme}://other.test/abs` })],
  ['an asterisk', (head) => ({ ...head, target: '*' })],
  ['another method', (head) => ({ ...head, method: 'POST' })],
  ['a method that there is not', (head) => ({ ...head, method: 'BREW' })],
  ['another version', (head) => ({ ...head, protocol: head.protocol === '1.1' ? '1.0' : '1.1' })],
  ['HTTP/2', (head) => ({ ...head, protocol: '2', authority: 'bee.test' })],
  ['another authority', (head) => ({ ...head, authority: head.authority === null ? 'bee.test' : 'other.test' })],
  ['TLS or not', (head) => ({ ...head, scheme: head.scheme === 'http' ? 'https' : 'http' })],
  ['a body or not', (head) => ({ ...head, moreFollows: !head.moreFollows })],
  ['one field more', (head) => ({ ...head, fields: [...head.fields, 'X-More', '1'] })],
  ['a second token', (head) => ({ ...head, fields: [...head.fields, 'Authorization', 'Bearer other'] })],
  ['another token', (head) => replaced(head, 'Authorization', 'Bearer other')],
  ['a token of another length', (head) => replaced(head, 'Authorization', 'Bearer b')],
  ['another address', (head) => replaced(head, 'X-Forwarded-For', '10.9.9.9')],
  ['one field less', (head) => ({ ...head, fields: head.fields.slice(0, -2) })],
  ['a line end in a value', (head) => replaced(head, 'Accept', 'a\r\nb: c')],
  ['a length', (head) => ({ ...head, fields: [...head.fields, 'Content-Length', '5'] })],
  ['a length and chunks', (head) => ({ ...head, fields: [...head.fields, ...TWO_LENGTHS] })],
  [
    'names in capitals',
    (head) => ({ ...head, fields: head.fields.map((text, i) => (i % 2 ? text : text.toUpperCase())) }),
  ],
  [
    'values moved to other names',
    (head) => ({ ...head, fields: [...head.fields.slice(2), ...head.fields.slice(0, 2)] }),
  ],
  ['a handshake', () => handshake('Sec-WebSocket-Protocol: bearer, abcdefghijklmnopqrst')],
];
const TWO_LENGTHS = ['Content-Length', '5', 'Transfer-Encoding', 'chunked'];

function replaced(head: RawHead, name: string, value: string): RawHead {
  return { ...head, fields: head.fields.map((text, i) => (i % 2 === 1 && head.fields[i - 1] === name ? value : text)) };
}

const LINES = ['Authorization: Bearer one', 'Accept: */*', 'X-Forwarded-For: 10.0.0.1', 'Cookie: a=b'];
const FIRST = [
  head1({ target: '/first' }, ...LINES),
  head2({ target: '/first' }, ...LINES.map((one) => one.toLowerCase())),
];

describe('heads that come again mean the same', () => {
  test('a second one is told from a first', () => {
    for (const first of FIRST) {
      const connection = {};
      const again = (target = first.target): MessageResult =>
        readHeadOn(connection, { ...first, target, fields: [...first.fields] }, LIMITS);
      assert.deepEqual([again(), again(), again('/second'), again('/third'), again('/third')].map(repeated), [
        'nothing',
        'whole',
        'fields',
        'fields',
        'whole',
      ]);
      assert.equal(repeated(readHeadOn({}, first, LIMITS)), 'nothing', 'on another connection');
    }
  });

  test('after each change, and after the way back', () => {
    for (const first of FIRST) {
      for (const [what, change] of CHANGES) {
        const connection = {};
        const other = change(first);
        for (const head of [first, other, first, first, other, other, first]) {
          const read = readHeadOn(connection, { ...head, fields: [...head.fields] }, LIMITS);
          assert.deepEqual(meaning(read), meaning(readMessage(head, LIMITS)), what);
        }
      }
    }
  });

  test('whatever comes after whatever', () => {
    const change = fc.constantFrom(...CHANGES.map(([, one]) => one));
    fc.assert(
      fc.property(fc.constantFrom(...FIRST), fc.array(change, { maxLength: 12 }), (first, changes) => {
        const connection = {};
        let head = first;
        for (const one of [...changes, (last: RawHead) => last]) {
          const read = readHeadOn(connection, { ...head, fields: [...head.fields] }, LIMITS);
          assert.deepEqual(meaning(read), meaning(readMessage(head, LIMITS)));
          head = one(head);
        }
      }),
      { numRuns: 20_000, interruptAfterTimeLimit: 1_500 },
    );
  });

  test('by the limits of now', () => {
    const connection = {};
    const head = head1({ target: '/first' }, ...LINES);
    const narrow = { ...LIMITS, headFields: 2 };
    assert.equal(repeated(readHeadOn(connection, head, LIMITS)), 'nothing');
    assert.equal(repeated(readHeadOn(connection, head, LIMITS)), 'whole');
    assert.deepEqual(readHeadOn(connection, head, narrow), { ok: false, reason: 'too_many_fields' });
    const short = { ...LIMITS, headBytes: 200 };
    assert.equal(repeated(readHeadOn(connection, head, short)), 'nothing');
    const longer = { ...head, target: `/${'a'.repeat(100)}` };
    assert.deepEqual(readHeadOn(connection, longer, short), { ok: false, reason: 'head_too_large' });
  });

  test('what is long, and a handshake, is kept for nobody', () => {
    for (const head of [head1({}, `X-Long: ${'a'.repeat(2_048)}`), handshake()]) {
      const connection = {};
      for (let i = 0; i < 3; i += 1) assert.equal(repeated(readHeadOn(connection, head, LIMITS)), 'nothing');
    }
  });
});

describe('heads of answers that come again mean the same', () => {
  const PLAIN = ['HTTP/1.1 200 OK', 'Content-Type: text/event-stream', 'Content-Length: 5', 'Keep-Alive: timeout=7'];
  const text = (...lines: readonly string[]): string => lines.join('\r\n');

  test('the third is the second', () => {
    const head = text(...PLAIN, 'X-Once: third');
    const [first, second, third] = [answerHead(head), answerHead(head), answerHead(head)];
    assert.deepEqual([first.known === null, second.known === null], [true, false]);
    assert.equal(third, second);
    assert.deepEqual({ ...second, known: null }, first);
    assert.deepEqual([first.status, first.length, first.keepAliveMs, first.closes], [200, 5, 6_000, false]);
  });

  test('cookies are of one reader, and long heads are many: neither is kept', () => {
    for (const line of ['Set-Cookie: session=secret', 'SET-COOKIE: a=b', `X-Long: ${'a'.repeat(1_024)}`]) {
      for (let i = 0; i < 3; i += 1) assert.equal(answerHead(text(...PLAIN, line)).known, null, line);
    }
  });

  test('what is malformed stays so', () => {
    for (const line of ['Content-Length: 6', ': no name', 'Transfer-Encoding: gzip', 'a: b\nc: d']) {
      for (let i = 0; i < 3; i += 1) assert.throws(() => answerHead(text(...PLAIN, line)), MalformedAnswer, line);
    }
  });

  test('only so many are kept', () => {
    const others = (): void => {
      for (let i = 0; i < 200; i += 1) answerHead(text(...PLAIN, `X-Other: ${String(i)}`));
    };
    const head = text(...PLAIN, 'X-Once: kept');
    answerHead(head);
    assert.notEqual(answerHead(head).known, null);
    others();
    assert.equal(answerHead(head).known, null, 'it was forgotten');
  });

  test('for each reader, what is theirs', () => {
    const context: ClientHeadContext = {
      ...{ scheme: 'https', authority: readAuthority('queen.lan:8443')!, requestId: 'r-1', method: 'GET' },
      ...{ upstreamAuthority: '127.0.0.1:7833', upstreamSecure: false, sharing: null },
    };
    const raw = fieldsOf('Location: http://127.0.0.1:7833/x', 'Set-Cookie: a=b', 'Connection: X-Hop', 'X-Hop: 1');
    const readers = ['r-1', 'r-2'].flatMap((requestId) =>
      (['http', 'https'] as const).flatMap((scheme) =>
        ['GET', 'HEAD'].map((method) => ({ ...context, requestId, scheme, method })),
      ),
    );
    for (const fields of [raw, raw.slice(4), fieldsOf('Access-Control-Allow-Origin: *', 'Vary: Accept')]) {
      const known = new KnownHead();
      for (const reader of [...readers, ...readers.reverse()]) {
        const alone = clientHead(200, fields, reader);
        const kept = clientHead(200, fields, reader, known);
        assert.deepEqual(kept, alone);
        // Whoever gets it may add to it.
        kept?.fields.push('x-added', '1');
      }
    }
  });
});
