/**
 * Document → what the schema makes of it, and everything that is wrong with it. A broken entry is reported and taken
 * out (the smallest one that can be), and what is left is read again: so one run tells of every broken value, and the
 * compiler can still tell which names are unknown.
 */
import type { z } from 'zod';
import { didYouMean } from './did-you-mean.js';
import type { ParsedDocument, PathPart } from './document.js';
import { Draft } from './draft.js';
import type { StandIn } from './draft.js';
import { describe, dotted, either, found, isSensitive, isShowable, looksSecret, quote, show } from './found.js';
import type { Issue, IssueCode } from './issue.js';
import type { Position } from './policy.js';
import type { ScalarProblem } from './schema.js';
import { SECRET_FORM, SECRET_KEYS } from './schema-scalars.js';

export interface Validated<T> {
  /** What the schema made of what could be kept; null when that is nothing. */
  readonly value: T | null;
  /** The tree `value` was read from: same keys, same indexes. Null with `value`. */
  readonly tree: Draft | null;
  /** Those of the document and those of the schema. */
  readonly issues: readonly Issue[];
}

/** Each round takes something out, so a file of this depth is done long before. */
const MOST_ROUNDS = 64;

type ZodIssue = z.core.$ZodIssue;

export function validate<S extends z.ZodType>(document: ParsedDocument, schema: S): Validated<z.output<S>> {
  const issues: Issue[] = [...document.issues];
  if (document.root === null) return { value: null, tree: null, issues };
  const tree = Draft.of(document.root);
  const reading = new Reading(tree, issues);
  reading.takeOutPlaceholders();
  for (let round = 0; round < MOST_ROUNDS && !reading.lost; round++) {
    const result = schema.safeParse(tree.plain());
    if (result.success) return { value: result.data, tree, issues };
    reading.takeOut(result.error.issues);
  }
  return { value: null, tree: null, issues };
}

/** Makes an issue about a node. */
export function issueAt(
  code: IssueCode,
  node: Draft,
  place: 'key' | 'value',
  message: string,
  hint?: string,
  severity: Issue['severity'] = 'error',
): Issue {
  const { file, path, at, keyAt } = node.origin;
  const position: Position = place === 'key' ? keyAt : at;
  const issue: Issue = {
    severity,
    code,
    file,
    line: position.line,
    column: position.column,
    key: dotted(path),
    message,
  };
  return hint === undefined ? issue : { ...issue, hint };
}

/** Keys of features that this version does not have, so that nobody hunts for a misspelling. */
const LATER_KEYS: ReadonlySet<string> = new Set(['dns', 'hsts']);

/**
 * What stands in for a required value that is broken or missing, so that the entry around it is still looked at.
 * `*` is any key or index.
 */
const STAND_INS: readonly { readonly path: readonly string[]; readonly value: (serial: number) => StandIn }[] = [
  { path: ['version'], value: () => 1 },
  { path: ['listeners'], value: () => ({}) },
  { path: ['listeners', '*', 'bind'], value: () => '127.0.0.1:0' },
  { path: ['listeners', '*', 'routes'], value: () => [{ name: 'stand-in', path: '/', deny: true }] },
  { path: ['listeners', '*', 'routes', '*', 'name'], value: (serial) => `stand-in-${serial}` },
  { path: ['listeners', '*', 'routes', '*', 'path'], value: () => '/' },
  { path: ['authenticators', '*', 'type'], value: () => 'bearer' },
  { path: ['authenticators', '*', 'issuer'], value: (serial) => `stand-in-${serial}` },
  { path: ['authenticators', '*', 'audience'], value: () => 'stand-in' },
  { path: ['authenticators', '*', 'tokens', '*', 'name'], value: (serial) => `stand-in-${serial}` },
  { path: ['authenticators', '*', 'tokens', '*', 'sha256'], value: (serial) => serial.toString(16).padStart(64, '0') },
  { path: ['authenticators', '*', 'htpasswd_file'], value: () => 'stand-in' },
  { path: ['authenticators', '*', 'users', '*', 'name'], value: (serial) => `stand-in-${serial}` },
  { path: ['tokens', '*', 'name'], value: (serial) => `stand-in-${serial}` },
  { path: ['tokens', '*', 'sha256'], value: (serial) => serial.toString(16).padStart(64, '0') },
  { path: ['tests', '*', 'request'], value: () => 'GET /' },
  { path: ['tests', '*', 'expect'], value: () => 'allow' },
];

