/**
 * Text → document: YAML 1.2 with less of it. What could be read two ways, or hides what is in force (aliases, merge
 * keys, tags, a second document, empty values), is an issue; the tree goes on around it, so that everything else that
 * is wrong can be told in the same run. The messages are ours: those of the parser repeat pieces of the text.
 */
import { Composer, CST, Lexer, LineCounter, Parser, isAlias, isMap, isScalar, isSeq } from 'yaml';
import type { Document, ParsedNode, YAMLError } from 'yaml';
import { describe, dotted, isSensitive, isShowable, quote } from './found.js';
import type { Issue, IssueCode } from './issue.js';
import type { Position } from './policy.js';

export type PathPart = string | number;

interface NodeBase {
  /** Of the file the node stands in, as shown to the user. */
  readonly file: string;
  readonly path: readonly PathPart[];
  /** Where the value begins. */
  readonly at: Position;
  /** Where its key begins; for a list item, the value. */
  readonly keyAt: Position;
}

export interface MapNode extends NodeBase {
  readonly kind: 'map';
  readonly entries: ReadonlyMap<string, DocumentNode>;
}

export interface ListNode extends NodeBase {
  readonly kind: 'list';
  readonly items: readonly DocumentNode[];
}

export interface ScalarNode extends NodeBase {
  readonly kind: 'scalar';
  readonly value: string | number | boolean;
}

/** Something was written here that an issue already speaks of. */
export interface HoleNode extends NodeBase {
  readonly kind: 'hole';
}

export type DocumentNode = MapNode | ListNode | ScalarNode | HoleNode;

export interface ParsedDocument {
  /** Null when nothing can be said of what stands in the file. */
  readonly root: DocumentNode | null;
  readonly issues: readonly Issue[];
}

/** A policy of 10,000 tokens is about this large. */
export const LARGEST_DOCUMENT = 4 * 1024 * 1024;

/** Nothing the schema knows is nested deeper than ten. */
const DEEPEST = 32;

/** Keys whose list may be empty: it says "nobody" where leaving the key out might be read as "not decided". */
const MAY_BE_EMPTY: ReadonlySet<string> = new Set(['trusted_proxies']);

/**
 * Reads a document of the given file name. Never throws for what a text holds.
 */
export function parseDocument(text: string, file: string): ParsedDocument {
  if (text.length > LARGEST_DOCUMENT) {
    return wholeFile(file, 'too_large', `the file is larger than ${LARGEST_DOCUMENT / 1024 / 1024} MiB`);
  }
  const repairs = findBraces(text);
  const read = new Reading(text, file, repairs);
  return read.run();
}

/** An issue about a file as a whole. */
export function wholeFile(file: string, code: IssueCode, message: string, hint?: string): ParsedDocument {
  const issue: Issue = { severity: 'error', code, file, line: 0, column: 0, key: '', message };
  return { root: null, issues: [hint === undefined ? issue : { ...issue, hint }] };
}

/**
 * A plain value that YAML would take apart: `/v1/jobs/{id}` inside `{ … }`, and `[::1]:8443` anywhere. It is read as
 * it was meant and reported; `text` is what was written.
 */
interface Repair {
  readonly kind: 'braces' | 'brackets';
  readonly start: number;
  readonly end: number;
}

