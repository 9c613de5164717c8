import fc from 'fast-check';
import { bytesOf, textOf } from '../../src/observe/redact/byte-text.js';
import { Glance } from '../../src/observe/redact/glance.js';
import { LineRedactor } from '../../src/observe/redact/line-redactor.js';
import { SecretSearch } from '../../src/observe/redact/search.js';
import { StreamRedactor } from '../../src/observe/redact/stream-redactor.js';
import { sha256Hex } from '../../src/secret/digest.js';

export function searchThatKnows(...secrets: readonly string[]): SecretSearch {
  if (secrets.length === 0) return new SecretSearch(null);
  const known = new Set(secrets.map(sha256Hex));
  return new SecretSearch((digest) => known.has(digest));
}

/** A stream under way. */
export class Stream {
  readonly #out: Buffer[] = [];
  readonly #redactor: StreamRedactor;

  constructor(search: SecretSearch) {
    const write = (bytes: Buffer): void => {
      this.#out.push(Buffer.from(bytes));
    };
    // Tests make streams by the ten thousand. Of a few places, many runs want the same one.
    this.#redactor = new StreamRedactor(search, write, new Glance(search, 16));
  }

  /** What came out so far. */
  get out(): Buffer {
    return Buffer.concat(this.#out);
  }

  push(piece: Buffer): void {
    // The memory that a piece was read into is used again.
    const lent = Buffer.from(piece);
    this.#redactor.push(lent);
    lent.fill('#');
  }

  pause(): void {
    this.#redactor.pause();
  }

  end(): Buffer {
    this.#redactor.end();
    return this.out;
  }
}

/** What comes out when these pieces go in; `null` is a pause. */
export function streamed(search: SecretSearch, pieces: readonly (Buffer | null)[]): Buffer {
  const stream = new Stream(search);
  for (const piece of pieces) {
    if (piece === null) stream.pause();
    else stream.push(piece);
  }
  return stream.end();
}

/** The same without a fast path: every line is decoded, and looked at by all finders. */
export function lineByLine(search: SecretSearch, bytes: Buffer): Buffer {
  const redactor = new LineRedactor(search);
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const newline = bytes.indexOf(0x0a, at);
    const end = newline < 0 ? bytes.length : newline;
    const content = newline > at && bytes[newline - 1] === 0x0d ? newline - 1 : end;
    out.push(bytesOf(redactor.line(textOf(bytes.subarray(at, content)))), bytes.subarray(content, end + 1));
    at = end + 1;
  }
  return Buffer.concat(out);
}

export const KNOWN = [
  'correct-horse-battery',
  'my!secret#key$with(odd)',
  'abcd/EFGH1+jklmnopqrst/v==',
  'geheimnis-für-später',
];

/** What finders look for, in every state of decay, and what stands around it. */
const PIECES: readonly string[] = [
  ...[
    'authorization',
    'Authorization',
    'cookie',
    'Set-Cookie',
    'api_key',
    'API-KEY',
    'apikey',
    'key',
    'monkey',
    'token',
  ],
  ...['tokens', 'TOKEN', 'secret', 'passphrase', 'password', 'passwd', 'passcode', 'pwd', 'pass', 'signature'],
  ...['sessionid', 'session_id', 'csrf', 'bearer', 'Bearer', 'basic', 'negotiate', 'dpop', 'apiKey', '--api-', '--'],
  ...[
    '=',
    ':',
    ': ',
    ' = ',
    '=>',
    ':=',
    '"',
    "'",
    '`',
    '\\"',
    '\\\\"',
    ' ',
    '\t',
    ',',
    ', ',
    ';',
    '&',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
  ],
  ...[
    '<',
    '>',
    '|',
    '.',
    '..',
    '~',
    '+',
    '-',
    '_',
    '/',
    '//',
    '://',
    '@',
    '%',
    '%20',
    '%3D',
    '%253d',
    '%2',
    '\u001b[0m',
    '\u001b[2m=\u001b[0m',
  ],
  ...['\r', '\n', '\r\n', '\n\n', '\u0000', '\u007f', '\u00a0', '\u2028', '\ufeff', 'é', '€', '😀', 'ſ', 'K'],
  ...[
    '-----BEGIN',
    '-----BEGIN RSA PRIVATE KEY-----',
    '-----END',
    '-----END X-----',
    '-----',
    'eyJ',
    'eyJhbGciOi',
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.abc',
  ],
  ...[
    'gbee_',
    'sk-',
    'ghp_',
    'github_pat_',
    'hf_',
    'AKIA',
    'ASIA',
    'xoxb-',
    'xapp-',
    'glpat-',
    'npm_',
    'AIza',
    'rk_live_',
    'sk_test_',
  ],
  ...[
    'hunter2',
    'abcdefghijklmnop',
    'ABCDEFGHIJKL',
    '0123456789',
    'abcdefghijklmnopqrstuvwxyz',
    'null',
    'the',
    'a',
    'Z',
    '7',
    'Ym9iOmh1bnRlcjI=',
  ],
  ...[
    'x9Fq2-LmZ80aVtR4_kPwQ7',
    'deadbeefdeadbeefdeadbeefdeadbee1',
    'Zm9v+yFq2LmZ80aVtR4/kPwQ7x1A==',
    '6f9619ff-8b86-4d01-b42d-00c04fc964ff',
  ],
  ...[
    'job-',
    '/v1/jobs/',
    'Meta-Llama-3-8B-Instruct-GGUF-Q4_K_M',
    '2026-07-29T12:00:00.123Z',
    '[redacted]',
    '[redacted:ab12cd]',
    ...KNOWN,
  ],
];

/** Bytes of all kinds, UTF-8 or not. */
export const anyBytes: fc.Arbitrary<Buffer> = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: fc.constantFrom(...PIECES).map((piece) => Buffer.from(piece)) },
      { weight: 2, arbitrary: fc.string({ maxLength: 20 }).map((text) => Buffer.from(text)) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 6 }).map((text) => Buffer.from(text)) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes)) },
      { weight: 1, arbitrary: fc.stringMatching(/^[A-Za-z0-9_-]{16,40}$/).map((text) => Buffer.from(text)) },
      { weight: 1, arbitrary: fc.stringMatching(/^[A-Za-z0-9+/]{16,40}={0,2}$/).map((text) => Buffer.from(text)) },
    ),
    { maxLength: 24 },
  )
  .map((pieces) => Buffer.concat(pieces));

/** The same bytes in pieces. */
export function inPieces(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  return places.map((to) => {
    const piece = bytes.subarray(from, to);
    from = to;
    return piece;
  });
}