/** Texts that a template left to be filled in. Known words, so that the message may repeat them. */
const PLACEHOLDERS: readonly { readonly look: RegExp; readonly word: string }[] = [
  { look: /CHANGE[_-]?ME/i, word: 'CHANGE_ME' },
  { look: /REPLACE[_-]?ME/i, word: 'REPLACE_ME' },
  { look: /<[A-Za-z][^<>]{0,60}>/, word: '<…>' },
  { look: /(?:^|\/\/|[=:@])your[-_]/i, word: 'your-…' },
];

/** The word for a placeholder in this text, or null. */
export function placeholderIn(text: string): string | null {
  return PLACEHOLDERS.find(({ look }) => look.test(text))?.word ?? null;
}

/** Something to be mended in the tree after a round. */
type Mend =
  | { readonly kind: 'take_out'; readonly node: Draft; readonly standIn?: StandIn }
  | { readonly kind: 'fill'; readonly parent: Draft; readonly key: string; readonly standIn?: StandIn }
  | { readonly kind: 'rename'; readonly parent: Draft; readonly from: string; readonly to: string };

class Reading {
  readonly #tree: Draft;
  readonly #issues: Issue[];
  /** Of secrets, and broken. */
  readonly #references = new Set<Draft>();
  #serial = 0;
  /** Nothing is left to read. */
  lost = false;

  constructor(tree: Draft, issues: Issue[]) {
    this.#tree = tree;
    this.#issues = issues;
  }

  takeOutPlaceholders(): void {
    const open: Draft[] = [this.#tree];
    const holding: Draft[] = [];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      for (const item of node.items) open.push(item);
      for (const entry of node.entries.values()) open.push(entry);
      if (typeof node.value !== 'string') continue;
      const word = placeholderIn(node.value);
      if (word === null) continue;
      const digest = node.origin.path.at(-1) === 'sha256';
      const hint = digest ? 'run "guardbee token new", and paste what it prints' : 'write what is meant there';
      this.#issues.push(issueAt('placeholder', node, 'value', `still holds the placeholder ${word}`, hint));
      holding.push(node);
    }
    for (const node of holding) this.#mend({ kind: 'take_out', node });
  }

  takeOut(zodIssues: readonly ZodIssue[]): void {
    const mends: Mend[] = [];
    for (const issue of unknownKeysFirst(zodIssues)) this.#translate(issue, [], mends);
    if (mends.length === 0) this.lost = true;
    for (const mend of mends) this.#mend(mend);
  }

