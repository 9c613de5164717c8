import { type Asked, type Check, type Rule, violation } from '../check/check.js';
import { cgiTwin, withoutWhitespace } from '../http/fields.js';
import { readQuery } from '../http/query.js';
import type { Authentication } from '../identity/authenticate.js';
import type { HeadChecks } from '../policy/demands.js';
import type { Admission } from './admit.js';
import { type Invalid, type Refusal, refusal } from './authorize.js';

/** The first value of the head that is not as the route wants it, or null. The order is path, query, header fields. */
export function checkHead(
  checks: HeadChecks,
  admission: Admission,
  authentication: Authentication | null,
): Refusal | null {
  const asked: Asked = {
    caller: authentication?.ok === true ? authentication.identity.name : null,
    form: 'text',
  };
  const { message } = admission;
  const no = (place: Invalid['place'], name: string, rule: Rule): Refusal =>
    refusal(admission, authentication, 'field_invalid', { fields: [], invalid: { place, name, rule } });

  for (const { name, segment, check } of checks.path) {
    const rule = violation(check, message.target.segments[segment], asked);
    if (rule !== null) return no('path', name, rule);
  }
  if (checks.query.length > 0) {
    const values = readQuery(message.target.query ?? '', checks.queryNames);
    if (values === null) return refusal(admission, authentication, 'query_ambiguous');
    for (const { name, check } of checks.query) {
      const rule = violation(check, values.get(name), asked);
      if (rule !== null) return no('query', name, rule);
    }
  }
  for (const { name, check } of checks.headers) {
    const rule = fieldRule(message.fields, name, check, asked);
    if (rule !== null) return no('header', name, rule);
  }
  return null;
}

/** @param fields those that go on to the upstream */
function fieldRule(fields: readonly string[], name: string, check: Check, asked: Asked): Rule | null {
  const twin = cgiTwin(name);
  let value: string | undefined;
  for (let i = 0; i < fields.length; i += 2) {
    const other = fields[i] ?? '';
    if (other !== name && cgiTwin(other) !== twin) continue;
    // Under another spelling it is the same field to servers of the CGI tradition, and which one counts nobody knows.
    if (value !== undefined || other !== name) return 'repeated';
    value = fields[i + 1] ?? '';
  }
  if (value === undefined) return violation(check, undefined, asked);
  const text = textOf(withoutWhitespace(value));
  return text === null ? 'not_utf8' : violation(check, text, asked);
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Field values are bytes, one for each character. Null: not those of a text. */
function textOf(value: string): string | null {
  if (!/[\x80-\xff]/.test(value)) return value;
  try {
    return UTF8.decode(Buffer.from(value, 'latin1'));
  } catch {
    return null;
  }
}
