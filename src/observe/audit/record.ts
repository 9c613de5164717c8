/**
 * A record of the audit trail, written and read. It is one line of canonical JSON whose hash covers everything in it,
 * the hash of the line before included.
 */
import { hash } from 'node:crypto';
import { BoundedCache } from '../bounded-cache.js';
import { isUuid } from '../../http/request-id.js';
import { type CanonicalValue, canonicalJson } from './canonical-json.js';
import { AUDIT_EVENTS, AUDIT_RESULTS, type AuditEvent, type AuditResult } from './events.js';

export const GENESIS = '0'.repeat(64);
/** In bytes, its end included. Every text in a record is shortened so that it fits. */
export const LONGEST_RECORD = 8192;

/** What happened, without its place in the chain. Texts are clean: see `Printable`. What is undefined is left out. */
export interface Entry {
  readonly event: AuditEvent;
  readonly result: AuditResult;
  readonly reason?: string | undefined;
  readonly who?: string | undefined;
  readonly authenticator?: string | undefined;
  readonly roles?: readonly string[] | undefined;
  readonly credential?: string | undefined;
  readonly client?: string | undefined;
  readonly peer?: string | undefined;
  readonly listener?: string | undefined;
  readonly route?: string | undefined;
  readonly action?: string | undefined;
  readonly resource?: string | undefined;
  readonly query?: true | undefined;
  readonly host?: string | undefined;
  readonly protocol?: string | undefined;
  readonly upgrade?: true | undefined;
  readonly request_id?: string | undefined;
  readonly upstream?: string | undefined;
  readonly status?: number | undefined;
  readonly bytes_in?: number | undefined;
  readonly bytes_out?: number | undefined;
  readonly duration_ms?: number | undefined;
  /** How many this record stands for; left out where it is one. */
  readonly count?: number | undefined;
  readonly detail?: Readonly<Record<string, CanonicalValue>> | undefined;
}

/** Where in the chain it stands. */
export interface Place {
  readonly chain: string;
  readonly seq: number;
  /** RFC 3339, in UTC, to the millisecond. */
  readonly time: string;
  readonly prev: string;
  readonly policy: string;
}

/** Of a record that is a checkpoint. */
export interface Seal {
  /** First 16 hex digits of the SHA-256 of the public key (SPKI, DER). */
  readonly key: string;
  /** Ed25519, base64, over the record without `hash` and `signature`. */
  sign(text: string): string;
}

export interface AuditRecord extends Entry, Place {
  readonly v: 1;
  readonly hash: string;
  readonly key?: string | undefined;
  readonly signature?: string | undefined;
}

export interface WrittenRecord {
  /** Without its line end. */
  readonly line: string;
  readonly hash: string;
}

/**
 * Never throws and never leaves a record out, whatever text it is given: what cannot be written is replaced, and what
 * does not fit is shortened.
 */
export function writeRecord(entry: Entry, place: Place, seal: Seal | null = null): WrittenRecord {
  const written = compose(entry, place, seal);
  if (fits(written.line)) return written;
  for (const most of SHORTER) {
    const shorter = compose(shortened(entry, most), { ...place, policy: cut(place.policy, most) }, seal);
    if (fits(shorter.line)) return shorter;
  }
  // Nothing is left in it that has no bound of its own.
  const { event, result, request_id } = entry;
  const id = request_id === undefined ? undefined : cut(request_id, SHORTEST);
  return compose({ event, result, request_id: id }, { ...place, policy: cut(place.policy, SHORTEST) }, seal);
}

/** Characters of each text that are left where a record is too long. */
const SHORTEST = 32;
const SHORTER = [256, 128, 64, SHORTEST];
const MOST_OF_A_LIST = 16;

function fits(line: string): boolean {
  // A UTF-16 unit is three bytes of UTF-8 at most.
  return line.length * 3 < LONGEST_RECORD || Buffer.byteLength(line) < LONGEST_RECORD;
}

function shortened(entry: Entry, most: number): Entry {
  const members = Object.entries(entry).map(([name, value]: [string, CanonicalValue | undefined]) => [
    name,
    value === undefined ? undefined : name === 'event' || name === 'result' ? value : lessOf(value, most),
  ]);
  // Each has the type that it had.
  return Object.fromEntries(members) as Entry;
}

