/**
 * Changes to the text of a tokens file that touch nothing but one entry: comments, order and layout of all else stay.
 * Each change is offered in several ways, the least one first; who asks reads the result back and takes the first that
 * says what was meant.
 */
import { isMap, isScalar, isSeq, parseDocument } from 'yaml';
import type { Document, YAMLMap, YAMLSeq } from 'yaml';

interface Entry {
  readonly document: Document;
  readonly list: YAMLSeq;
  readonly map: YAMLMap;
  readonly start: number;
  /** Behind the last character of the entry. */
  readonly end: number;
}

function entryAt(text: string, index: number): Entry | null {
  const document = parseDocument(text);
  const list = document.get('tokens');
  if (document.errors.length > 0 || !isSeq(list)) return null;
  const map = list.items[index];
  if (!isMap(map)) return null;
  const [start, valueEnd] = map.range ?? [0, 0];
  // A block ends where the next thing begins: what is blank before that is not its own.
  return { document, list, map, start, end: text.slice(0, valueEnd).trimEnd().length };
}

/** Ways to give the entry a `not_after`, or another one. @param when RFC 3339. */
export function* endings(text: string, index: number, when: string): Generator<string> {
  const entry = entryAt(text, index);
  if (entry === null) return;
  const { map, document, start, end } = entry;
  const value = JSON.stringify(when);
  const present = map.items.find((pair) => isScalar(pair.key) && pair.key.value === 'not_after')?.value;
  if (isScalar(present) && present.range != null) {
    yield text.slice(0, present.range[0]) + value + text.slice(present.range[1]);
  } else {
    const last = map.items.at(-1)?.value;
    const lastEnd = hasRange(last) ? text.slice(0, last.range[1]).trimEnd().length : end;
    if (map.flow === true) {
      const key = text
        .slice(start + 1)
        .trimStart()
        .startsWith('"')
        ? '"not_after"'
        : 'not_after';
      yield `${text.slice(0, lastEnd)}, ${key}: ${value}${text.slice(lastEnd)}`;
    } else {
      // Behind the comment that may stand on the last line, in the column of the first key.
      const column = start - (text.lastIndexOf('\n', start - 1) + 1);
      const lineEnd = endOfLine(text, lastEnd);
      yield `${text.slice(0, lineEnd)}\n${' '.repeat(column)}not_after: ${value}${text.slice(lineEnd)}`;
    }
  }
  document.setIn(['tokens', index, 'not_after'], when);
  yield document.toString({ lineWidth: 0 });
}

/** Ways to take the entry out. Comments before it stay. */
export function* removals(text: string, index: number): Generator<string> {
  const entry = entryAt(text, index);
  if (entry === null) return;
  const { list, document, start, end } = entry;
  if (list.flow === true) {
    const after = /^[ \t]*,/.exec(text.slice(end))?.[0].length;
    const before = /,\s*$/.exec(text.slice(0, start))?.[0].length;
    if (after !== undefined) yield withoutSpan(text, start, end + after);
    else if (before !== undefined) yield withoutSpan(text, start - before, end);
  } else {
    const dash = text.lastIndexOf('-', start - 1);
    const lineStart = text.lastIndexOf('\n', dash) + 1;
    yield text.slice(0, lineStart) + text.slice(endOfLine(text, end) + 1);
  }
  document.deleteIn(['tokens', index]);
  yield document.toString({ lineWidth: 0 });
}

/** Takes the line with it where nothing else stands on it, and else the blanks behind. */
function withoutSpan(text: string, start: number, end: number): string {
  const lineStart = text.lastIndexOf('\n', start - 1) + 1;
  const lineEnd = endOfLine(text, end);
  const alone = text.slice(lineStart, start).trim() === '' && text.slice(end, lineEnd).trim() === '';
  if (alone && lineStart > 0) return text.slice(0, lineStart) + text.slice(lineEnd + 1);
  return text.slice(0, start) + text.slice(end).replace(/^[ \t]+/, '');
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf('\n', from);
  return end === -1 ? text.length : end;
}

function hasRange(node: unknown): node is { readonly range: readonly [number, number, number] } {
  return typeof node === 'object' && node !== null && 'range' in node && Array.isArray(node.range);
}
