import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { readQuery } from '../../src/http/query.js';

const NAMES = new Set(['queen_url', 'n']);
const read = (query: string): Record<string, string> | null => {
  const values = readQuery(query, NAMES);
  return values === null ? null : Object.fromEntries(values);
};

test('the named parameters, decoded', () => {
  assert.deepEqual(read(''), {});
  assert.deepEqual(read('a=b&a=c'), {});
  assert.deepEqual(read('queen_url=http://a/&n=1&x=%FF'.replace('%FF', '%C3%BC')), { queen_url: 'http://a/', n: '1' });
  assert.deepEqual(read('queen%5Furl=a+b%2Bc'), { queen_url: 'a b+c' });
  assert.deepEqual(read('n'), { n: '' });
  assert.deepEqual(read('n=a=b'), { n: 'a=b' });
  assert.deepEqual(read('&&n=1&'), { n: '1' });
});

test('what two readers could take for two things', () => {
  for (const query of [
    'n=1&n=2',
    'n=1&n',
    'n=1&%6e=2',
    'n=1&N=2',
    'N=2',
    'n[]=2',
    'n[0]=1',
    '+n=1',
    // PHP makes _ of these.
    'queen.url=1',
    'queen+url=1',
    'queen_url=1&queen%5Burl=2',
    // Rack and qs cut brackets off at the front too, and some readers a question mark.
    '[n]=1',
    'n=1&%5Bn%5D=2',
    ']n=1',
    'n]=1',
    '[[n=1',
    '?n=1',
    'n=1&%3Fn=2',
    'n%00x=1',
    'a=1;n=2',
    'n=%',
    'n=%zz',
    'n=%ff',
    'x=%ff',
    '%c0%af=1',
    'n=%C3',
  ]) {
    assert.equal(read(query), null, query);
  }
});

test('whatever is read, the platform reads alike', () => {
  const part = fc.constantFrom(
    'n',
    'queen_url',
    'N',
    '=',
    '&',
    '%6e',
    '+',
    '%20',
    'a',
    '%3D',
    '%26',
    '%C3%BC',
    '[',
    ';',
    '%',
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const query = parts.join('');
      const values = read(query);
      if (values === null) return;
      const theirs = new URLSearchParams(query);
      for (const name of NAMES) {
        assert.deepEqual(theirs.getAll(name), name in values ? [values[name]] : [], query);
      }
    }),
    { numRuns: 3000, interruptAfterTimeLimit: 5000 },
  );
});
