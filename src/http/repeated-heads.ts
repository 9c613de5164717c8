import {
  type HeadLimits,
  type Message,
  type MessageResult,
  type RawHead,
  headSize,
  readMessage,
  retargeted,
} from './message.js';
import { readTarget } from './target.js';

/** Longer heads are read each time: what is kept for each connection is bounded. In characters. */
const LONGEST = 2_048;

/** The latest head of a connection that could be read. */
interface Latest {
  raw: RawHead;
  limits: HeadLimits;
  message: Message;
}

const latest = new WeakMap<object, Latest>();

/**
 * As `readMessage`. Who polls, scrapes or calls one thing in a loop sends the same bytes on its connection each time, and
 * reading them costs more than deciding about them: where each of them is as before, so is what they say, and what
 * follows from the head alone may be kept with it (`Message.repeated`). Who asks, and whether they may, is asked anew.
 *
 * @param connection one object for as long as it lasts
 */
export function readHeadOn(connection: object, raw: RawHead, limits: HeadLimits): MessageResult {
  const before = latest.get(connection);
  const again = before?.limits === limits ? readAgain(before, raw) : null;
  if (again !== null) return again;
  const read = readMessage(raw, limits);
  if (!read.ok || read.message.webSocket !== null || headSize(raw) > LONGEST) return read;
  const { message } = read;
  if (before === undefined) {
    latest.set(connection, { raw, limits, message });
    return read;
  }
  before.raw = raw;
  before.limits = limits;
  before.message = message;
  return read;
}

/** What is as before is not read. Null: it is not. */
function readAgain(before: Latest, raw: RawHead): MessageResult | null {
  if (!hasSameFields(before.raw, raw)) return null;
  if (raw.target === before.raw.target) {
    if (before.message.repeated !== 'whole') {
      before.message = retargeted(before.message, before.message.target, 'whole');
    }
    return { ok: true, message: before.message };
  }
  // A target in absolute form is read together with the Host field.
  const inOrigin = raw.target.startsWith('/') && before.raw.target.startsWith('/');
  if (!inOrigin || headSize(raw) > Math.min(before.limits.headBytes, LONGEST)) return null;
  const read = readTarget(raw.target);
  if (!read.ok) return read;
  const message = retargeted(before.message, read.target, 'fields');
  before.raw = raw;
  before.message = message;
  return { ok: true, message };
}

/** All but the target. */
function hasSameFields(a: RawHead, b: RawHead): boolean {
  const { fields } = a;
  const others = b.fields;
  if (fields.length !== others.length || a.method !== b.method || a.protocol !== b.protocol) return false;
  if (a.scheme !== b.scheme || a.authority !== b.authority || a.moreFollows !== b.moreFollows) return false;
  for (let i = 0; i < fields.length; i += 1) if (fields[i] !== others[i]) return false;
  return true;
}
