/**
 * Records as almost all of them are, checked without being built: plain ASCII, without more detail than what a check says. A line that the one
 * expression below takes is canonical JSON of the known members, each of its kind, in their order; what it does not take
 * is for `readRecord` to judge. The tests hold that both always agree.
 */
import { hash } from 'node:crypto';
import { AUDIT_EVENTS, AUDIT_RESULTS, type AuditEvent } from './events.js';

/** What a chain is checked by. */
export interface Link {
  readonly chain: string;
  readonly seq: number;
  readonly time: string;
  readonly prev: string;
  readonly hash: string;
  readonly event: AuditEvent;
}

/** RFC 8785 §3.2.2.2: the short escapes, `\u00xx` in lower case for other controls, and nothing else is escaped. */
const TEXT = String.raw`"[ !#-\[\]-\x7f]*(?:\\(?:["\\bfnrt]|u00(?:0[0-7bef]|1[0-9a-f]))[ !#-\[\]-\x7f]*)*"`;
/** Those of up to 15 digits are all safe. */
const INTEGER = String.raw`(?:0|[1-9]\d{0,14})`;
const HEX_64 = '[0-9a-f]{64}';
const before = (name: string, value: string): string => `(?:"${name}":${value},)?`;
const after = (name: string, value: string): string => `(?:,"${name}":${value})?`;

const RECORD = new RegExp(
  [
    String.raw`^(\{`,
    before('action', TEXT),
    before('authenticator', TEXT),
    before('bytes_in', INTEGER),
    before('bytes_out', INTEGER),
    '"chain":"([0-9a-f]{32})"',
    after('client', TEXT),
    after('count', INTEGER),
    after('credential', TEXT),
    // Of a value that breaks a rule; other details are rare.
    after('detail', String.raw`\{"in":${TEXT},"name":${TEXT},"rule":${TEXT}\}`),
    after('duration_ms', INTEGER),
    `,"event":"(${AUDIT_EVENTS.join('|')})")`,
    `,"hash":"(${HEX_64})"(`,
    after('host', TEXT),
    after('key', TEXT),
    after('listener', TEXT),
    after('peer', TEXT),
    `,"policy":${TEXT},"prev":"(${HEX_64})"`,
    after('protocol', TEXT),
    after('query', 'true'),
    after('reason', TEXT),
    after('request_id', TEXT),
    after('resource', TEXT),
    `,"result":"(?:${AUDIT_RESULTS.join('|')})"`,
    after('roles', String.raw`\[(?:${TEXT}(?:,${TEXT})*)?\]`),
    after('route', TEXT),
    String.raw`,"seq":([1-9]\d{0,14})`,
    after('signature', TEXT),
    after('status', INTEGER),
    String.raw`,"time":"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z)"`,
    after('upgrade', 'true'),
    after('upstream', TEXT),
    ',"v":1',
    after('who', TEXT),
    String.raw`\})$`,
  ].join(''),
);

/** @param line the bytes of a line, one character each. Null: to be judged by `readRecord` */
export function quickLink(line: string): Link | null {
  const found = RECORD.exec(line);
  if (found === null) return null;
  const [, head = '', chain = '', event = '', said = '', tail = '', prev = '', seq = '', time = ''] = found;
  if (hash('sha256', head + tail) !== said) return null;
  // The expression has the list of events in it.
  return { chain, seq: Number(seq), time, prev, hash: said, event: event as AuditEvent };
}
