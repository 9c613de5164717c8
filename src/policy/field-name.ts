import { fieldRole } from '../http/fields.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

export const FIELD_FORM = 'a header field name such as X-Admin-Token';

/** RFC 9110 §5.1: a field name is a token. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,128}$/;

/** Fields that frame or route the message: the sidecar states them itself (RFC 9112 §6, RFC 9110 §7.2, §7.6.1). */
const FRAMING: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'upgrade',
  'expect',
  'sec-websocket-key',
  'sec-websocket-version',
]);

/**
 * Reads the name of the field that shows the upstream a credential. Names that guardbee speaks for (X-Auth-User,
 * X-Forwarded-For and their kind) are refused as well: the upstream would get two of them.
 */
export function parseCredentialField(text: string): Parsed<string> {
  const read = parseFieldName(text);
  if (!read.ok) return read;
  const role = fieldRole(read.value);
  return role === null || role === 'credential'
    ? read
    : refused(
        'guardbee states or strips this field itself',
        'write the name that the service documents, such as X-API-Key',
      );
}

/** Reads a field name; lower case. Names that frame the message are refused. */
export function parseFieldName(text: string): Parsed<string> {
  if (!TOKEN.test(text)) {
    const trimmed = text.trim().replace(/:.*$/, '');
    return refused(`allowed is ${FIELD_FORM}`, text !== '' && TOKEN.test(trimmed) ? `write ${trimmed}` : undefined);
  }
  const name = text.toLowerCase();
  if (FRAMING.has(name)) return refused('this field frames or routes the message, and guardbee states it itself');
  return parsed(name);
}
