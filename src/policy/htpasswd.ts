/**
 * Files of names and password hashes, as Apache's `htpasswd -B` writes them: `NAME:HASH`, one user a line. Only bcrypt
 * is taken; whatever else such files may hold is guessed at millions a second once somebody has the file. A hash is
 * never repeated in a message, nor is a line that is none: it may be a password.
 */
import { Secret } from '../secret/secret.js';
import { isShowable, show } from './found.js';
import type { Issue, IssueCode } from './issue.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export interface HtpasswdEntry {
  /** Unicode Normalization Form C (RFC 7617 §2.1). */
  readonly name: string;
  readonly hash: Secret;
  /** Base-2 logarithm of bcrypt's rounds. */
  readonly cost: number;
  /** 1-based. */
  readonly line: number;
}

export interface Htpasswd {
  /** Those that can be used, each name once, in the order of the file. */
  readonly entries: readonly HtpasswdEntry[];
  /** Those whose hash is no good too: nobody is told that they are missing. */
  readonly names: readonly string[];
  readonly issues: readonly Issue[];
}

/** More would take seconds for each login, and bcrypt's own limit of 31 would take days. */
const HIGHEST_COST = 15;
/** OWASP's least for bcrypt. */
const LEAST_GOOD_COST = 10;
/** A file that is no htpasswd at all is told of once and not once a line. */
const MOST_ISSUES = 20;

const LONGEST_NAME = 128;
export const USER_FORM = `a user name: up to ${LONGEST_NAME} characters without ":", control characters, and blanks at either end`;

/** A name as the file, the policy and the Authorization field may hold it; two spellings of one name become the same. */
export function parseUserName(text: string): Parsed<string> {
  const name = text.normalize('NFC');
  if (name === '') return refused('the user name is empty');
  if (name.length > LONGEST_NAME) return refused(`a user name has at most ${LONGEST_NAME} characters`);
  if (name.includes(':')) return refused('a user name holds no ":", which ends it (RFC 7617)');
  // Format characters turn the direction of writing or cannot be seen: two names would look like one in a log.
  if (/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(name)) return refused('a user name holds no control characters');
  // Fields are trimmed on their way to the upstream.
  if (name.trim() !== name) return refused('a user name neither begins nor ends with a blank');
  return parsed(name);
}

/** @param file how messages call it */
export function readHtpasswd(text: string, file: string): Htpasswd {
  const entries = new Map<string, HtpasswdEntry>();
  const names = new Set<string>();
  const issues: Issue[] = [];
  const tell = (code: IssueCode, line: number, message: string, hint?: string, severity: Issue['severity'] = 'error') =>
    issues.push({ severity, code, file, line, column: line === 0 ? 0 : 1, key: '', message, ...(hint && { hint }) });

  const lines = (text.startsWith('\ufeff') ? text.slice(1) : text).split('\n');
  for (const [index, raw] of lines.entries()) {
    const line = index + 1;
    const written = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (written.trim() === '' || written.trimStart().startsWith('#')) continue;
    if (issues.length >= MOST_ISSUES) {
      tell('bad_htpasswd', line, 'there is too much wrong with this file, the rest was not looked at');
      break;
    }
    const colon = written.indexOf(':');
    if (colon < 0) {
      tell('bad_htpasswd', line, 'there is no ":" in this line, allowed is NAME:HASH', remedy(file, null));
      continue;
    }
    const name = parseUserName(written.slice(0, colon));
    if (!name.ok) {
      tell('bad_htpasswd', line, name.problem, 'remove this line, and choose another name');
      continue;
    }
    names.add(name.value);
    const read = readHash(written.slice(colon + 1));
    if ('problem' in read) {
      tell('bad_htpasswd', line, `${whose(name.value)} ${read.problem}`, remedy(file, name.value));
      continue;
    }
    const earlier = entries.get(name.value);
    if (earlier !== undefined) {
      tell(
        'duplicate_name',
        line,
        `the user ${show(name.value)} stands twice, the first is in line ${earlier.line}`,
        'remove one of the two lines',
      );
      continue;
    }
    if (read.cost < LEAST_GOOD_COST) {
      tell(
        'weak_hash',
        line,
        `${whose(name.value)} has a cost of ${read.cost}, which is guessed quickly by whoever gets hold of the file`,
        remedy(file, name.value),
        'warning',
      );
    }
    entries.set(name.value, { name: name.value, hash: Secret.fromText(read.hash), cost: read.cost, line });
  }
  if (entries.size === 0 && !issues.some((issue) => issue.severity === 'error')) {
    tell('bad_htpasswd', 0, 'there is no user in the file', remedy(file, null));
  }
  return { entries: [...entries.values()], names: [...names], issues };
}

function whose(name: string): string {
  return isShowable(name) ? `the hash of ${show(name)}` : 'the hash in this line';
}

/** A line to paste. */
function remedy(file: string, name: string | null): string {
  const user = name !== null && isShowable(name) && /^[A-Za-z0-9._@+-]+$/.test(name) ? name : 'NAME';
  const path = /^[A-Za-z0-9_./:@%+=,-]+$/.test(file) ? file : 'FILE';
  return `run: htpasswd -B -C 12 ${path} ${user}`;
}

const BCRYPT = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;

/** What else such files hold, by how it begins. */
const OTHERS: readonly (readonly [look: RegExp, what: string])[] = [
  [/^$/, 'is empty'],
  [/^\$apr1\$/, 'is the MD5 of Apache ($apr1$)'],
  [/^\$1\$/, 'is MD5 ($1$)'],
  [/^\{SHA\}/i, 'is SHA-1 without a salt ({SHA})'],
  [/^\{SSHA\}/i, 'is SHA-1 ({SSHA})'],
  [/^\$5\$/, 'is SHA-256 crypt ($5$)'],
  [/^\$6\$/, 'is SHA-512 crypt ($6$)'],
  [/^\$argon2/, 'is Argon2'],
  [/^\$(?:y|gy|7)\$/, 'is yescrypt or scrypt'],
  [/^\$2x?\$/, 'is of an old bcrypt that computed wrongly ($2$, $2x$)'],
  [/:\$2[abxy]?\$/, 'is not where it should be: there is a ":" too many, and a user name holds none'],
  [/^\$2[aby]\$/, 'is bcrypt, but not whole: it has 60 characters, and nothing follows it in its line'],
  [/^[./0-9A-Za-z]{13}$/, 'is that of the old crypt(), or no hash at all'],
];

function readHash(text: string): { readonly hash: string; readonly cost: number } | { readonly problem: string } {
  const found = BCRYPT.exec(text);
  if (found === null) {
    const what = OTHERS.find(([look]) => look.test(text))?.[1] ?? 'is none that is known, or is the password itself';
    return { problem: `${what}; allowed is bcrypt ($2y$, $2b$ or $2a$)` };
  }
  const cost = Number(found[1]);
  if (cost < 4)
    return { problem: `has a cost of ${cost}, which bcrypt does not know; allowed is 10 to ${HIGHEST_COST}` };
  if (cost > HIGHEST_COST) {
    return { problem: `has a cost of ${cost}, so that each login would take long; allowed is 10 to ${HIGHEST_COST}` };
  }
  return { hash: text, cost };
}
