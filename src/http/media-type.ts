import { TOKEN, withoutWhitespace } from './fields.js';

const TYPE = /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\/([!#$%&'*+\-.^_`|~0-9A-Za-z]+)$/;

/**
 * Is it JSON in UTF-8 to every reader: `application/json` or a type that ends in `+json` (RFC 6839 §3.1), with no charset
 * or that of UTF-8.
 * @param contentType all Content-Type fields, joined with commas; null where there was none
 */
export function isJsonType(contentType: string | null): boolean {
  // A comma: two fields, or a parameter that some readers cut in two.
  if (contentType === null || contentType.includes(',')) return false;
  const [type = '', ...parameters] = contentType.split(';').map(withoutWhitespace);
  const [, major = '', minor = ''] = TYPE.exec(type.toLowerCase()) ?? [];
  if (!(major === 'application' && minor === 'json') && !/.\+json$/.test(minor)) return false;
  if (minor.includes('charset')) return false;
  let charsets = 0;
  for (const parameter of parameters) {
    const equals = parameter.indexOf('=');
    const name = parameter.slice(0, equals).toLowerCase();
    // `charset*0` is a charset to readers of RFC 2231, which says so with asterisks.
    if (equals === -1 || !TOKEN.test(name) || name.includes('*')) return false;
    if (name !== 'charset') {
      // Some look for the word alone, wherever it stands.
      if (parameter.toLowerCase().includes('charset')) return false;
      continue;
    }
    charsets += 1;
    if (charsets > 1 || !/^(?:utf-8|"utf-8")$/i.test(parameter.slice(equals + 1))) return false;
  }
  return true;
}
