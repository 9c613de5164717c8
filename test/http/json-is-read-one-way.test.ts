import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseStrictJson } from '../../src/http/strict-json.js';

const read = (text: string | Buffer): ReturnType<typeof parseStrictJson> => parseStrictJson(Buffer.from(text));

test('what is read one way by all', () => {
  for (const text of [
    '{}',
    '[]',
    'null',
    '0',
    '"a"',
    ' {"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}\n',
    '{"":1,"a":"\\"","\\"":2,"\\\\":3,"a\\\\":4}',
    '{"\\ud83d\\ude00":1,"\\\\ud83d":2}',
    '["\\\\ud800","\\\\\\\\ud800"]',
    `${'['.repeat(64)}${']'.repeat(64)}`,
    JSON.stringify(Object.fromEntries(Array.from({ length: 20_000 }, (_, i) => [`n${i}`, i]))),
    '{"__proto__":{"a":1},"constructor":2}',
    '"\\u0000"',
  ]) {
    assert.deepEqual(read(text), { ok: true, value: JSON.parse(text) as unknown }, text.slice(0, 60));
  }
});

test('what some take for one thing and some for another', () => {
  for (const [text, name, depth] of [
    ['{"a":1,"a":1}', 'a', 1],
    ['{"operation":"status","operat\\u0069on":"worker_install"}', 'operation', 1],
    ['{"a":{"b":1,"\\u0062":2}}', 'b', 2],
    ['[{"a":1},{"a":1,"b":2,"a":3}]', 'a', 2],
    ['{"\\u00e9":1,"é":2}', 'é', 1],
    ['{"\\/":1,"/":2}', '/', 1],
    ['{"":1,"":2}', '', 1],
    ['{"__proto__":1,"__proto__":2}', '__proto__', 1],
    [`{${Array.from({ length: 30 }, (_, i) => `"n${i}":1`).join()},"n0":2}`, 'n0', 1],
    [`{${Array.from({ length: 30 }, (_, i) => `"n${i}":1`).join()},"n29":2}`, 'n29', 1],
  ] as const) {
    assert.deepEqual(read(text), { ok: false, why: 'repeated', name, depth }, text.slice(0, 60));
  }
});

test('what is no JSON, or more than anybody means', () => {
  const torn = [0xd800, 0xdbff, 0xdc00, 0xdfff].map((code) => `"\\u${code.toString(16)}"`);
  for (const text of [
    '',
    ' ',
    '\ufeff{}',
    '{}{}',
    '{} x',
    '{"a":1,}',
    "{'a':1}",
    '{a:1}',
    '{"a":NaN}',
    '{"a":Infinity}',
    '{"a":01}',
    '{"a":+1}',
    '{"a":.5}',
    '{"a":"\n"}',
    '{"a":"\\x41"}',
    '{"a":"b',
    '{"a":"b\\',
    '{"a":"b\\"',
    '"',
    '"\\',
    '/* */{}',
    '{"\\ud800":1}',
    '["\\uDE00\\uD83D"]',
    '["a","\\ud83d x"]',
    ...torn,
    `${'['.repeat(65)}${']'.repeat(65)}`,
    `${'{"a":'.repeat(65)}1${'}'.repeat(65)}`,
    JSON.stringify(Object.fromEntries(Array.from({ length: 20_001 }, (_, i) => [`n${i}`, i]))),
    `[${'[],'.repeat(300_000)}[]]`,
    Buffer.from([0x22, 0xff, 0x22]),
    Buffer.from([0x22, 0xc0, 0xaf, 0x22]),
    Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]),
    Buffer.from('{}', 'utf16le'),
  ]) {
    assert.deepEqual(read(text), { ok: false, why: 'malformed' }, String(text).slice(0, 60));
  }
});

/**
 * A reader of RFC 8259 that shares nothing with ours: recursive, a character at a time, strict in what it takes. Null:
 * refused. Objects are maps, so that nothing of JavaScript's own objects is in the way.
 */
class Independent {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  static read(bytes: Buffer): { readonly value: unknown } | null {
    const text = bytes.toString('utf8');
    if (!Buffer.from(text, 'utf8').equals(bytes)) return null;
    try {
      const reader = new Independent(text);
      const value = reader.#value(0);
      reader.#blanks();
      return reader.#at === text.length ? { value } : null;
    } catch (error) {
      if (error instanceof RangeError) return null;
      throw error;
    }
  }