function lessOf(value: CanonicalValue, most: number): CanonicalValue {
  if (typeof value === 'string') return cut(value, most);
  if (typeof value !== 'object' || value === null) return value;
  const less = (one: CanonicalValue): CanonicalValue => lessOf(one, most);
  if (Array.isArray(value)) return value.slice(0, MOST_OF_A_LIST).map(less);
  const members = Object.entries(value).slice(0, MOST_OF_A_LIST);
  return Object.fromEntries(members.map(([name, one]): [string, CanonicalValue] => [cut(name, most), less(one)]));
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most - 1)}…`;
}

/**
 * Members stand in the order of their names, which the tests hold against `canonicalJson`. By hand, because a record is
 * written for every request.
 */
function compose(entry: Entry, place: Place, seal: Seal | null): WrittenRecord {
  const { action, authenticator, client, count, credential, detail, host, peer, reason, resource, roles } = entry;
  let before = '{';
  if (action !== undefined) before += ACTION.get(action);
  if (authenticator !== undefined) before += AUTHENTICATOR.get(authenticator);
  if (entry.bytes_in !== undefined) before += `"bytes_in":${amount(entry.bytes_in)},`;
  if (entry.bytes_out !== undefined) before += `"bytes_out":${amount(entry.bytes_out)},`;
  before += CHAIN.get(place.chain);
  if (client !== undefined) before += CLIENT.get(client);
  if (count !== undefined) before += `,"count":${amount(count)}`;
  if (credential !== undefined) before += CREDENTIAL.get(credential);
  if (detail !== undefined) before += `,"detail":${canonicalJson(tame(detail))}`;
  if (entry.duration_ms !== undefined) before += `,"duration_ms":${amount(entry.duration_ms)}`;
  before += `,"event":"${entry.event}"`;
  // Here stands the hash.
  let after = '';
  if (host !== undefined) after += HOST.get(host);
  if (seal !== null) after += `,"key":"${seal.key}"`;
  if (entry.listener !== undefined) after += LISTENER.get(entry.listener);
  if (peer !== undefined) after += PEER.get(peer);
  after += `${POLICY.get(place.policy)},"prev":"${place.prev}"`;
  if (entry.protocol !== undefined) after += PROTOCOL.get(entry.protocol);
  if (entry.query !== undefined) after += ',"query":true';
  if (reason !== undefined) after += `,"reason":${quoted(reason)}`;
  if (entry.request_id !== undefined) after += requestId(entry.request_id);
  if (resource !== undefined) after += `,"resource":${quoted(resource)}`;
  after += `,"result":"${entry.result}"`;
  if (roles !== undefined) after += list(roles);
  if (entry.route !== undefined) after += ROUTE.get(entry.route);
  after += `,"seq":${amount(place.seq)}`;
  let last = '';
  if (entry.status !== undefined) last += `,"status":${amount(entry.status)}`;
  last += `,"time":"${place.time}"`;
  if (entry.upgrade !== undefined) last += ',"upgrade":true';
  if (entry.upstream !== undefined) last += UPSTREAM.get(entry.upstream);
  last += entry.who === undefined ? ',"v":1}' : WHO.get(entry.who);
  if (seal !== null) last = `,"signature":"${seal.sign(before + after + last)}"${last}`;
  const text = before + after + last;
  const digest = sha256(text);
  // Out of what was put together for the hash: a text that is built twice is copied twice.
  const at = before.length;
  return { line: `${text.slice(0, at)},"hash":"${digest}"${text.slice(at)}`, hash: digest };
}

/**
 * Names and addresses come again with almost every record: as a member of it, in one piece.
 * @param pattern `*` stands for the value
 */
function member(pattern: string): { get(text: string): string } {
  const [before = '', after = ''] = pattern.split('*');
  // Joined, since what is added up stays a tree of its parts.
  const written = (text: string): string => [before, quoted(text), after].join('');
  const known = new BoundedCache(MOST_REMEMBERED, written);
  return { get: (text) => (text.length <= LONGEST_REMEMBERED ? known.get(text) : written(text)) };
}

const MOST_REMEMBERED = 1024;
const LONGEST_REMEMBERED = 256;
const ACTION = member('"action":*,');
const AUTHENTICATOR = member('"authenticator":*,');
const CHAIN = member('"chain":*');
const CLIENT = member(',"client":*');
const CREDENTIAL = member(',"credential":*');
const HOST = member(',"host":*');
const LISTENER = member(',"listener":*');
const PEER = member(',"peer":*');
const POLICY = member(',"policy":*');
const PROTOCOL = member(',"protocol":*');
const ROUTE = member(',"route":*');
const UPSTREAM = member(',"upstream":*');
const WHO = member(',"v":1,"who":*}');

/** Those of an identity are the same list each time. */
const LISTS = new WeakMap<readonly string[], string>();

function list(texts: readonly string[]): string {
  let written = LISTS.get(texts);
  if (written === undefined) {
    written = [',"roles":[', texts.map(quoted).join(','), ']'].join('');
    LISTS.set(texts, written);
  }
  return written;
}

function requestId(text: string): string {
  return isUuid(text) ? `,"request_id":"${text}"` : `,"request_id":${quoted(text)}`;
}

/** Lone surrogates become U+FFFD: they have no form in UTF-8 (RFC 8785 §3.2.2.2). */
function quoted(text: string): string {
  return JSON.stringify(text.isWellFormed() ? text : text.toWellFormed());
}

function amount(value: number): string {
  return Number.isSafeInteger(value) && value > 0 ? String(value) : '0';
}

/** What can be written as canonical JSON. Only records of our own life have it, so this may take its time. */
function tame(value: CanonicalValue): CanonicalValue {
  if (typeof value === 'string') return value.toWellFormed();
  if (typeof value === 'number') return Number.isSafeInteger(value) ? value : 0;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(tame);
  const members = Object.entries(value);
  return Object.fromEntries(members.map(([name, one]): [string, CanonicalValue] => [name.toWellFormed(), tame(one)]));
}

function sha256(text: string): string {
  return hash('sha256', text, 'hex');
}

/**
 * What `audit verify --head` takes: sequence number and hash, the hash in groups, so that nothing that looks for secrets
 * takes it for one: a head that is masked proves nothing.
 */
export function headText(record: { readonly seq: number; readonly hash: string }): string {
  return `${String(record.seq)}:${(record.hash.match(/.{8}/g) ?? []).join(':')}`;
}

export type RecordProblem =
  | 'too_long'
  | 'not_json'
  /** It can be read, and guardbee would have written it otherwise. */
  | 'not_canonical'
  | 'member_wrong'
  | 'hash_wrong';

export type RecordRead =
  { readonly ok: true; readonly record: AuditRecord } | { readonly ok: false; readonly problem: RecordProblem };

/** @param line without its line end, the very bytes of the file: what is no UTF-8 is no record either */
export function readRecord(line: Uint8Array): RecordRead {
  if (line.length >= LONGEST_RECORD) return no('too_long');
  let value: unknown;
  let text: string;
  try {
    text = UTF8.decode(line);
    value = JSON.parse(text);
  } catch {
    return no('not_json');
  }
  if (!isObject(value)) return no('not_json');
  try {
    if (canonicalJson(value) !== text) return no('not_canonical');
    if (!isRecord(value)) return no('member_wrong');
    return value.hash === sha256(textWithout(value, ['hash'])) ? { ok: true, record: value } : no('hash_wrong');
  } catch {
    // Numbers and text that have no canonical form, and thousands of lists in each other: the stack ends.
    return no('not_canonical');
  }
}

/** What the signature of a checkpoint is over. */
export function signedText(record: AuditRecord): string {
  return textWithout(record, ['hash', 'signature']);
}

function textWithout(record: AuditRecord, names: readonly string[]): string {
  // Every member came out of JSON, so this is one of its values.
  const members = Object.entries(record) as [string, CanonicalValue][];
  return canonicalJson(Object.fromEntries(members.filter(([name]) => !names.includes(name))));
}

// Bytes that are no UTF-8 would otherwise all read as the same character. The mark at the beginning is no white space.
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function no(problem: RecordProblem): RecordRead {
  return { ok: false, problem };
}

function isObject(value: unknown): value is Readonly<Record<string, CanonicalValue>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const HEX_64 = /^[0-9a-f]{64}$/;
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;
const TEXTS = [
  ...['action', 'authenticator', 'client', 'credential', 'host', 'key', 'listener', 'peer', 'protocol', 'reason'],
  ...['request_id', 'resource', 'route', 'signature', 'upstream', 'who'],
];
const NUMBERS = ['bytes_in', 'bytes_out', 'count', 'duration_ms', 'status'];
const REQUIRED = ['chain', 'event', 'hash', 'policy', 'prev', 'result', 'seq', 'time', 'v'];
const KNOWN = new Set([...TEXTS, ...NUMBERS, ...REQUIRED, 'detail', 'query', 'roles', 'upgrade']);

function isRecord(value: object): value is AuditRecord {
  const members = new Map<string, unknown>(Object.entries(value));
  const text = (name: string, form: RegExp): boolean => {
    const found = members.get(name);
    return typeof found === 'string' && form.test(found);
  };
  const optional = (name: string, test: (found: unknown) => boolean): boolean =>
    !members.has(name) || test(members.get(name));
  const seq = members.get('seq');
  const roles = (found: unknown): boolean => Array.isArray(found) && found.every((one) => typeof one === 'string');
  const isTrue = (found: unknown): boolean => found === true;
  return (
    [...members.keys()].every((name) => KNOWN.has(name)) &&
    members.get('v') === 1 &&
    text('chain', /^[0-9a-f]{32}$/) &&
    typeof seq === 'number' &&
    seq >= 1 &&
    text('time', TIME) &&
    text('prev', HEX_64) &&
    text('hash', HEX_64) &&
    text('policy', /^[\s\S]*$/) &&
    EVENTS.has(members.get('event')) &&
    RESULTS.has(members.get('result')) &&
    TEXTS.every((name) => optional(name, (found) => typeof found === 'string')) &&
    NUMBERS.every((name) => optional(name, (found) => typeof found === 'number' && found >= 0)) &&
    optional('roles', roles) &&
    optional('query', isTrue) &&
    optional('upgrade', isTrue) &&
    optional('detail', isObject)
  );
}

const EVENTS: ReadonlySet<unknown> = new Set(AUDIT_EVENTS);
const RESULTS: ReadonlySet<unknown> = new Set(AUDIT_RESULTS);
