/**
 * What the reader of upstream answers makes of bytes: RFC 9112 §4 to §7 to the letter, whatever pieces they come in. What
 * two readers could read two ways is malformed.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { MalformedAnswer } from '../../src/proxy/answer-head.js';
import { AnswerReader, type Question } from '../../src/proxy/answer-reader.js';

interface Read {
  readonly status: number | null;
  readonly fields: readonly string[];
  readonly body: string;
  readonly complete: boolean;
  readonly reusable: boolean;
  readonly endsWithConnection: boolean;
  readonly keepAliveMs: number;
}

/** Chunks as a client would be sent them, read to the letter and in the plainest way. */
function contentOf(chunks: string): string {
  let content = '';
  for (let rest = chunks; rest !== '';) {
    const [line = '', size = ''] =
      /^([1-9a-f][0-9a-f]*)\r\n/i.exec(rest) ?? assert.fail(`no chunk: ${JSON.stringify(rest)}`);
    const end = line.length + Number.parseInt(size, 16);
    assert.equal(rest.slice(end, end + 2), '\r\n', 'ends where it says');
    content += rest.slice(line.length, end);
    rest = rest.slice(end + 2);
  }
  return content;
}

/** The same whether or not chunks are taken as they came. @returns null where it is malformed */
function read(pieces: readonly Buffer[], question: Question = 'ordinary'): Read | null {
  const taken = readBy('content', pieces, question);
  assert.deepEqual(readBy('chunks', pieces, question), taken);
  return taken;
}

function readBy(taking: 'chunks' | 'content', pieces: readonly Buffer[], question: Question): Read | null {
  let status: number | null = null;
  let fields: readonly string[] = [];
  const body: Buffer[] = [];
  const reader = new AnswerReader(question, {
    head: (said, all) => {
      assert.equal(status, null, 'one head');
      status = said;
      fields = all;
      return true;
    },
    data: (chunk) => {
      assert.ok(chunk.length > 0);
      body.push(Buffer.from(chunk));
      return true;
    },
    chunks: (all, from, to, length) => {
      if (taking === 'content') return false;
      const content = contentOf(all.toString('latin1', from, to));
      assert.equal(content.length, length);
      body.push(bytes(content));
      return true;
    },
  });
  try {
    for (const piece of pieces) reader.read(piece);
  } catch (error) {
    assert.ok(error instanceof MalformedAnswer, String(error));
    return null;
  }
  return {
    status,
    fields,
    body: Buffer.concat(body).toString('latin1'),
    complete: reader.complete,
    reusable: reader.reusable,
    endsWithConnection: reader.endsWithConnection,
    keepAliveMs: reader.keepAliveMs,
  };
}

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');
const whole = (text: string, question?: Question): Read | null => read([bytes(text)], question);
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