/** Finds values that only lack their quotes, by the tokens they fall into. */
function findBraces(text: string): Repair[] {
  // Cheap way out for the usual file; the tokens decide.
  if (!/[^\s,[{]\{|\]:/.test(text)) return [];
  const repairs: Repair[] = [];
  const tokens: { readonly source: string; readonly start: number; readonly plain: boolean }[] = [];
  let offset = 0;
  let plain = false;
  for (const source of new Lexer().lex(text)) {
    // Marks of the lexer, which stand for no text: document, end of flow on error, "a plain or quoted scalar follows".
    if (source === CST.DOCUMENT || source === CST.FLOW_END || source === CST.SCALAR) {
      plain = source === CST.SCALAR;
      continue;
    }
    tokens.push({ source, start: offset, plain });
    offset += source.length;
    plain = false;
  }
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (token === undefined) continue;
    const end =
      token.plain && token.source.startsWith('/') ? braces(tokens, i) : token.source === '[' ? brackets(tokens, i) : i;
    if (end === i) continue;
    const last = tokens[end];
    if (last === undefined) continue;
    repairs.push({
      kind: token.source === '[' ? 'brackets' : 'braces',
      start: token.start,
      end: last.start + last.source.length,
    });
    i = end;
  }
  return repairs;
}

type Tokens = readonly { readonly source: string; readonly plain: boolean }[];

/** Index of the last token of `/a/` `{` `id` `}` `/b…` from `i`, or `i` itself. */
function braces(tokens: Tokens, i: number): number {
  let end = i;
  while (
    tokens[end + 1]?.source === '{' &&
    /^[A-Za-z0-9_-]+$/.test(tokens[end + 2]?.source ?? '') &&
    tokens[end + 3]?.source === '}'
  ) {
    end += 3;
    const next = tokens[end + 1];
    if (next?.plain === true && /^[/A-Za-z0-9\-._~!$&'()+=:@*]/.test(next.source)) end += 1;
  }
  return end;
}

/** Index of the last token of `[` `::1` `]` `:8443` (or `:` `8443`) from `i`, or `i` itself. */
function brackets(tokens: Tokens, i: number): number {
  const inside = tokens[i + 1];
  if (inside?.plain !== true || !/^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$/.test(inside.source)) return i;
  if (tokens[i + 2]?.source !== ']') return i;
  if (/^:\d+$/.test(tokens[i + 3]?.source ?? '')) return i + 3;
  return tokens[i + 3]?.source === ':' && /^\d+$/.test(tokens[i + 4]?.source ?? '') ? i + 4 : i;
}

class Reading {
  readonly #text: string;
  readonly #file: string;
  /** By offset. */
  readonly #repairs: ReadonlyMap<number, Repair>;
  readonly #lines = new LineCounter();
  readonly #issues: Issue[] = [];
  readonly #told = new Set<Repair>();
  /** Offset of the first syntax error: what comes after it may not be what was meant. */
  #broken = Infinity;
  readonly #brokenLines = new Set<number>();

  constructor(text: string, file: string, repairs: readonly Repair[]) {
    this.#text = text;
    this.#file = file;
    this.#repairs = new Map(repairs.map((repair) => [repair.start, repair]));
  }

  run(): ParsedDocument {
    const tokens = [...new Parser(this.#lines.addNewLine).parse(this.#repaired())];
    const deep = tooDeep(tokens);
    if (deep !== null) {
      this.#report('too_deep', deep, [], `nested more than ${DEEPEST} levels deep`);
      return { root: null, issues: this.#issues };
    }
    for (const token of tokens) {
      if (token.type === 'directive') {
        this.#syntax(token.offset, 'directives are not supported', 'remove the line');
      }
    }
    const documents = [
      ...new Composer({ uniqueKeys: false, stringKeys: false }).compose(tokens, true, this.#text.length),
    ];
    const first = documents[0] as Document<ParsedNode> | undefined;
    const second = documents[1];
    if (second !== undefined) {
      const at = second.range[0];
      this.#report(
        'yaml_second_document',
        at,
        [],
        'a second document begins here, allowed is one',
        'remove it, and the line "---" before it',
      );
    }
    for (const error of first?.errors ?? []) this.#reportSyntax(error, tokens);
    if (first === undefined || first.contents === null || isEmptyScalar(first.contents)) {
      if (this.#issues.length === 0) {
        return wholeFile(
          this.#file,
          'yaml_null',
          'the file is empty',
          'see docs/policy-reference.md, or begin with one of policies/',
        );
      }
      return { root: null, issues: this.#issues };
    }
    const root = this.#read(first.contents, [], first.contents.range[0]);
    // In a broken file a repaired value may have no place in the tree; it is told all the same.
    for (const repair of this.#repairs.values()) if (!this.#told.has(repair)) this.#reportRepair(repair, null);
    return { root: this.#broken === Infinity ? root : null, issues: this.#issues };
  }

  /** The text with the characters of same width that make each repaired value one plain scalar. */
  #repaired(): string {
    let text = '';
    let from = 0;
    for (const { start, end } of this.#repairs.values()) {
      text += this.#text.slice(from, start) + this.#text.slice(start, end).replace(/[{[]/g, '(').replace(/[}\]]/g, ')');
      from = end;
    }
    return text + this.#text.slice(from);
  }

  #reportRepair(repair: Repair, path: readonly PathPart[] | null): void {
    const { kind, start, end } = repair;
    this.#told.add(repair);
    const written = this.#text.slice(start, end);
    const before = /([A-Za-z_]+):[ \t]*$/.exec(this.#text.slice(Math.max(0, start - 80), start))?.[1];
    const key = path ?? (before === undefined ? [] : [before]);
    const isSecret = isSensitive(key);
    const quoted = isShowable(written) && !isSecret ? quote(written) : '"…"';
    const what = describe(written, isSecret);
    this.#add(
      'yaml_flow_braces',
      this.#position(start),
      key,
      kind === 'braces'
        ? `found ${what} without quotes inside { … }, where YAML reads its braces as the beginning of another map`
        : `found ${what} without quotes, which YAML reads as a list`,
      `quote it: ${before === undefined ? quoted : `${before}: ${quoted}`}`,
    );
  }

  /** A YAML node as ours; what may not stand is reported and becomes a hole. */
  #read(node: ParsedNode, path: readonly PathPart[], keyOffset: number): DocumentNode {
    const offset = node.range[0];
    const base: NodeBase = { file: this.#file, path, at: this.#position(offset), keyAt: this.#position(keyOffset) };
    if (isAlias(node)) {
      this.#report(
        'yaml_alias',
        offset,
        path,
        'aliases (*name) are not supported: what is in force stands where it applies',
        'write the value out; quote it if the * is meant',
      );
      return { ...base, kind: 'hole' };
    }
    if (node.anchor !== undefined) {
      this.#report(
        'yaml_alias',
        offset,
        path,
        'anchors (&name) are not supported, since aliases are not',
        'remove the anchor; quote the value if the & is meant',
      );
    }
    if (node.tag !== undefined) {
      this.#report(
        'yaml_tag',
        offset,
        path,
        'tags (!name) are not supported',
        'remove the tag; quote the value if the ! is meant',
      );
      return { ...base, kind: 'hole' };
    }
    if (isScalar(node)) return this.#readScalar(node.value, node.range, base);
    if (isSeq(node)) {
      if (node.items.length === 0 && !MAY_BE_EMPTY.has(String(path.at(-1)))) {
        this.#report(
          'yaml_empty_list',
          offset,
          path,
          'found an empty list',
          'list what is meant, or leave the key out',
        );
        return { ...base, kind: 'hole' };
      }
      const items = node.items.map((item, index) => this.#read(item, [...path, index], item.range[0]));
      return { ...base, kind: 'list', items };
    }
    if (!isMap(node)) return { ...base, kind: 'hole' };

    const entries = new Map<string, DocumentNode>();
    for (const pair of node.items) {
      const key = pair.key as ParsedNode | null;
      const keyAt = key?.range[0] ?? offset;
      if (key === null || !isScalar(key) || typeof key.value !== 'string') {
        this.#report(
          'yaml_key',
          keyAt,
          path,
          'found a key that is not a text',
          'keys are names; quote it if it is meant as a text',
        );
        continue;
      }
      if (key.value === '<<' && key.type === 'PLAIN') {
        this.#report(
          'yaml_alias',
          keyAt,
          path,
          'merge keys (<<) are not supported: what is in force stands where it applies',
          'write the keys out',
        );
        continue;
      }
      if (key.anchor !== undefined || key.tag !== undefined) {
        this.#report('yaml_tag', keyAt, path, 'a key has no anchor and no tag', 'remove it');
      }
      const here = [...path, key.value];
      if (key.value === '__proto__') {
        this.#report('bad_name', keyAt, here, 'this name is not allowed');
        continue;
      }
      const earlier = entries.get(key.value);
      if (earlier !== undefined) {
        this.#report(
          'yaml_duplicate_key',
          keyAt,
          here,
          `this key stands twice; the first is in line ${earlier.keyAt.line}`,
          'keep one of them',
        );
        continue;
      }
      const value = pair.value;
      const read: DocumentNode =
        value === null
          ? this.#readScalar(null, [keyAt, keyAt, keyAt], {
              file: this.#file,
              // { WORD }: the braces may be those of a template, and the word what belongs there.
              path: isSensitive(path) ? path : here,
              at: this.#position(keyAt),
              keyAt: this.#position(keyAt),
            })
          : this.#read(value, here, keyAt);
      entries.set(key.value, read);
    }
    return { ...base, kind: 'map', entries };
  }

  #readScalar(value: unknown, range: readonly [number, number, number], base: NodeBase): DocumentNode {
    if (value === null || value === undefined) {
      // In a broken file what follows may have been meant as the value.
      if (this.#broken !== Infinity) return { ...base, kind: 'hole' };
      // An empty value has no place of its own: point at the key.
      const at = this.#text.slice(range[0], range[1]).trim() === '' ? base.keyAt : base.at;
      this.#add('yaml_null', at, base.path, 'there is no value', 'give it one, or leave the key out');
      return { ...base, kind: 'hole' };
    }
    const repair = this.#repairs.get(range[0]);
    if (repair !== undefined) {
      this.#reportRepair(repair, base.path);
      return { ...base, kind: 'scalar', value: this.#text.slice(range[0], range[1]) };
    }
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      return { ...base, kind: 'scalar', value };
    }
    this.#add('wrong_type', base.at, base.path, 'this kind of value is not supported');
    return { ...base, kind: 'hole' };
  }

  #reportSyntax(error: YAMLError, tokens: readonly CST.Token[]): void {
    if (error.code === 'TAG_RESOLVE_FAILED' || error.code === 'BAD_COLLECTION_TYPE') return;
    if (error.message.startsWith('Missing closing')) {
      // The parser points at the end of the file; the quote that was opened is what to look at.
      const opened = lastQuoted(tokens, error.pos[0]);
      this.#syntax(opened ?? error.pos[0], 'this quote is not closed', 'close it, or quote the text another way');
      return;
    }
    const [message, hint] = explain(error);
    this.#syntax(error.pos[0], message, hint);
  }

  /** One syntax error brings others in its wake: the first of each line is told. */
  #syntax(offset: number, message: string, hint?: string): void {
    this.#broken = Math.min(this.#broken, offset);
    const at = this.#position(offset);
    if (this.#brokenLines.has(at.line)) return;
    this.#brokenLines.add(at.line);
    this.#add('yaml_syntax', at, [], message, hint);
  }

  #report(code: IssueCode, offset: number, path: readonly PathPart[], message: string, hint?: string): void {
    if (offset >= this.#broken) return;
    this.#add(code, this.#position(offset), path, message, hint);
  }

  #add(code: IssueCode, at: Position, path: readonly PathPart[], message: string, hint?: string): void {
    const issue: Issue = { severity: 'error', code, file: this.#file, ...at, key: dotted(path), message };
    this.#issues.push(hint === undefined ? issue : { ...issue, hint });
  }

  #position(offset: number): Position {
    const { line, col } = this.#lines.linePos(Math.min(offset, this.#text.length));
    return { line: Math.max(1, line), column: Math.max(1, col) };
  }
}