  #mend(mend: Mend): void {
    if (mend.kind === 'rename') {
      mend.parent.rename(mend.from, mend.to);
      return;
    }
    const parent = mend.kind === 'fill' ? mend.parent : mend.node.parent;
    const key = mend.kind === 'fill' ? mend.key : mend.node.origin.path.at(-1);
    if (parent !== null && typeof key === 'string') {
      const standIn = mend.standIn ?? this.#standInFor([...parent.origin.path, key]);
      if (standIn !== undefined && !(mend.kind === 'take_out' && mend.node.standIn)) {
        if (mend.kind === 'take_out') mend.node.remove();
        parent.putStandIn(key, standIn);
        return;
      }
    }
    const node = mend.kind === 'fill' ? mend.parent : mend.node;
    if (!node.remove()) this.lost = true;
  }

  #standInFor(path: readonly PathPart[]): StandIn | undefined {
    const fitting = STAND_INS.find(
      (one) => one.path.length === path.length && one.path.every((part, i) => part === '*' || part === path[i]),
    );
    return fitting?.value(++this.#serial);
  }

  #report(code: IssueCode, node: Draft, place: 'key' | 'value', message: string, hint?: string): void {
    // A hint is often made of what was found.
    const shown = hint === undefined || looksSecret(hint) ? undefined : hint;
    this.#issues.push(issueAt(code, node, place, message, shown));
  }

  #translate(issue: ZodIssue, prefix: readonly PropertyKey[], mends: Mend[]): void {
    const path = [...prefix, ...issue.path];
    const node = this.#tree.at(path);
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) this.#unknownKey(this.#tree.at(path), key, issue.message.split(', '), mends);
      return;
    }
    if (node === null) {
      this.#missing(path, allowedBy(issue), mends);
      return;
    }
    switch (issue.code) {
      case 'invalid_union':
        this.#union(issue, path, node, mends);
        return;
      case 'invalid_key':
        this.#report(
          'bad_name',
          node,
          'key',
          `found ${show(String(path.at(-1)))}: allowed is ${issue.issues[0]?.message ?? 'a name'}`,
        );
        break;
      case 'invalid_format':
        this.#report('bad_name', node, 'value', this.#found(node, `allowed is ${issue.message}`));
        break;
      case 'custom': {
        const { code, problem, hint } = issue.params as unknown as ScalarProblem;
        this.#report(code, node, 'value', this.#found(node, problem), hint);
        break;
      }
      case 'invalid_type':
        this.#wrong('wrong_type', node, issue.message, this.#hintForType(node, issue.expected, issue.message));
        break;
      case 'invalid_value':
        this.#wrongValue(node, issue.message, issue.values);
        break;
      default:
        this.#wrong('wrong_value', node, issue.message);
    }
    mends.push({ kind: 'take_out', node });
  }

  #wrong(code: IssueCode, node: Draft, allowed: string, hint?: string): void {
    const what = describe(node.plain(), this.#isSecret(node));
    this.#report(code, node, 'value', `found ${what}, allowed is ${allowed}`, hint);
  }

  #found(node: Draft, problem: string): string {
    return found(node.plain(), this.#isSecret(node), problem);
  }

  /** May a secret stand there: by the key that was written, by the one that was meant, or as what should name it. */
  #isSecret(node: Draft): boolean {
    if (isSensitive(node.origin.path) || isSensitive(node.path)) return true;
    for (let at: Draft | null = node; at !== null; at = at.parent) if (this.#references.has(at)) return true;
    return false;
  }

  #hintForType(node: Draft, expected: string, allowed: string): string | undefined {
    return hintForType(node, expected, allowed, this.#isSecret(node));
  }

  #wrongValue(node: Draft, allowed: string, values: readonly unknown[]): void {
    const value = node.plain();
    const sameType = values.some((one) => typeof one === typeof value);
    let hint: string | undefined;
    if (node.origin.path.at(-1) === 'terms_agreed')
      hint = 'read the terms of service of the authority, then write true';
    else if (value === false && values.includes(true)) hint = 'leave the key out';
    else if (typeof value === 'string' && isShowable(value)) {
      const meant = didYouMean(
        value,
        values.filter((one) => typeof one === 'string'),
      );
      if (meant !== undefined) hint = `did you mean ${meant}?`;
      else if (values.some((one) => String(one) === value)) hint = 'write it without quotes';
    }
    this.#wrong(sameType ? 'wrong_value' : 'wrong_type', node, allowed, hint ?? this.#hintForType(node, '', allowed));
  }

  #unknownKey(node: Draft | null, key: string, known: readonly string[], mends: Mend[]): void {
    const entry = node?.get(key);
    if (node === null || entry === null || entry === undefined) return;
    const meant = isShowable(key) ? didYouMean(key, known) : undefined;
    if (meant !== undefined) {
      this.#report('unknown_key', entry, 'key', `unknown key, did you mean ${meant}?`, `write ${meant}: …`);
      if (!node.declares(meant)) {
        mends.push({ kind: 'rename', parent: node, from: key, to: meant });
        return;
      }
    } else if (node.origin.path.includes('tokens') && /token|secret|password|hash|digest|value/i.test(key)) {
      this.#report(
        'unknown_key',
        entry,
        'key',
        'unknown key, a token stands here by its sha256 and never itself',
        'run "guardbee token hash", give it the token, and write sha256: WHAT_IT_PRINTS',
      );
    } else if (LATER_KEYS.has(key)) {
      this.#report(
        'unknown_key',
        entry,
        'key',
        `${key} is not supported by this version of guardbee`,
        'remove it, and do not rely on it',
      );
    } else {
      this.#report(
        'unknown_key',
        entry,
        'key',
        `unknown key, allowed ${known.length === 1 ? 'is' : 'are'} ${known.join(', ')}`,
      );
    }
    mends.push({ kind: 'take_out', node: entry });
  }

  #missing(path: readonly PropertyKey[], allowed: string, mends: Mend[]): void {
    const key = String(path.at(-1));
    const parent = this.#tree.at(path.slice(0, -1));
    if (parent === null) return;
    if (mends.some((mend) => mend.kind === 'rename' && mend.parent === parent && mend.to === key)) return;
    // What stood there alone was broken, and is told.
    const emptied = parent.entries.size === 0 && parent.dropped.size > 0;
    if (!parent.dropped.has(key) && !emptied) {
      const { file, path: at, keyAt } = parent.origin;
      const message = `missing, needed is ${allowed}`;
      const issue: Issue = {
        severity: 'error',
        code: 'missing_key',
        file,
        ...keyAt,
        key: dotted([...at, key]),
        message,
      };
      const hint = hintForMissing(key, allowed);
      this.#issues.push(hint === undefined ? issue : { ...issue, hint });
    }
    mends.push({ kind: 'fill', parent, key });
  }

  #union(issue: z.core.$ZodIssueInvalidUnion, path: readonly PropertyKey[], node: Draft, mends: Mend[]): void {
    if (issue.discriminator !== undefined) {
      this.#wrongKind(optionsOf(issue), node, mends);
      return;
    }
    if (issue.message === SECRET_FORM) {
      this.#secretReference(issue, path, node, mends);
      return;
    }
    const value = node.plain();
    const branches = issue.errors.map((errors) => ({ errors, cost: costOf(errors) }));
    const best = branches.reduce((a, b) => (b.cost < a.cost ? b : a));
    if (best.cost >= OTHER_TYPE) {
      const values = branches.flatMap(({ errors }) =>
        errors.flatMap((one) => (one.code === 'invalid_value' && one.path.length === 0 ? one.values : [])),
      );
      const expected = branches.flatMap(({ errors }) =>
        errors.flatMap((one) => (one.code === 'invalid_type' ? [one.expected] : [])),
      );
      if (values.some((one) => typeof one === typeof value)) {
        const meant =
          typeof value === 'string' && isShowable(value)
            ? didYouMean(
                value,
                values.filter((one) => typeof one === 'string'),
              )
            : undefined;
        const hint =
          meant === undefined
            ? this.#hintForType(node, expected.includes('array') ? 'array' : '', issue.message)
            : `did you mean ${meant}?`;
        this.#wrong('wrong_value', node, issue.message, hint);
      } else {
        this.#wrong(
          'wrong_type',
          node,
          issue.message,
          this.#hintForType(node, expected.includes('array') ? 'array' : '', issue.message),
        );
      }
      mends.push({ kind: 'take_out', node });
      return;
    }
    for (const one of unknownKeysFirst(best.errors)) {
      if (one.code !== 'unrecognized_keys') {
        this.#translate(one, path, mends);
        continue;
      }
      for (const key of one.keys) {
        const elsewhere = issue.errors.some((errors) => errors !== best.errors && knows(errors, key));
        const entry = node.get(key);
        if (!elsewhere || entry === null) {
          this.#unknownKey(node, key, one.message.split(', '), mends);
          continue;
        }
        const beside = [...node.entries.keys()].filter((other) => other !== key && isShowable(other));
        this.#report(
          'wrong_value',
          entry,
          'key',
          `cannot stand beside ${beside.join(' and ')}; allowed is ${issue.message}`,
          'keep one of them',
        );
        mends.push({ kind: 'take_out', node: entry });
      }
    }
  }

  /**
   * Where a reference to a secret is broken, the secret itself may stand there. So nothing of it is shown, also not as the
   * name of a file that is missing: what is only probably meant is not looked up.
   */
  #secretReference(
    issue: z.core.$ZodIssueInvalidUnion,
    path: readonly PropertyKey[],
    node: Draft,
    mends: Mend[],
  ): void {
    this.#references.add(node);
    mends.push({ kind: 'take_out', node });
    const keys = [...node.entries.keys()];
    const unknown = keys.filter((key) => !SECRET_KEYS.includes(key));
    const [known, ...others] = keys.filter((key) => SECRET_KEYS.includes(key));
    // What stood there without a value was told.
    if (keys.length === 0 && node.dropped.size > 0) return;
    if (keys.length === 0) this.#wrong('wrong_type', node, SECRET_FORM, this.#hintForType(node, '', SECRET_FORM));
    for (const key of unknown) this.#unknownSecretKey(node, key);
    for (const key of others) {
      const entry = node.get(key);
      const problem = `cannot stand beside ${known ?? ''}; allowed is ${SECRET_FORM}`;
      if (entry !== null) this.#report('wrong_value', entry, 'key', problem, 'keep one of them');
    }
    if (unknown.length > 0 || others.length > 0) return;
    const errors = issue.errors.flatMap((branch) => branch.filter((one) => one.path[0] === known));
    for (const one of errors.filter((one) => node.at(one.path) !== null)) this.#translate(one, path, mends);
  }

  /** A key that is near none of them may be a piece of the secret. */
  #unknownSecretKey(node: Draft, key: string): void {
    const entry = node.get(key);
    const meant = isShowable(key) ? didYouMean(key, SECRET_KEYS) : undefined;
    if (entry === null) return;
    if (meant !== undefined) {
      this.#report('unknown_key', entry, 'key', `unknown key, did you mean ${meant}?`, `write ${meant}: …`);
      return;
    }
    const hint = this.#hintForType(node, '', SECRET_FORM);
    const issue = issueAt('unknown_key', node, 'key', `unknown key, allowed is ${SECRET_FORM}`, hint);
    this.#issues.push({ ...issue, ...entry.origin.keyAt });
  }

  /** A `type` that is none of those there are; `node` is that of the type. */
  #wrongKind(options: readonly unknown[], node: Draft, mends: Mend[]): void {
    const names = options.filter((option) => typeof option === 'string');
    const value = node.plain();
    const meant = typeof value === 'string' && isShowable(value) ? didYouMean(value, names) : undefined;
    this.#wrong(
      typeof value === 'string' ? 'wrong_value' : 'wrong_type',
      node,
      either(names),
      meant === undefined ? undefined : `did you mean ${meant}?`,
    );
    mends.push(meant === undefined ? { kind: 'take_out', node } : { kind: 'take_out', node, standIn: meant });
  }
}

