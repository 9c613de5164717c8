/** What may stand under `body` of a route. */
import { z } from 'zod';
import { parseJsonPointer } from '../http/json-pointer.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';
import { check } from './schema-checks.js';
import { map, name, names, scalar, size } from './schema-scalars.js';

const TEBIBYTE = 1024 ** 4;
/** In bytes. */
export const bodySize = size(1, TEBIBYTE);

export const MEMBER_FORM = 'the name of a member, or a JSON pointer such as /options/model or /stop/*';

/** Reads the name of a member of the outermost object, or a JSON pointer. */
export function parseMember(text: string): Parsed<readonly string[]> {
  if (text === '' || text === '__proto__') return refused(`allowed is ${MEMBER_FORM}`);
  if (!text.startsWith('/')) return text.length <= 256 ? parsed([text]) : refused('this is too long for a name');
  const pointer = parseJsonPointer(text);
  if (pointer === null) return refused('"~" stands in a pointer as ~0 and "/" as ~1 (RFC 6901)');
  return pointer.length <= 32 && text.length <= 1024 ? parsed(pointer) : refused('this is too deep');
}

const FIELD_FORM = 'the name of a member such as operation, or a JSON pointer such as /task/kind';
const VALUE_FORM = 'a value of the field, of 1 to 256 characters';
const KEY = /^(?!__proto__$).{1,1024}$/su;

export const body = map('a map such as { max: 2MiB }', {
  max: bodySize.optional(),
  json: map('a map such as { field: operation, require_by_value: { status: PERMISSION } }', {
    field: scalar(FIELD_FORM, 'wrong_value', (text) => {
      const read = parseMember(text);
      return read.ok && read.value.includes('*') ? refused('a field is one place, and "*" is many') : read;
    }).optional(),
    require_by_value: z
      .record(
        z.string().regex(/^(?!__proto__$).{1,256}$/su, { error: VALUE_FORM }),
        z.union([name, names], { error: 'a permission or role, or a list of them' }),
        { error: 'a map of value to permission' },
      )
      .optional()
      .meta({
        minProperties: 1,
        description:
          'Permissions or roles by what the field says, any of which is enough; what is not listed is refused',
      }),
    check: z
      .record(z.string().regex(KEY, { error: MEMBER_FORM }), check, { error: 'a map of member or pointer to check' })
      .optional()
      .meta({ minProperties: 1, description: 'Members of the outermost object, or JSON pointers' }),
  })
    .optional()
    .meta({ description: 'The body is JSON that can be read one way only; it is held until it was judged' }),
}).meta({ id: 'body', minProperties: 1 });

export type BodyEntry = z.output<typeof body>;
