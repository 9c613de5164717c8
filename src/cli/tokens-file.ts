import { lstat, stat } from 'node:fs/promises';
import { LARGEST_DOCUMENT, parseDocument } from '../policy/document.js';
import { show } from '../policy/found.js';
import { renderIssues } from '../policy/render-issues.js';
import { type TokensFile, tokensFileSchema } from '../policy/schema.js';
import { validate } from '../policy/validate.js';
import { currentReader, readFile } from '../secret/files.js';
import { EXIT, Ending } from './exit-code.js';
import { createPrivate, replacePrivate } from './private-file.js';
import type { Voice } from './voice.js';

/** A token as a tokens file holds it. */
export interface NewEntry {
  readonly name: string;
  readonly sha256: string;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
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

/**
 * Adds an entry to a tokens file, which is made (0600) where there is none. Comments and the order of what is there
 * stay; the result is read back before it is put in the place of the old file.
 */
export async function addToken(file: string, entry: NewEntry, voice: Voice): Promise<void> {
  const { bytes, fault } = await readFile(file, 'private', LARGEST_DOCUMENT, currentReader(process.env));
  if (fault?.kind === 'missing') {
    if ((await lstat(file).catch(() => null)) !== null) {
      throw new Ending(EXIT.secret, `${file} is a symbolic link to nowhere`);
    }
    await createPrivate(file, `${HEADER}tokens:\n  - ${entryText(entry)}\n`);
    return;
  }
  if (fault?.kind === 'too_open') {
    throw new Ending(EXIT.secret, `${file}: ${fault.why} (mode ${fault.mode}), so nothing was added: ${fault.fix}`);
  }
  if (bytes === null) {
    const why = fault?.kind === 'unreadable' ? fault.why : fault?.kind === 'too_large' ? 'it is too large' : 'no file';
    throw new Ending(EXIT.secret, `${file} cannot be read: ${why}`);
  }
  const text = bytes.toString('utf8');
  const owner = await stat(file);
  const before = text.replace(/^\s*#.*$/gm, '').trim() === '' ? [] : tokensIn(text, file, voice);
  refuseThird(before, entry, file);
  const after = appended(text, before, entry);
  if (after === null) {
    throw new Ending(
      EXIT.policy,
      `${file} is not laid out in a way that can be added to: put this into it by hand:\n  - ${entryText(entry)}`,
    );
  }
  await replacePrivate(file, after, owner);
}

type Tokens = TokensFile['tokens'];

function tokensIn(text: string, file: string, voice: Voice): Tokens {
  const { value, issues } = validate(parseDocument(text, file), tokensFileSchema);
  if (value !== null && issues.length === 0) return value.tokens;
  voice.err(renderIssues(issues));
  throw new Ending(EXIT.policy, `nothing was added to ${file}`);
}

function refuseThird(tokens: Tokens, entry: NewEntry, file: string): void {
  if (tokens.filter((token) => token.name === entry.name).length < 2) return;
  throw new Ending(
    EXIT.policy,
    `${file} has two tokens of the name ${show(entry.name)} already, the old and the new one of a rotation: remove the oldest first`,
  );
}

/** The text with one entry more; null where none of the ways to write it gives what was there and the new one. */
function appended(text: string, before: Tokens, entry: NewEntry): string | null {
  if (before.length === 0) return `${lined(text)}tokens:\n  - ${entryText(entry)}\n`;
  for (const candidate of [...inBlock(text, entry), ...inFlow(text, entry)]) {
    if (holds(candidate, before, entry)) return candidate;
  }
  return null;
}

const lined = (text: string): string => (text === '' || text.endsWith('\n') ? text : `${text}\n`);

/** After `- …` lines: one more, with the dash in the same column. */
function inBlock(text: string, entry: NewEntry): string[] {
  const dash = /^([ \t]*)-[ \t]/m.exec(text)?.[1];
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

function holds(text: string, before: Tokens, entry: NewEntry): boolean {
  const { value, issues } = validate(parseDocument(text, ''), tokensFileSchema);
  if (value === null || issues.length > 0) return false;
  const last = value.tokens.at(-1);
  return (
    JSON.stringify(value.tokens.slice(0, -1)) === JSON.stringify(before) &&
    last?.name === entry.name &&
    last.sha256 === entry.sha256
  );
}
