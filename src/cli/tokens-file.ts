import { lstat, stat } from 'node:fs/promises';
import type { BigIntStats } from 'node:fs';
import { LARGEST_DOCUMENT, parseDocument } from '../policy/document.js';
import { show } from '../policy/found.js';
import { renderIssues } from '../policy/render-issues.js';
import { type TokensFile, tokensFileSchema } from '../policy/schema.js';
import { endings, removals } from '../policy/token-edits.js';
import { validate } from '../policy/validate.js';
import { currentReader, readFile } from '../secret/files.js';
import { EXIT, Ending } from './exit-code.js';
import { withLock } from './file-lock.js';
import { createPrivate, replacePrivate } from './private-file.js';
import type { Voice } from './voice.js';

export type Tokens = TokensFile['tokens'];

/** A token as a tokens file holds it. */
export interface NewEntry {
  readonly name: string;
  readonly sha256: string;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
  /** RFC 3339; null: at once. */
  readonly notBefore: string | null;
  /** RFC 3339; null: for ever. */
  readonly notAfter: string | null;
}

/** The entry on one line of YAML, without the dash of a list. */
export function entryText(entry: NewEntry): string {
  const list = (names: readonly string[]): string => `[${names.map(quoted).join(', ')}]`;
  const parts = [
    `name: ${quoted(entry.name)}`,
    ...(entry.roles.length === 0 ? [] : [`roles: ${list(entry.roles)}`]),
    ...(entry.permissions.length === 0 ? [] : [`permissions: ${list(entry.permissions)}`]),
    ...(entry.notBefore === null ? [] : [`not_before: "${entry.notBefore}"`]),
    ...(entry.notAfter === null ? [] : [`not_after: "${entry.notAfter}"`]),
    `sha256: "${entry.sha256}"`,
  ];
  return `{ ${parts.join(', ')} }`;
}

/** Names may hold colons, and may be words that YAML takes for something else. */
function quoted(name: string): string {
  return /^[A-Za-z][A-Za-z0-9_.-]*$/.test(name) && !/^(?:true|false|yes|no|on|off|y|n|null)$/i.test(name)
    ? name
    : JSON.stringify(name);
}

const HEADER = '# API tokens of guardbee: hashes only. `guardbee token new --file` adds to it.\n';

/** What a tokens file holds; not for two hands at once (`changeTokens`). */
interface Opened {
  readonly text: string;
  readonly tokens: Tokens;
  readonly found: BigIntStats;
}

/** A tokens file in memory, on its way from one content to the next. Each change is read back before it counts. */
export class TokensText {
  readonly #file: string;
  #text: string;
  #tokens: Tokens;

  constructor(file: string, { text, tokens }: Pick<Opened, 'text' | 'tokens'>) {
    this.#file = file;
    this.#text = text;
    this.#tokens = tokens;
  }

  get text(): string {
    return this.#text;
  }

  get tokens(): Tokens {
    return this.#tokens;
  }

  add(entry: NewEntry): void {
    const before = this.#tokens;
    const candidates =
      before.length === 0
        ? [`${lined(this.#text)}tokens:\n  - ${entryText(entry)}\n`]
        : [...inBlock(this.#text, entry), ...inFlow(this.#text, entry)];
    const taken = this.#take(candidates, (after) => {
      const last = after.at(-1);
      return (
        same(after.slice(0, -1), before) && last?.name === entry.name && last.sha256 === entry.sha256.toLowerCase()
      );
    });
    if (!taken) this.#byHand(`put this into it by hand:\n  - ${entryText(entry)}`);
  }

  /** @param when RFC 3339, in whole seconds. */
  end(index: number, when: string): void {
    const expected = this.#tokens.map((token, i) => (i === index ? { ...token, not_after: Date.parse(when) } : token));
    if (!this.#take(endings(this.#text, index, when), (after) => same(after, expected))) {
      this.#byHand(`give ${this.#told(index)} this by hand: not_after: "${when}"`);
    }
  }

  remove(index: number): void {
    const expected = this.#tokens.filter((_, i) => i !== index);
    if (!this.#take(removals(this.#text, index), (after) => same(after, expected))) {
      this.#byHand(`take ${this.#told(index)} out by hand`);
    }
  }

  #take(candidates: Iterable<string>, isMeant: (after: Tokens) => boolean): boolean {
    for (const candidate of candidates) {
      const { value, issues } = validate(parseDocument(candidate, ''), tokensFileSchema);
      if (value === null || issues.length > 0 || !isMeant(value.tokens)) continue;
      this.#text = candidate;
      this.#tokens = value.tokens;
      return true;
    }
    return false;
  }

  #told(index: number): string {
    const token = this.#tokens[index];
    return token === undefined ? '' : describeToken(token);
  }

  #byHand(what: string): never {
    throw new Ending(EXIT.policy, `${this.#file} is not laid out in a way that can be edited: ${what}`);
  }
}

/** A token for a message: its name, and the first digits of its digest as in the log. */
export function describeToken(token: Tokens[number]): string {
  return token.sha256 === undefined ? show(token.name) : `${show(token.name)} (${token.sha256.slice(0, 6)})`;
}

