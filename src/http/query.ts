/**
 * Reads the parameters of a query that somebody wants to judge. Queries have no one grammar, so whatever two readers
 * might take for two different things is refused.
 */

/** `%` without two hexadecimal digits behind it. */
const BROKEN_ENCODING = /%(?![0-9A-Fa-f]{2})/;
/** What some readers skip before a name: blanks (PHP), brackets (Rack, qs), a second question mark (WHATWG URL). */
const SKIPPED = /^[\s?[\]]+/;
/** What some readers cut off it or take for a list: `name[]`, NUL. */
const LIST_SUFFIX = /[[\]\0].*$/s;

/**
 * The values of the named parameters, percent-decoded, with `+` as a space (application/x-www-form-urlencoded). Null:
 * the query can be read in more than one way. That is: a named parameter twice, also in another case, with brackets or
 * blanks around, or with a dot or blank for its `_`; an encoding that is broken or is no UTF-8; `;`, at which some readers begin another parameter.
 * @param query without the `?`
 */
export function readQuery(query: string, names: ReadonlySet<string>): ReadonlyMap<string, string> | null {
  const values = new Map<string, string>();
  if (query === '') return values;
  if (query.includes(';') || BROKEN_ENCODING.test(query)) return null;
  const plain = new Set([...names].flatMap(readings));
  for (const part of query.split('&')) {
    const equals = part.indexOf('=');
    const name = decode(equals === -1 ? part : part.slice(0, equals));
    const value = equals === -1 ? '' : decode(part.slice(equals + 1));
    if (name === null || value === null) return null;
    if (names.has(name)) {
      if (values.has(name)) return null;
      values.set(name, value);
    } else if (readings(name).some((one) => plain.has(one))) {
      return null;
    }
  }
  return values;
}

/** What a name is to some reader, in one case. */
function readings(name: string): string[] {
  const text = name.replace(SKIPPED, '').toUpperCase().toLowerCase();
  const cut = text.replace(LIST_SUFFIX, '').trimEnd();
  // PHP: no name of a variable holds these, a bracket that is not closed among them.
  return /[ .[]/.test(text) ? [cut, ...[cut, text].map((one) => one.replaceAll(/[ .[]/g, '_'))] : [cut];
}

function decode(text: string): string | null {
  if (!/[%+]/.test(text)) return text;
  try {
    return decodeURIComponent(text.replaceAll('+', ' '));
  } catch {
    return null;
  }
}