/** A key that was misspelt answers for the one that is missing, so it has to be known by then. */
function unknownKeysFirst(issues: readonly ZodIssue[]): ZodIssue[] {
  const isUnknown = (issue: ZodIssue): boolean => issue.code === 'unrecognized_keys';
  return [...issues.filter(isUnknown), ...issues.filter((issue) => !isUnknown(issue))];
}

/** A branch of a union that this weighs or more is for another type of value. */
const OTHER_TYPE = 1000;

/** How far a branch of a union is from what was written. */
function costOf(errors: readonly ZodIssue[]): number {
  let cost = 0;
  for (const issue of errors) {
    const here = issue.path.length === 0;
    if (here && (issue.code === 'invalid_type' || issue.code === 'invalid_value')) cost += OTHER_TYPE;
    else if (issue.code !== 'unrecognized_keys') cost += 1;
    else for (const key of issue.keys) cost += didYouMean(key, issue.message.split(', ')) === undefined ? 3 : 0;
  }
  return cost;
}

/** Does this branch of a union know the key. */
function knows(errors: readonly ZodIssue[], key: string): boolean {
  if (costOf(errors) >= OTHER_TYPE) return false;
  return !errors.some(
    (issue) => issue.code === 'unrecognized_keys' && issue.path.length === 0 && issue.keys.includes(key),
  );
}