/** What is read of each: status, body, whether it is complete, and whether the connection may be used again. */
const READABLE: readonly (readonly [name: string, text: string, ...expected: [number, string, boolean, boolean]])[] = [
  ['a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello', 200, 'hello', true, true],
  [
    'the same length twice',
    'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi',
    200,
    'hi',
    true,
    true,
  ],
  ['no body', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', 200, '', true, true],
  ['an empty reason', 'HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n', 200, '', true, true],
  ['no reason at all', 'HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n', 200, '', true, true],
  ['an unusual status', 'HTTP/1.1 799 x\r\nContent-Length: 0\r\n\r\n', 799, '', true, true],
  ['no length: until the end', 'HTTP/1.1 200 OK\r\n\r\nall of it', 200, 'all of it', false, false],
  ['part of a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel', 200, 'hel', false, true],
  ['204', 'HTTP/1.1 204 No Content\r\n\r\n', 204, '', true, true],
  ['304 with the length of what it is not', 'HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n', 304, '', true, false],
  ['chunks', `${CHUNKED}5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n`, 200, 'hello!', true, true],
  ['chunks with extensions', `${CHUNKED}5;a=b\r\nhello\r\n0;c\r\n\r\n`, 200, 'hello', true, true],
  ['chunks with zeros before their size', `${CHUNKED}0005\r\nhello\r\n000\r\n\r\n`, 200, 'hello', true, true],
  ['chunks with trailers', `${CHUNKED}1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n`, 200, 'x', true, true],
  ['chunks in capitals', `${CHUNKED.toUpperCase()}A\r\n0123456789\r\n0\r\n\r\n`, 200, '0123456789', true, true],
  ['a connection that ends', 'HTTP/1.1 200 x\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n', 200, '', true, false],
  ['an older version', 'HTTP/1.0 200 x\r\nContent-Length: 1\r\n\r\nx', 200, 'x', true, false],
  [
    'an older version that goes on',
    'HTTP/1.0 200 x\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx',
    200,
    'x',
    true,
    true,
  ],
  ['more than was stated', 'HTTP/1.1 200 x\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK', 200, 'x', true, false],
  ['more after the last chunk', `${CHUNKED}0\r\n\r\nmore`, 200, '', true, false],
  [
    'interim answers',
    'HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 100\r\n\r\nHTTP/1.1 204 x\r\n\r\n',
    204,
    '',
    true,
    true,
  ],
  ['whitespace around a value', 'HTTP/1.1 200 x\r\nContent-Length: \t 1 \t\r\n\r\nx', 200, 'x', true, true],
];

const MALFORMED: readonly (readonly [name: string, text: string])[] = [
  ['no HTTP', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
  ['another version', 'HTTP/2.0 200 OK\r\n\r\n'],
  ['lower case', 'http/1.1 200 OK\r\n\r\n'],
  ['two spaces', 'HTTP/1.1  200 OK\r\n\r\n'],
  ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n'],
  ['a status of four digits', 'HTTP/1.1 2000 OK\r\n\r\n'],
  ['status 099', 'HTTP/1.1 099 OK\r\n\r\n'],
  ['a control character in the reason', 'HTTP/1.1 200 O\x00K\r\n\r\n'],
  ['a line that ends in LF alone', 'HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n'],
  ['a head that ends in LF alone', 'HTTP/1.1 200 OK\r\nContent-Length: 0\n\n'],
  ['no name', 'HTTP/1.1 200 OK\r\n: x\r\n\r\n'],
  ['no colon', 'HTTP/1.1 200 OK\r\nfield\r\n\r\n'],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx'],
  ['a list of lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx'],
  ['a signed length', 'HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx'],
  ['a negative length', 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx'],
  ['a length in hex', 'HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\nx'],
  ['an empty length', 'HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n'],
  ['a length beyond numbers', `HTTP/1.1 200 OK\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\nx`],
  ['a length and chunks', `${CHUNKED.slice(0, -2)}Content-Length: 5\r\n\r\n0\r\n\r\n`],
  ['chunked twice', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['another coding', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n'],
  ['another coding before', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n'],
  ['another coding behind', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n'],
  ['chunks of an older version', 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a chunk without a size', `${CHUNKED}\r\n`],
  ['a size that is no number', `${CHUNKED}g\r\n`],
  ['a size with a sign', `${CHUNKED}+5\r\nhello\r\n`],
  ['a size in 0x', `${CHUNKED}0x5\r\nhello\r\n`],
  ['a size beyond numbers', `${CHUNKED}${'f'.repeat(17)}\r\n`],
  ['a size line that ends in LF alone', `${CHUNKED}5\nhello\r\n`],
  ['a chunk that is longer than it says', `${CHUNKED}5\r\nhello!\r\n0\r\n\r\n`],
  ['a chunk that is shorter than it says', `${CHUNKED}6\r\nhello\r\n0\r\n\r\n`],
  ['LF alone after a chunk', `${CHUNKED}5\r\nhello\n0\r\n\r\n`],
  ['an endless size line', `${CHUNKED}5;${'x'.repeat(2_000)}`],
  ['a trailer that is no field', `${CHUNKED}0\r\nHTTP/1.1 200 OK\r\n\r\n`],
  ['endless trailers', `${CHUNKED}0\r\n${'a: b\r\n'.repeat(10_000)}`],
  ['an endless head', `HTTP/1.1 200 OK\r\n${'a: b\r\n'.repeat(20_000)}`],
  ['an endless line', `HTTP/1.1 200 OK\r\na: ${'x'.repeat(100_000)}`],
  ['a switch of protocols that nobody asked for', 'HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n'],
  ['an interim answer with a body', 'HTTP/1.1 100 x\r\nContent-Length: 5\r\n\r\nhello'],
  ['interim answers without end', 'HTTP/1.1 100 x\r\n\r\n'.repeat(100)],
];

describe('answers are read one way', () => {
  for (const [name, text, status, body, complete, reusable] of READABLE) {
    test(`read: ${name}`, () => {
      const found = whole(text);
      assert.ok(found !== null, 'malformed');
      assert.deepEqual(
        [found.status, found.body, found.complete, found.endsWithConnection ? false : found.reusable],
        [status, body, complete, reusable],
      );
    });
  }

  for (const [name, text] of MALFORMED) {
    test(`malformed: ${name}`, () => {
      assert.equal(whole(text), null);
    });
    test(`malformed, byte for byte: ${name}`, () => {
      assert.equal(read([...bytes(text)].map((byte) => Buffer.from([byte]))), null);
    });
  }

  test('the answer to a HEAD ends with its head', () => {
    for (const text of ['HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n', CHUNKED, 'HTTP/1.1 200 x\r\n\r\n']) {
      assert.equal(whole(text, 'head')?.complete, true);
    }
  });

  // What is sent there all the same, a moment later, would be the next one's answer.
  test('a connection is not used again where an answer without a body states one', () => {
    const heads = ['', 'Content-Length: 0\r\n', 'Content-Length: 5\r\n', 'Transfer-Encoding: chunked\r\n'];
    const reusable = [true, true, false, false];
    for (const [question, status] of [
      ['head', 200],
      ['ordinary', 204],
      ['ordinary', 304],
    ] as const) {
      const found = heads.map((fields) => whole(`HTTP/1.1 ${String(status)} x\r\n${fields}\r\n`, question)?.reusable);
      assert.deepEqual(found, reusable, `${question} ${String(status)}`);
    }
  });

  test('fields are handed on as sent, repeated and in order', () => {
    const found = whole(
      'HTTP/1.1 200 x\r\nSet-Cookie: a\r\nX: \xe9\r\nset-cookie:b \r\nEmpty:\r\nContent-Length: 0\r\n\r\n',
    );
    assert.deepEqual(found?.fields, [
      'Set-Cookie',
      'a',
      'X',
      '\xe9',
      'set-cookie',
      'b',
      'Empty',
      '',
      'Content-Length',
      '0',
    ]);
  });

  test('what the upstream says of its patience is believed, with a second to spare', () => {
    const kept = (value: string): number | undefined =>
      whole(`HTTP/1.1 200 x\r\nKeep-Alive: ${value}\r\nContent-Length: 0\r\n\r\n`)?.keepAliveMs;
    assert.deepEqual(['timeout=5', 'timeout=1, max=100', 'max=2,timeout=0', 'max=100', 'timeout=x'].map(kept), [
      4_000,
      0,
      -1_000,
      Infinity,
      Infinity,
    ]);
  });

  test('a switch of protocols hands over what came after it', () => {
    const head = 'HTTP/1.1 101 x\r\nUpgrade: websocket\r\n\r\n';
    for (const [first, second] of [
      ['', head],
      [head.slice(0, 30), head.slice(30)],
    ] as const) {
      const reader = new AnswerReader('upgrade', {
        head: () => assert.fail('no other answer'),
        data: () => assert.fail('no body'),
        chunks: () => assert.fail('no body'),
      });
      if (first !== '') reader.read(bytes(first));
      reader.read(bytes(`${second}\x81\x00`));
      assert.deepEqual(reader.upgraded, ['Upgrade', 'websocket']);
      assert.equal(reader.position, second.length);
    }
  });

  test('behind a head that came in pieces there may be as much of the body as one read holds', () => {
    const body = 'x'.repeat(65_536);
    const text = `HTTP/1.1 200 OK\r\nContent-Length: ${String(body.length)}\r\n\r\n${body}`;
    for (const at of [5, 20, 40]) {
      const rest = text.slice(at);
      const pieces = [text.slice(0, at), rest.slice(0, 65_536), rest.slice(65_536)].filter((piece) => piece !== '');
      const answer = read(pieces.map(bytes));
      assert.equal(answer?.complete, true);
      assert.equal(answer.body, body);
    }
    const endless = `HTTP/1.1 200 OK\r\nA: ${'x'.repeat(65_536)}`;
    assert.equal(read([bytes(endless.slice(0, 9)), bytes(endless.slice(9))]), null);
  });

  test('chunks that are not wanted as they came are looked through once', () => {
    let asked = 0;
    let content = 0;
    const reader = new AnswerReader('ordinary', {
      head: () => true,
      data: (chunk) => {
        content += chunk.length;
        return true;
      },
      chunks: () => {
        asked += 1;
        return false;
      },
    });
    reader.read(bytes(CHUNKED));
    const all = bytes('1\r\nx\r\n'.repeat(10_000));
    for (let at = 0; at < all.length; at += 60_000) reader.read(all.subarray(at, at + 60_000));
    assert.equal(content, 10_000);
    // At most 16 KiB are looked at together.
    assert.ok(asked <= 5, String(asked));
  });

  const answers = fc
    .record({
      interim: fc.boolean(),
      body: fc.uint8Array({ maxLength: 300 }),
      framing: fc.constantFrom('length' as const, 'chunked' as const, 'close' as const),
      fields: fc.array(fc.constantFrom('A: b', 'Set-Cookie: x=y', 'Empty:', 'Long: '.padEnd(300, 'z')), {
        maxLength: 5,
      }),
      sizes: fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 20 }),
    })
    .map(({ interim, body, framing, fields, sizes }) => {
      const content = Buffer.from(body);
      const head = [...fields];
      const parts: Buffer[] = [];
      if (framing === 'length') head.push(`Content-Length: ${String(content.length)}`);
      if (framing === 'chunked') {
        head.push('Transfer-Encoding: chunked');
        for (let at = 0, i = 0; at < content.length; i += 1) {
          const piece = content.subarray(at, at + (sizes[i % sizes.length] ?? 1));
          parts.push(bytes(`${piece.length.toString(16)}\r\n`), piece, bytes('\r\n'));
          at += piece.length;
        }
        parts.push(bytes('0\r\n\r\n'));
      } else {
        parts.push(content);
      }
      const begin = `${interim ? 'HTTP/1.1 102 x\r\n\r\n' : ''}HTTP/1.1 200 OK\r\n${head.map((line) => `${line}\r\n`).join('')}\r\n`;
      return { message: Buffer.concat([bytes(begin), ...parts]), content, framing };
    });

  const cut = (message: Buffer, at: readonly number[]): Buffer[] => {
    const places = [...new Set(at.map((one) => one % (message.length + 1)))].sort((a, b) => a - b);
    const ends = [...places, message.length];
    return ends.map((end, i) => message.subarray(ends[i - 1] ?? 0, end)).filter((piece) => piece.length > 0);
  };

  test('in whatever pieces it comes', () => {
    fc.assert(
      fc.property(answers, fc.array(fc.nat(), { maxLength: 40 }), ({ message, content, framing }, at) => {
        const found = read(cut(message, at));
        assert.equal(found?.body, content.toString('latin1'));
        assert.equal(found.complete, framing !== 'close');
        assert.deepEqual(found, read([message]));
      }),
      { interruptAfterTimeLimit: 4_000, numRuns: 2_000 },
    );
  });

  test('whatever is done to it, pieces change nothing and nothing else is thrown', () => {
    const damage = fc.array(
      fc.record({ at: fc.nat(), by: fc.constantFrom('', '\r', '\n', '\0', ' ', ':', '0', 'f', ';', '\r\n', '\xff') }),
      { minLength: 1, maxLength: 4 },
    );
    fc.assert(
      fc.property(answers, damage, fc.array(fc.nat(), { maxLength: 30 }), ({ message }, changes, at) => {
        let text = message.toString('latin1');
        for (const change of changes) {
          const place = change.at % (text.length + 1);
          text = text.slice(0, place) + change.by + text.slice(place + 1);
        }
        // A head that never ends is never judged as a whole.
        text += '\r\n\r\n';
        assert.deepEqual(read(cut(bytes(text), at)), whole(text));
      }),
      { interruptAfterTimeLimit: 4_000, numRuns: 2_000 },
    );
  });
});