/** By what the entries say, in whatever order. */
function same(a: Tokens, b: Tokens): boolean {
  const text = (tokens: Tokens): string =>
    JSON.stringify(tokens.map((token) => Object.entries(token).sort(([x], [y]) => (x < y ? -1 : 1))));
  return a.length === b.length && text(a) === text(b);
}

const lined = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);

/** After `- …` lines: one more, with the dash in the same column. */
function inBlock(text: string, entry: NewEntry): string[] {
  const dash = /^([ \t]*)-(?:[ \t]|$)/m.exec(text)?.[1];
  return dash === undefined ? [] : [`${lined(text)}${dash}- ${entryText(entry)}\n`];
}

/** What closes the list in `tokens: [ … ]` and in JSON is near the end; only comments can hold more brackets. */
const MOST_BRACKETS = 20;

/** Before a `]`, from the last one on. */
function* inFlow(text: string, entry: NewEntry): Generator<string> {
  let close = text.lastIndexOf(']');
  for (let tries = 0; close > 0 && tries < MOST_BRACKETS; tries++) {
    const upTo = text.slice(0, close);
    const list = upTo.trimEnd();
    yield `${list}${list.endsWith(',') ? '' : ','} ${entryText(entry)}${upTo.slice(list.length)}${text.slice(close)}`;
    close = text.lastIndexOf(']', close - 1);
  }
}

/**
 * Adds an entry to a tokens file, which is made (0600) where there is none. Comments and the order of what is there
 * stay; the result is read back before it is put in the place of the old file.
 */
export async function addToken(file: string, entry: NewEntry, voice: Voice): Promise<void> {
  await withLock(file, async () => {
    if (!(await isThere(file))) {
      await createPrivate(file, `${HEADER}tokens:\n  - ${entryText(entry)}\n`);
      return;
    }
    await change(file, voice, (tokens) => {
      refuseThird(tokens.tokens, entry, file);
      tokens.add(entry);
    });
  });
}

/**
 * Changes a tokens file, one hand at a time: all of it or nothing, with the mode and owner that it had.
 * @returns What `edit` returned.
 */
export async function changeTokens<T>(file: string, voice: Voice, edit: (tokens: TokensText) => T): Promise<T> {
  if (!(await isThere(file))) throw new Ending(EXIT.policy, `there is no file ${file}`);
  return await withLock(file, async () => await change(file, voice, edit));
}

async function change<T>(file: string, voice: Voice, edit: (tokens: TokensText) => T): Promise<T> {
  const opened = await openTokens(file, voice);
  const tokens = new TokensText(file, opened);
  const result = edit(tokens);
  if (tokens.text === opened.text) return result;
  const now = await stat(file, { bigint: true });
  const { ino, size, mtimeNs, mode, uid, gid } = opened.found;
  // An editor that knows nothing of our lock.
  if (now.ino !== ino || now.size !== size || now.mtimeNs !== mtimeNs) {
    throw new Ending(EXIT.policy, `${file} was changed by somebody else meanwhile, so it was left alone: try again`);
  }
  await replacePrivate(file, tokens.text, { mode: Number(mode), uid: Number(uid), gid: Number(gid) });
  return result;
}

async function isThere(file: string): Promise<boolean> {
  if ((await stat(file).catch(() => null)) !== null) return true;
  if ((await lstat(file).catch(() => null)) === null) return false;
  throw new Ending(EXIT.secret, `${file} is a symbolic link to nowhere`);
}

/** The tokens of a file that only its owner can read. */
export async function readTokens(file: string, voice: Voice): Promise<Tokens> {
  return (await openTokens(file, voice)).tokens;
}

async function openTokens(file: string, voice: Voice): Promise<Opened> {
  const found = await stat(file, { bigint: true }).catch(() => null);
  const { bytes, fault } = await readFile(file, 'private', LARGEST_DOCUMENT, currentReader(process.env));
  if (fault?.kind === 'too_open') {
    throw new Ending(
      EXIT.secret,
      `${file}: ${fault.why} (mode ${fault.mode}), allowed is ${fault.allowed}, so nothing was changed: ${fault.fix}`,
    );
  }
  if (bytes === null || found === null) {
    const why =
      fault?.kind === 'unreadable' ? fault.why : fault?.kind === 'too_large' ? 'it is too large' : 'there is no file';
    throw new Ending(EXIT.secret, `${file} cannot be read: ${why}`);
  }
  const text = bytes.toString('utf8');
  const tokens = text.replace(/^[ \t]*#.*$/gm, '').trim() === '' ? [] : tokensIn(text, file, voice);
  return { text, tokens, found };
}

function tokensIn(text: string, file: string, voice: Voice): Tokens {
  const { value, issues } = validate(parseDocument(text, file), tokensFileSchema);
  if (value !== null && issues.length === 0) return value.tokens;
  voice.err(renderIssues(issues));
  throw new Ending(EXIT.policy, `${file} is broken, and nothing was changed`);
}

function refuseThird(tokens: Tokens, entry: NewEntry, file: string): void {
  if (tokens.filter((token) => token.name === entry.name).length < 2) return;
  throw new Ending(
    EXIT.policy,
    `${file} has two tokens of the name ${show(entry.name)} already, the old and the new one of a rotation: remove one with "guardbee token revoke ${entry.name} --fingerprint …" ("guardbee token list" tells them apart)`,
  );
}
