/**
 * How a message shows what it found. What may be a secret is told by its kind and length alone: by the key it stands
 * under, and by its look, since a token also ends up under the wrong key.
 */
import type { PathPart } from './document.js';

/** Longer texts are not shown: nobody reads them, and a line of log should stay a line. */
const LONGEST_SHOWN = 60;

const SENSITIVE_KEY =
  /token|passw|secret|sha\d|digest|hash|credential|cookie|bearer|user|^env$|^value$|key|^upstream_auth$|^external_account$|^redis$/i;

/** Known prefixes of credentials, and runs that only a machine writes. */
const LOOKS_SECRET = [
  /(?:^|[^A-Za-z0-9])(?:sk|pk|rk|ghp|gho|ghu|ghs|ghr|github_pat|glpat|hf|xox[abprs]|AKIA|ASIA|gb|guardbee|npm|pypi)[-_]?[A-Za-z0-9]{8,}/,
  /(?:^|[^A-Za-z0-9])eyJ[A-Za-z0-9_-]{6,}/,
  /(?=[A-Za-z0-9+=]*[0-9])(?=[A-Za-z0-9+=]*[A-Za-z])[A-Za-z0-9+=]{16,}/,
  // base64url: "-" and "_" may break it into runs that are short each.
  /(?=[\w-]*[0-9])(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{28,}/,
  /(?=[\w-]*[A-Z])(?=[\w-]*[a-z])[\w-]{32,}/,
  // base64, which may have slashes; its padding tells it from a path.
  /[A-Za-z0-9+/]{22,}={1,2}(?![A-Za-z0-9])/,
  /[A-Za-z]{32,}/,
  /\d{16,}/,
  /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/i,
  /:\/\/[^/@\s]*@/,
  // A query is where people put keys.
  /\?[^\s?]*=/,
  /\b(?:Bearer|Basic)\s+\S/i,
];

/** Does something in it look like a credential. */
export function looksSecret(text: string): boolean {
  return LOOKS_SECRET.some((look) => look.test(text));
}

/** May this be printed at all, wherever it stood. */
export function isShowable(text: string): boolean {
  return text.length <= LONGEST_SHOWN && !looksSecret(text);
}

/** Quoted, on one line, without characters that move the cursor or turn the direction of writing. */
export function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\u00a0\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** A text for a message: quoted, or told by its length when it may be a secret. */
export function show(text: string): string {
  return isShowable(text) ? quote(text) : `a text of ${text.length} characters`;
}

/** Is the value at this path one that is never shown. */
export function isSensitive(path: readonly PathPart[]): boolean {
  const key = path.findLast((part) => typeof part === 'string');
  return key !== undefined && key !== 'secret_mounts' && SENSITIVE_KEY.test(key);
}

/** What stands in the file, in a few words: `"10.0.0.0/33"`, `the number 8443`, `a list`. */
export function describe(value: unknown, sensitive: boolean): string {
  if (typeof value === 'string') {
    return sensitive && value !== '' ? `a text of ${value.length} characters` : show(value);
  }
  if (typeof value === 'number') return sensitive || String(value).length > 10 ? 'a number' : `the number ${value}`;
  if (typeof value === 'boolean') return String(value);
  return Array.isArray(value) ? 'a list' : 'a map';
}

/** What stands in the file, and why it cannot stand there. */
export function found(value: unknown, sensitive: boolean, problem: string): string {
  return `found ${describe(value, sensitive)}: ${problem}`;
}

/** Dotted key: `listeners.queen.routes[2].path`. Keys that are no names are quoted in brackets. */
export function dotted(path: readonly PathPart[]): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (!isShowable(part)) text += `[…]`;
    else if (/^[A-Za-z_][A-Za-z0-9_-]*$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${quote(part)}]`;
  }
  return text;
}

/** `a`, `a or b`, `a, b or c`. */
export function either(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1) ?? ''}`;
}
