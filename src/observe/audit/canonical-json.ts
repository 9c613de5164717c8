/** A value of the records: JSON without fractions. */
export type CanonicalValue =
  string | number | boolean | null | readonly CanonicalValue[] | { readonly [name: string]: CanonicalValue };

/**
 * The one way to write a value (RFC 8785, JCS): members in the order of their UTF-16 code units, no white space,
 * strings and numbers as ECMAScript writes them. Two readers that agree on the value agree on the bytes, and so on the
 * hash.
 * @throws TypeError for text with lone surrogates (RFC 8785 §3.2.2.2) and numbers that are no safe integers
 */
export function canonicalJson(value: CanonicalValue): string {
  if (typeof value === 'string') return canonicalString(value);
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new TypeError('a record holds whole numbers');
    // -0 has no form of its own.
    return String(value + 0);
  }
  if (value === null || typeof value === 'boolean') return String(value);
  if (isList(value)) return `[${value.map(canonicalJson).join(',')}]`;
  // The default order of `sort` is that of UTF-16 code units.
  const members = Object.keys(value)
    .sort()
    .flatMap((name) => {
      const member = value[name];
      return member === undefined ? [] : [`${canonicalString(name)}:${canonicalJson(member)}`];
    });
  return `{${members.join(',')}}`;
}

/** `JSON.stringify` escapes exactly what RFC 8785 §3.2.2.2 says, and lone surrogates, which it forbids. */
export function canonicalString(text: string): string {
  if (!text.isWellFormed()) throw new TypeError('a record holds well-formed text');
  return JSON.stringify(text);
}

function isList(value: CanonicalValue): value is readonly CanonicalValue[] {
  return Array.isArray(value);
}
