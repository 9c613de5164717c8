import { KnownHead } from '../http/client-head.js';
import { withoutWhitespace } from '../http/fields.js';

/** An answer that cannot be read, or in more than one way. The message says what is wrong and quotes nothing. */
export class MalformedAnswer extends Error {
  override readonly name = 'MalformedAnswer';
}

/** What the head of an answer says, whatever was asked. */
export interface AnswerHead {
  readonly status: number;
  readonly http10: boolean;
  /** Names as sent and values without the whitespace around, in turn. */
  readonly fields: readonly string[];
  /** In bytes; null where none is stated. */
  readonly length: number | null;
  readonly chunked: boolean;
  /** The connection ends with this answer. */
  readonly closes: boolean;
  /** How long the upstream says it keeps the connection, with room for the way; Infinity where it says nothing. */
  readonly keepAliveMs: number;
  /** Null: it has not come before. */
  readonly known: KnownHead | null;
}

export const NO_STATUS = 'the status line is malformed';
/** RFC 9112 §4. */
export const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?$/;
const KEEP_ALIVE_TIMEOUT = /(?:^|[,;\s])timeout=([0-9]{1,9})\b/i;
/** What other ends may believe of a `Keep-Alive: timeout` less this is what we believe. */
const KEEP_ALIVE_THRESHOLD_MS = 1_000;
const LF = 0x0a;
const CR = 0x0d;

/**
 * Two generations of heads that came lately. A busy service says the same bytes for a second (then `Date` moves on) and
 * reading them costs more than deciding about the request. What sets a cookie is for one reader and not kept.
 */
const KEPT_MOST = 64;
const KEPT_LONGEST = 1_024;
let young = new Map<string, AnswerHead>();
let old = new Map<string, AnswerHead>();
/** Told without a look into either: comparing is quicker than a digest. */
let latest = '';
let latestHead: AnswerHead | null = null;

/**
 * @param text without the empty line at its end, latin1
 * @throws MalformedAnswer
 */
export function answerHead(text: string): AnswerHead {
  if (text.length > KEPT_LONGEST) return readHead(text);
  if (latestHead !== null && text === latest) return latestHead;
  const before = young.get(text) ?? old.get(text);
  if (before !== undefined && before.known !== null) {
    latest = text;
    latestHead = before;
    return before;
  }
  const head = before === undefined ? readHead(text) : { ...before, known: new KnownHead() };
  if (!setsCookie(head.fields)) keep(text, head);
  return head;
}

function keep(text: string, head: AnswerHead): void {
  if (young.size >= KEPT_MOST) {
    old = young;
    young = new Map();
  }
  young.set(text, head);
}

function setsCookie(fields: readonly string[]): boolean {
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i]?.length === 10 && fields[i]?.toLowerCase() === 'set-cookie') return true;
  }
  return false;
}

function readHead(text: string): AnswerHead {
  if (hasHalfALineEnd(text)) throw new MalformedAnswer('a line ends without CR and LF');
  const lines = text.split('\r\n');
  const statusLine = STATUS_LINE.exec(lines[0] ?? '');
  if (statusLine === null) throw new MalformedAnswer(NO_STATUS);
  const fields: string[] = [];
  let length: string | null = null;
  let chunked = false;
  let connection = '';
  let keepAliveMs = Number.POSITIVE_INFINITY;
  for (let i = 1; i < lines.length; i += 1) {
    const line = lines[i] ?? '';
    const colon = line.indexOf(':');
    if (colon < 1) throw new MalformedAnswer('a field line has no name');
    const name = line.slice(0, colon);
    const value = withoutWhitespace(line.slice(colon + 1));
    fields.push(name, value);
    // The few names that say where the message ends are told by their length first: this runs for every field.
    switch (name.length) {
      case 10:
        if (name.toLowerCase() === 'connection') connection += `,${value.toLowerCase()}`;
        else if (name.toLowerCase() === 'keep-alive') keepAliveMs = believed(value, keepAliveMs);
        break;
      case 14:
        if (name.toLowerCase() !== 'content-length') break;
        if (!/^[0-9]{1,15}$/.test(value) || (length !== null && length !== value)) {
          throw new MalformedAnswer('the length is ambiguous');
        }
        length = value;
        break;
      case 17:
        if (name.toLowerCase() !== 'transfer-encoding') break;
        if (chunked || value.toLowerCase() !== 'chunked') {
          throw new MalformedAnswer('the transfer coding is unknown');
        }
        chunked = true;
        break;
      default:
    }
  }
  const http10 = statusLine[1] === '0';
  const options = connection.split(/[,\s]+/);
  return {
    status: Number(statusLine[2]),
    http10,
    fields,
    length: length === null ? null : Number(length),
    chunked,
    closes: options.includes('close') || (http10 && !options.includes('keep-alive')),
    keepAliveMs,
    known: null,
  };
}

function believed(value: string, before: number): number {
  const seconds = KEEP_ALIVE_TIMEOUT.exec(value)?.[1];
  return seconds === undefined ? before : Number(seconds) * 1_000 - KEEP_ALIVE_THRESHOLD_MS;
}

/**
 * CR and LF come together or not at all (RFC 9112 §2.2): readers differ on what either means alone. Looked for by hand:
 * an expression that looks back costs as much as all else that is done to a head.
 */
export function hasHalfALineEnd(text: string): boolean {
  for (let lf = text.indexOf('\n'); lf !== -1; lf = text.indexOf('\n', lf + 1)) {
    if (text.charCodeAt(lf - 1) !== CR) return true;
  }
  for (let cr = text.indexOf('\r'); cr !== -1; cr = text.indexOf('\r', cr + 1)) {
    if (text.charCodeAt(cr + 1) !== LF) return true;
  }
  return false;
}
