import assert from 'node:assert/strict';
import type { DenialReason } from '../../src/denial.js';
import { type Message, type RawHead, readMessage } from '../../src/http/message.js';

export const LIMITS = { headBytes: 16 * 1024, headFields: 100 };

/** RFC 6455 §1.3. */
export const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
export const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

/** Names and values in turn, out of one line each. */
export function fieldsOf(...lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 1).replace(/^ /, '')];
  });
}

/** A head as Node's HTTP/1.1 parser delivers it. */
export function head1(parts: Partial<RawHead> = {}, ...lines: readonly string[]): RawHead {
  return {
    protocol: '1.1',
    scheme: 'http',
    method: 'GET',
    target: '/',
    authority: null,
    fields: fieldsOf('Host: bee.test', ...lines),
    moreFollows: false,
    ...parts,
  };
}

/** A head as Node's HTTP/2 delivers it. */
export function head2(parts: Partial<RawHead> = {}, ...lines: readonly string[]): RawHead {
  return head1({ protocol: '2', scheme: 'https', authority: 'bee.test', fields: fieldsOf(...lines), ...parts });
}

export function handshake(...lines: readonly string[]): RawHead {
  return head1(
    {},
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Version: 13',
    `Sec-WebSocket-Key: ${KEY}`,
    ...lines,
  );
}

/** The message, or a failed test. */
export function read(raw: RawHead): Message {
  const result = readMessage(raw, LIMITS);
  assert.ok(result.ok, result.ok ? '' : `refused: ${result.reason}`);
  return result.message;
}

/** Why it is refused; null when it isn't. */
export function refusal(raw: RawHead, limits = LIMITS): DenialReason | null {
  const result = readMessage(raw, limits);
  return result.ok ? null : result.reason;
}

/** Every value of a field in a list of names and values in turn. */
export function valuesOf(fields: readonly string[], name: string): string[] {
  return fields.filter((_, i) => i % 2 === 1 && fields[i - 1] === name);
}

export function namesOf(fields: readonly string[]): string[] {
  return fields.filter((_, i) => i % 2 === 0);
}