function isEmptyScalar(node: ParsedNode): boolean {
  return isScalar(node) && node.value === null && node.range[0] === node.range[1];
}

/**
 * Every token with its depth. Without recursion: the composer calls itself for each level, so it is asked beforehand
 * whether it may; a stack that overflows inside the regular expression engine ends the process and can't be caught.
 */
function* nested(tokens: readonly CST.Token[]): Generator<{ readonly token: CST.Token; readonly depth: number }> {
  const open: { readonly token: CST.Token; readonly depth: number }[] = tokens.map((token) => ({ token, depth: 0 }));
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    yield next;
    const { token, depth } = next;
    if (token.type === 'document') {
      if (token.value !== undefined) open.push({ token: token.value, depth });
    } else if ('items' in token) {
      for (const item of token.items) {
        if (item.key) open.push({ token: item.key, depth: depth + 1 });
        if (item.value !== undefined) open.push({ token: item.value, depth: depth + 1 });
      }
    }
  }
}

/** Offset of a token nested too deep, or null. */
function tooDeep(tokens: readonly CST.Token[]): number | null {
  for (const { token, depth } of nested(tokens)) if (depth > DEEPEST) return token.offset;
  return null;
}

/** Offset of the quoted text that begins last before `offset`. */
function lastQuoted(tokens: readonly CST.Token[], offset: number): number | null {
  let last: number | null = null;
  for (const { token } of nested(tokens)) {
    if (token.type !== 'single-quoted-scalar' && token.type !== 'double-quoted-scalar') continue;
    if (token.offset < offset && (last === null || token.offset > last)) last = token.offset;
  }
  return last;
}

