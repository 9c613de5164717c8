import { type HeadLimits, type Message, type MessageResult, type RawHead, readMessage } from './message.js';

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
  if (before !== undefined && before.limits === limits && isSame(before.raw, raw)) {
    if (!before.message.repeated) before.message = { ...before.message, repeated: true };
    return { ok: true, message: before.message };
  }
  const read = readMessage(raw, limits);
  if (!read.ok || !isShort(raw)) return read;
  const { message } = read;
  if (before === undefined) latest.set(connection, { raw, limits, message });
  else {
    before.raw = raw;
    before.limits = limits;
    before.message = message;
  }
  return read;
}

function isSame(a: RawHead, b: RawHead): boolean {
  const { fields } = a;
  const others = b.fields;
  if (fields.length !== others.length || a.target !== b.target || a.method !== b.method) return false;
  if (a.protocol !== b.protocol || a.scheme !== b.scheme || a.authority !== b.authority) return false;
  if (a.moreFollows !== b.moreFollows) return false;
  for (let i = 0; i < fields.length; i += 1) if (fields[i] !== others[i]) return false;
  return true;
}

function isShort({ target, fields }: RawHead): boolean {
  let length = target.length;
  for (const text of fields) length += text.length;
  return length <= LONGEST;
}
