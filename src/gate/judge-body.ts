import { type Asked, type Rule, violation } from '../check/check.js';
import type { DenialReason } from '../denial.js';
import { cgiTwin, withoutWhitespace } from '../http/fields.js';
import { visitPointer } from '../http/json-pointer.js';
import { isJsonType } from '../http/media-type.js';
import type { Message } from '../http/message.js';
import { isObject, parseStrictJson } from '../http/strict-json.js';
import type { Identity } from '../identity/identity.js';
import type { BodyDemand, JsonRules } from '../policy/demands.js';
import type { Invalid } from './authorize.js';

/** A body that is held in memory. */
export interface Held {
  readonly bytes: Buffer;
  /** Says that it is needed no longer; may be called more than once. */
  release(): void;
}

const JUDGED = Symbol('judged');

/** A body that was found to be as its route wants it. These very bytes go on, once. Made by `judgeBody` alone. */
class SoundBody {
  /** The rules that it was judged by. */
  readonly rules: JsonRules;
  /** What it asks for, in a word of the policy; null where the rules tell nothing apart by that. */
  readonly operation: string | null;
  readonly length: number;
  #held: Held | null;

  constructor(by: typeof JUDGED, rules: JsonRules, operation: string | null, held: Held) {
    if (by !== JUDGED) throw new TypeError('only judgeBody makes judged bodies');
    this.rules = rules;
    this.operation = operation;
    this.length = held.bytes.length;
    this.#held = held;
  }

  get bytes(): Buffer {
    if (this.#held === null) throw new TypeError('the body was sent already');
    return this.#held.bytes;
  }

  /** It is with the upstream. An answer may go on for hours after that, and needs no body. */
  release(): void {
    this.#held?.release();
    this.#held = null;
  }
}

export type JudgedBody = SoundBody;

export type Judgement =
  | { readonly ok: true; readonly body: JudgedBody }
  | { readonly ok: false; readonly reason: DenialReason; readonly invalid: Invalid | null };

const no = (reason: DenialReason, invalid: Invalid | null = null): Judgement => ({ ok: false, reason, invalid });

/** What the head says of a body that will not do, before any of it is read. Null: nothing. */
export function refusedByLength(demand: BodyDemand, message: Message): DenialReason | null {
  const { framing } = message;
  return framing.kind === 'length' && framing.bytes > demand.most ? 'body_too_large' : null;
}

/** The same of a body that will be judged. */
export function refusedByType(message: Message): DenialReason | null {
  if (message.webSocket !== null) return 'upgrade_unsupported';
  const { fields } = message;
  // Of those that go on: a type that `Connection` names stays here, and the upstream would have to guess.
  let typed = false;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    const twin = cgiTwin(name);
    if (twin === 'content-type') {
      if (name !== twin) return 'body_type_unsupported';
      typed = true;
    }
    if (twin !== 'content-encoding') continue;
    const coding = withoutWhitespace(fields[i + 1] ?? '').toLowerCase();
    if (name !== twin || coding !== 'identity') return 'body_encoding_unsupported';
  }
  return typed && isJsonType(message.contentType) ? null : 'body_type_unsupported';
}

/** Judges a body as it will be sent. Read top to bottom: readable, one reading, allowed, sound. */
export function judgeBody(held: Held, rules: JsonRules, identity: Identity): Judgement {
  const json = parseStrictJson(held.bytes);
  if (!json.ok) {
    if (json.why === 'malformed') return no('body_malformed');
    const { byValue } = rules;
    // What is asked for twice is asked for in two ways, which is none that the policy knows.
    const asks = byValue !== null && json.depth === byValue.pointer.length && json.name === byValue.pointer.at(-1);
    return no(asks ? 'operation_unknown' : 'body_ambiguous');
  }
  const looksInside = rules.byValue !== null || rules.checks.length > 0;
  if (looksInside && !isObject(json.value)) return no('body_malformed');

  let operation: string | null = null;
  if (rules.byValue !== null) {
    const { pointer, permissions } = rules.byValue;
    const said = visitPointer(json.value, pointer, (found): DenialReason | 'granted' => {
      const anyOf = typeof found === 'string' ? permissions.get(found) : undefined;
      if (typeof found !== 'string' || anyOf === undefined) return 'operation_unknown';
      operation = found;
      return anyOf.some((name) => identity.grants.has(name)) ? 'granted' : 'permission_missing';
    });
    if (said === 'ambiguous') return no('body_ambiguous');
    if (said === 'type' || said === null) return no('operation_unknown');
    if (said !== 'granted') return no(said);
  }

  const asked: Asked = { caller: identity.name, form: 'json' };
  for (const { name, pointer, check } of rules.checks) {
    const rule = visitPointer<Rule>(json.value, pointer, (found) => violation(check, found, asked));
    if (rule === 'ambiguous') return no('body_ambiguous');
    if (rule !== null) return no('field_invalid', { place: 'body', name, rule });
  }
  return { ok: true, body: new SoundBody(JUDGED, rules, operation, held) };
}