/** What is wrong and how to mend it, by the parser's code: its own words repeat pieces of the text. */
function explain(error: YAMLError): [message: string, hint?: string] {
  const says = (part: string): boolean => error.message.includes(part);
  switch (error.code) {
    case 'TAB_AS_INDENT':
      return ['a tab cannot indent', 'use spaces'];
    case 'BAD_INDENT':
      if (says('must be sufficiently indented and end with a ]'))
        return ['a list begun with "[" is not closed before this', 'close it with "]"'];
      if (says('must be sufficiently indented and end with a }'))
        return ['a map begun with "{" is not closed before this', 'close it with "}"'];
      return [
        'the indentation does not fit the lines around it',
        'give keys of one map, and items of one list, the same column',
      ];
    case 'MISSING_CHAR':
      if (says('end with a ]')) return ['a list begun with "[" is not closed', 'close it with "]"'];
      if (says('end with a }')) return ['a map begun with "{" is not closed', 'close it with "}"'];
      if (says('Missing ,'))
        return ['a comma is missing between two entries', 'put a comma there, or quote the text if it is one'];
      if (says('Implicit map keys')) return ['a key without ":" and value', 'write KEY: VALUE'];
      if (says('Sequence item without')) return ['a list item without "- "', 'begin it with "- "'];
      if (says('Missing space after :')) return ['a space is missing after ":"', 'write KEY: VALUE'];
      if (says('Comments must be separated'))
        return ['a comment begins with a space and "#"', 'put a space before the "#", or quote the text'];
      return ['a character is missing here', 'quote the text if it holds one of { } [ ] , : #'];
    case 'MULTILINE_IMPLICIT_KEY':
      return ['a key stands on one line, with ":" after it', 'write KEY: VALUE, and look at the line before'];
    case 'BLOCK_AS_IMPLICIT_KEY':
      return [
        'found a second ":" on one line, or a line indented too far',
        'quote the value if it holds ": "; begin keys of one map in the same column',
      ];
    case 'BLOCK_IN_FLOW':
      return [
        'an indented map or list cannot stand inside { } or [ ]',
        'write it on one line with { } or [ ], or indent all of it',
      ];
    case 'BAD_SCALAR_START':
      return ['an unquoted text cannot begin with this character', 'quote it'];
    case 'BAD_DQ_ESCAPE':
      return [
        'there is no such escape in a text with double quotes',
        'use single quotes, or write \\\\ for a backslash',
      ];
    case 'BAD_ALIAS':
      return [
        'an unquoted * or & begins an alias or anchor, which are not supported',
        'quote it if it is meant as a text',
      ];
    case 'KEY_OVER_1024_CHARS':
      return ['a key is too long'];
    case 'BAD_DIRECTIVE':
      return ['directives are not supported', 'remove the line'];
    case 'RESOURCE_EXHAUSTION':
      return ['nested too deep'];
    default:
      return [
        'this cannot stand here',
        'look for a quote, bracket or comma too many or too few just before; quote texts that hold { } [ ] , : #',
      ];
  }
}