  #refuse(): never {
    throw new RangeError('refused');
  }

  #blanks(): void {
    while (' \t\n\r'.includes(this.#text.charAt(this.#at)) && this.#at < this.#text.length) this.#at += 1;
  }

  #take(expected: string): void {
    if (!this.#text.startsWith(expected, this.#at)) this.#refuse();
    this.#at += expected.length;
  }

  #value(depth: number): unknown {
    this.#blanks();
    switch (this.#text.charAt(this.#at)) {
      case '{':
        return this.#object(depth + 1);
      case '[':
        return this.#list(depth + 1);
      case '"':
        return this.#string();
      case 't':
        this.#take('true');
        return true;
      case 'f':
        this.#take('false');
        return false;
      case 'n':
        this.#take('null');
        return null;
      default:
        return this.#number();
    }
  }

  #object(depth: number): ReadonlyMap<string, unknown> {
    if (depth > 64) this.#refuse();
    const members = new Map<string, unknown>();
    this.#take('{');
    this.#blanks();
    if (this.#text.charAt(this.#at) === '}') {
      this.#at += 1;
      return members;
    }
    for (;;) {
      this.#blanks();
      const name = this.#string();
      if (members.has(name)) this.#refuse();
      this.#blanks();
      this.#take(':');
      members.set(name, this.#value(depth));
      this.#blanks();
      if (this.#text.charAt(this.#at) === '}') break;
      this.#take(',');
    }
    this.#at += 1;
    return members;
  }

  #list(depth: number): unknown[] {
    if (depth > 64) this.#refuse();
    const values: unknown[] = [];
    this.#take('[');
    this.#blanks();
    if (this.#text.charAt(this.#at) === ']') {
      this.#at += 1;
      return values;
    }
    for (;;) {
      values.push(this.#value(depth));
      this.#blanks();
      if (this.#text.charAt(this.#at) === ']') break;
      this.#take(',');
    }
    this.#at += 1;
    return values;
  }

  #string(): string {
    this.#take('"');
    const units: number[] = [];
    for (;;) {
      const code = this.#text.charCodeAt(this.#at);
      this.#at += 1;
      if (Number.isNaN(code) || code < 0x20) this.#refuse();
      if (code === 0x22) break;
      units.push(code === 0x5c ? this.#escape() : code);
    }
    for (let i = 0; i < units.length; i += 1) {
      const unit = units[i] ?? 0;
      const next = units[i + 1] ?? 0;
      if (unit >= 0xd800 && unit <= 0xdbff && next >= 0xdc00 && next <= 0xdfff) i += 1;
      else if (unit >= 0xd800 && unit <= 0xdfff) this.#refuse();
    }
    return units.map((unit) => String.fromCharCode(unit)).join('');
  }

  #escape(): number {
    const c = this.#text.charAt(this.#at);
    this.#at += 1;
    const at = '"\\/bfnrt'.indexOf(c);
    if (c !== '' && at !== -1) return [0x22, 0x5c, 0x2f, 8, 12, 10, 13, 9][at] ?? 0;
    const digits = this.#text.slice(this.#at, this.#at + 4);
    if (c !== 'u' || !/^[0-9a-fA-F]{4}$/.test(digits)) this.#refuse();
    this.#at += 4;
    return Number.parseInt(digits, 16);
  }

  #number(): number {
    const found = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?/.exec(this.#text.slice(this.#at))?.[0];
    if (found === undefined) this.#refuse();
    this.#at += found.length;
    return Number(found);
  }
}

/** Our objects as the independent reader has them. */
function asMaps(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asMaps);
  if (typeof value !== 'object' || value === null) return value;
  return new Map(Object.entries(value).map(([name, one]) => [name, asMaps(one)]));
}

const PIECES = [
  '{', '}', '[', ']', ',', ':', '"', '\\', '"a"', '"b"', '"\\u0061"', '"a":', '\\u0061', '\\ud83d', '\\ude00', '\\\\', '\\"',
  '1', '-0', '1e5', '0.5', 'true', 'null', ' ', '\n', 'é', '😀', '\ufeff', '"":', '{"a":1}', '[1,2]',
]; // prettier-ignore

test('what is read is what an independent strict reader reads, or it is refused', () => {
  let read = 0;
  const agree = (bytes: Buffer): void => {
    const ours = parseStrictJson(bytes);
    const theirs = Independent.read(bytes);
    if (ours.ok) {
      read += 1;
      assert.ok(theirs !== null, `only we read ${bytes.toString('latin1')}`);
      assert.deepEqual(asMaps(ours.value), theirs.value);
    } else {
      assert.equal(theirs, null, `only we refuse ${bytes.toString('latin1')}`);
    }
  };
  const time = { interruptAfterTimeLimit: 4000 };
  // Documents as they are written, with one cut, one doubling and one byte changed.
  fc.assert(
    fc.property(fc.json(), fc.nat(), fc.nat(), fc.nat(255), (text, from, to, byte) => {
      const bytes = Buffer.from(text);
      agree(bytes);
      const [a = 0, b = 0] = [from % (bytes.length + 1), to % (bytes.length + 1)].sort((x, y) => x - y);
      agree(Buffer.concat([bytes.subarray(0, a), bytes.subarray(b)]));
      agree(Buffer.concat([bytes.subarray(0, b), bytes.subarray(a)]));
      const changed = Buffer.from(bytes);
      if (a < changed.length) changed[a] = byte;
      agree(changed);
    }),
    { numRuns: 3000, ...time },
  );
  // What only looks like JSON.
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...PIECES), { maxLength: 12 }), (pieces) => {
      agree(Buffer.from(pieces.join('')));
      agree(Buffer.from(`{${pieces.join('')}}`));
      agree(Buffer.from(`["${pieces.join('')}"]`));
    }),
    { numRuns: 10_000, ...time },
  );
  assert.ok(read > 1000, `${read} documents were read`);
});