/** What is allowed where nothing stands. */
function allowedBy(issue: ZodIssue): string {
  if (issue.code !== 'invalid_union' || issue.discriminator === undefined) return issue.message;
  return either(optionsOf(issue).filter((option) => typeof option === 'string'));
}

/** A line to paste. */
function hintForMissing(key: string, allowed: string): string | undefined {
  switch (key) {
    case 'version':
      return 'write version: 1';
    case 'bind':
      return 'write bind: 127.0.0.1:8443';
    case 'upstream':
      return 'write upstream: tcp://127.0.0.1:PORT';
    case 'routes':
      return 'write routes: [{ name: rest, path: /**, require: PERMISSION }]';
    case 'type':
      return allowed.includes(' ') ? undefined : `write type: ${allowed}`;
    case 'issuer':
      return 'write issuer: URL, as iss of the tokens says it; tokens of other issuers are refused';
    case 'audience':
      return 'write audience: NAME, as aud of the tokens says it; tokens meant for others are refused';
    case 'sha256':
      return 'run "guardbee token new", and paste what it prints';
    default:
      return undefined;
  }
}

function optionsOf(issue: z.core.$ZodIssueInvalidUnion): readonly unknown[] {
  return 'options' in issue ? (issue.options ?? []) : [];
}

function hintForType(node: Draft, expected: string, allowed: string, isSecret: boolean): string | undefined {
  const value = node.plain();
  const { path } = node;
  const key = path.findLast((part) => typeof part === 'string') ?? '';
  if (allowed === SECRET_FORM) {
    if (path.includes('tokens')) {
      return 'run "guardbee token hash", give it the token, and write sha256: WHAT_IT_PRINTS; or token: { file: PATH }';
    }
    return `put it into a file of mode 0600 and write ${key}: { file: PATH }`;
  }
  if (isSecret || typeof value === 'object') return undefined;
  if (expected === 'array' && (typeof value === 'number' || (typeof value === 'string' && isShowable(value)))) {
    const text = String(value);
    return `write a list: ${key}: [${/^[A-Za-z0-9./][A-Za-z0-9./_-]*$/.test(text) ? text : quote(text)}]`;
  }
  if (typeof value === 'number' && Number.isInteger(value)) {
    if (allowed.startsWith('a duration')) return `write ${value}s`;
    if (allowed.startsWith('an address and a port')) return `write 127.0.0.1:${value}`;
    if (allowed.startsWith('http://')) return `write http://127.0.0.1:${value}`;
    if (allowed.startsWith('a name')) return 'a name begins with a letter';
    if (allowed.startsWith('a size')) return `write ${value}B`;
    return undefined;
  }
  if (typeof value === 'string' && expected === 'boolean' && /^(?:yes|on|y)$/i.test(value)) return 'write true';
  if (typeof value === 'string' && expected === 'boolean' && /^(?:no|off|n)$/i.test(value)) return 'write false';
  if (typeof value === 'string' && /^\d+$/.test(value) && allowed.startsWith('a whole number'))
    return 'write it without quotes';
  return undefined;
}
