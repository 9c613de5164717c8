/** `tests:` of a policy: a request, and what the gate must say of it. */
import { z } from 'zod';
import { DENIAL_REASONS } from '../denial.js';
import { fieldRole } from '../http/fields.js';
import { parsed, refused } from './parsed.js';
import { address, count, fieldName, map, name, names, scalar, text } from './schema-scalars.js';

const EXPECT_FORM = 'allow, or the status of the refusal such as 403; of a connection allow or deny';

const HEADERS_FORM = 'a map of header field to text, such as { X-Deadline: "1" }';
/** The host, the credential and the framing of a supposed request are said by other keys, or by themselves. */
const testedField = fieldName.refine((name) => !['hop', 'credential'].includes(fieldRole(name) ?? ''), {
  error: 'a field that is neither the host (write host) nor a credential (write as) nor of the connection',
});

export const policyTest = map('a map such as { request: GET /, expect: 401 }', {
  name: text('a text that names the test', 200).optional(),
  listener: name.optional(),
  request: scalar('a request such as POST /v1/jobs?x=1', 'wrong_value', (value) => {
    const found = /^([A-Za-z!#$%&'*+.^_`|~0-9-]{1,32}) (\S{1,8192})$/.exec(value);
    const target = found?.[2] ?? '';
    if (found === null || /[^\x21-\x7e]/.test(target)) return refused('allowed is METHOD /path?query');
    if (!target.startsWith('/') && target !== '*') {
      return refused(
        'the path begins with "/"',
        `write ${found[1] ?? 'GET'} /${target.replace(/^[a-z]+:\/\/[^/]*\/?/i, '')}`,
      );
    }
    return parsed({ method: found[1] ?? '', target });
  }).optional(),
  connect: name.optional().meta({ description: 'A connection to this tcp listener, in place of a request' }),
  host: text('a host such as queen.lan', 260).optional(),
  as: map('a map such as { roles: [ROLE] }', {
    name: name.optional(),
    roles: names.optional(),
    permissions: names.optional(),
  }).optional(),
  from: address.optional(),
  headers: z
    .record(testedField, text('a text', 8192), { error: HEADERS_FORM })
    .optional()
    .meta({ description: 'Header fields besides Host and credentials' }),
  body: z.unknown().optional().meta({ description: 'Sent as JSON; a text is sent as it stands' }),
  times: count(1, 100_000)
    .optional()
    .meta({ description: 'Asked so often in one moment; what is said of the last one counts' }),
  owner: z
    .literal(false, { error: 'false' })
    .optional()
    .meta({ description: 'What the path names belongs to somebody else; without it, to the caller' }),
  upgrade: z.literal('websocket', { error: 'websocket' }).optional(),
  expect: z.union([z.enum(['allow', 'deny'], { error: EXPECT_FORM }), count(400, 599)], { error: EXPECT_FORM }),
  route: name.optional(),
  reason: z
    .enum(DENIAL_REASONS, { error: 'a reason code such as credential_missing or permission_missing' })
    .optional(),
}).meta({ oneOf: [{ required: ['request'] }, { required: ['connect'] }] });

export type PolicyTestEntry = z.output<typeof policyTest>;
