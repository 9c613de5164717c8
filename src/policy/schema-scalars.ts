/** The words of a policy file: what a single value may be. Maps of them are in the other `schema` files. */
import { z } from 'zod';
import { parseAddress } from '../net/address.js';
import { parseCidr } from '../net/cidr.js';
import {
  BIND_FORM,
  BIND_OR_SOCKET_FORM,
  BIND_PORTS_FORM,
  parseBind,
  parseBindOrSocket,
  parseBindPorts,
} from './bind.js';
import { DATE_FORM, parseDate } from './date.js';
import { DURATION_FORM, parseDuration } from './duration.js';
import { FIELD_FORM, parseCredentialField, parseFieldName } from './field-name.js';
import { HOST_FORM, parseHostName } from './host-name.js';
import type { IssueCode } from './issue.js';
import { NAME, NAME_FORM } from './name.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';
import { parsePathPattern } from './path-pattern.js';
import { SIZE_FORM, formatSize, parseSize } from './size.js';
import {
  OUTBOUND_UPSTREAM_FORM,
  TCP_UPSTREAM_FORM,
  UPSTREAM_FORM,
  parseTcpUpstream,
  parseUpstream,
} from './upstream.js';

// Zod would write and compile a function for each kind of map, which not even ten thousand tokens pay back. And a
// program that compiles no text can be run where that is forbidden (--disallow-code-generation-from-strings).
z.config({ jitless: true });

/** What a scalar's own reader found, as it travels through zod to `validate.ts`. */
export interface ScalarProblem {
  readonly code: IssueCode;
  readonly problem: string;
  readonly hint?: string;
}

/** A map with these keys and no others. */
export function map<T extends z.core.$ZodShape>(what: string, shape: T) {
  const known = Object.keys(shape).join(', ');
  return z.strictObject(shape, { error: (issue) => (issue.code === 'unrecognized_keys' ? known : what) });
}

/** A text that `read` turns into a value which keeps the proof. */
export function scalar<T>(form: string, code: IssueCode, read: (text: string) => Parsed<T>) {
  return z.string({ error: form }).transform((text, context): T => {
    const result = read(text);
    if (result.ok) return result.value;
    const problem: ScalarProblem = {
      code,
      problem: result.problem,
      ...(result.hint === undefined ? {} : { hint: result.hint }),
    };
    context.addIssue({ code: 'custom', message: form, params: { ...problem } });
    return z.NEVER;
  });
}

export function list<T extends z.core.SomeType>(of: T, what: string) {
  return z.array(of, { error: `a list of ${what}` }).min(1);
}

export function count(least: number, most: number) {
  const form = `a whole number from ${least} to ${most}`;
  return z.int({ error: form }).min(least, { error: form }).max(most, { error: form });
}

export const name = z
  .string({ error: NAME_FORM })
  .regex(NAME, { error: NAME_FORM })
  .meta({ id: 'name', description: NAME_FORM });
export const names = list(name, 'names');
export const flag = z.boolean({ error: 'true or false' });
export const yes = z.literal(true, { error: 'true' });

export const duration = scalar(DURATION_FORM, 'bad_duration', parseDuration).meta({
  id: 'duration',
  description: DURATION_FORM,
  examples: ['500ms', '15s', '5m'],
});
export const durationOrNone = scalar(`${DURATION_FORM}, or none`, 'bad_duration', (text) =>
  text === 'none' ? parsed(Infinity) : parseDuration(text),
).meta({ id: 'duration_or_none', description: `${DURATION_FORM}, or none`, examples: ['30s', 'none'] });

export function size(least: number, most: number) {
  const form = `a size from ${formatSize(least)} to ${formatSize(most)}`;
  return scalar(SIZE_FORM, 'bad_size', (text) => {
    const read = parseSize(text);
    return !read.ok || (read.value >= least && read.value <= most) ? read : refused(`allowed is ${form}`);
  }).meta({ description: form, pattern: '^[0-9]+(B|KiB|MiB|GiB)$', examples: ['16KiB'] });
}

export const date = scalar(DATE_FORM, 'bad_date', parseDate).meta({
  id: 'date',
  pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt]|$)',
  description: DATE_FORM,
  examples: ['2027-01-01', '2027-01-01T08:00:00Z'],
});
export const bind = scalar(BIND_FORM, 'bad_bind', parseBind).meta({
  id: 'bind',
  pattern: ':[0-9]{1,5}$',
  description: BIND_FORM,
  examples: ['127.0.0.1:8443', '[::1]:8443'],
});
export const bindOrSocket = scalar(BIND_FORM, 'bad_bind', parseBindOrSocket).meta({
  id: 'bind_or_socket',
  pattern: '^unix:/|:[0-9]{1,5}$',
  description: BIND_OR_SOCKET_FORM,
  examples: ['127.0.0.1:8443', '[::1]:8443', 'unix:/run/guardbee/link.sock'],
});
export const bindPorts = scalar(BIND_PORTS_FORM, 'bad_bind', parseBindPorts).meta({
  id: 'bind_ports',
  pattern: ':[0-9]{1,5}(-[0-9]{1,5})?$',
  description: BIND_PORTS_FORM,
  examples: ['192.168.1.10:2222', '192.168.1.10:9000-9099'],
});
// As fdname_is_valid() of systemd, without what would need quotes in a message.
export const socketName = scalar('the name of a socket, such as guardbee.socket', 'bad_name', (value) =>
  /^[A-Za-z0-9_.@\\-]{1,255}$/.test(value)
    ? parsed(value)
    : refused(
        'the name of a socket is made of letters, digits and the characters _ . @ \\ -',
        'it is what FileDescriptorName= of the .socket unit says, by itself the name of the unit',
      ),
).meta({ description: 'A socket that systemd opened at `bind` and hands over, by its FileDescriptorName=' });
export const upstream = scalar(UPSTREAM_FORM, 'bad_upstream', parseUpstream).meta({
  id: 'upstream',
  pattern: '^(https?://|unix:/)',
  description: `${UPSTREAM_FORM}; on an outbound listener ${OUTBOUND_UPSTREAM_FORM}`,
  examples: ['http://127.0.0.1:7833', 'unix:/run/queen.sock', 'https://queen.lan:8443'],
});
export const tcpUpstream = scalar(TCP_UPSTREAM_FORM, 'bad_upstream', parseTcpUpstream).meta({
  id: 'tcp_upstream',
  pattern: '^(tcp://|unix:/)',
  description: TCP_UPSTREAM_FORM,
  examples: ['tcp://127.0.0.1:2222', 'tcp://127.0.0.1:9000-9099', 'unix:/run/service.sock'],
});
export const hostName = scalar(HOST_FORM, 'bad_host', parseHostName);
export const fieldName = scalar(FIELD_FORM, 'bad_field_name', parseFieldName);
export const credentialField = scalar(FIELD_FORM, 'bad_field_name', parseCredentialField);

export const RANGE_FORM = 'an address or range such as 192.168.1.7 or 192.168.1.0/24';
export const range = scalar(RANGE_FORM, 'bad_cidr', (text) => {
  const read = parseCidr(text);
  return read.ok ? parsed(read.range) : refused(read.problem, read.hint);
}).meta({ id: 'range', description: RANGE_FORM, examples: ['192.168.1.0/24', '127.0.0.1'] });
export const ranges = list(range, 'addresses and ranges');

export const ADDRESS_FORM = 'an address such as 192.168.1.7';
export const address = scalar(ADDRESS_FORM, 'bad_cidr', (text) => {
  if (parseAddress(text) !== null) return parsed(text);
  const read = parseCidr(text);
  return read.ok ? refused('this is a range, allowed is one address') : refused(read.problem, read.hint);
});

export const PATH_FORM = 'a path such as /v1/jobs, "/v1/jobs/{job_id}/stream" or /dev/**';
export const path = scalar(PATH_FORM, 'bad_path', (text) => {
  const query = text.search(/[?#]/);
  if (query >= 0)
    return refused('a route matches paths, whatever the query', `leave out what begins with "${text.charAt(query)}"`);
  const read = parsePathPattern(text);
  if (read.ok) return parsed(read.pattern);
  if (/^[A-Za-z0-9_{]/.test(text)) return refused(read.problem, `write /${text}`);
  return refused(read.problem, /^\/(?:[A-Za-z0-9_-]+\/)*\*$/.test(text) ? `write ${text}*` : undefined);
}).meta({
  id: 'path',
  pattern: '^/',
  description: PATH_FORM,
  examples: ['/v1/jobs', '/v1/jobs/{job_id}/stream', '/dev/**'],
});

/** A file or folder; resolved against the folder of the policy later. */
export const FILE_FORM = 'a path of a file, absolute or from the folder of this file';
export const filePath = scalar(FILE_FORM, 'wrong_value', (text) => {
  if (text === '') return refused('the path is empty');
  if (/\p{Cc}/u.test(text)) return refused('there is a control character or line break in the path');
  if (text.startsWith('~')) return refused('"~" is not expanded here', 'write the absolute path');
  if (text.includes('$')) return refused('variables are not expanded here', 'write the path itself');
  return parsed(text);
});

export const mountPath = scalar('an absolute path such as /run/secrets', 'wrong_value', (text) => {
  if (!/^\/[^/]/.test(text))
    return refused('allowed is an absolute path below /', 'write the path where it is mounted');
  return /[\p{Cc}$~]/u.test(text) ? refused('a control character, "$" or "~" stands in the path') : parsed(text);
});

export const text = (form: string, most: number) =>
  scalar(form, 'wrong_value', (value) => {
    if (value.trim() === '') return refused('the text is empty');
    if (value.length > most) return refused(`at most ${most} characters are allowed`);
    if (/[^\x20-\x7e]/.test(value)) return refused('allowed are printable ASCII characters on one line');
    return parsed(value);
  });

const REALM_FORM = 'a text for WWW-Authenticate';
export const realm = scalar(REALM_FORM, 'wrong_value', (value) =>
  /^[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(value)
    ? parsed(value)
    : refused('allowed are up to 64 printable ASCII characters without quotes and backslashes'),
);

/** How a policy says where a secret stands. */
export const SECRET_KEYS: readonly string[] = ['file', 'credential', 'env', 'env_file'];
export const SECRET_FORM =
  'a reference to a secret: { file: PATH }, { credential: NAME }, { env: NAME } or { env_file: NAME }; a secret never stands inline';
const variable = scalar('the name of an environment variable', 'bad_name', (value) =>
  /^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(value)
    ? parsed(value)
    : refused('the name of an environment variable is made of letters, digits and "_"'),
);
export const secret = z
  .union(
    [
      map(SECRET_FORM, { file: filePath }),
      map(SECRET_FORM, {
        credential: scalar('a credential name of letters, digits, "-", "_" and "."', 'bad_name', (value) =>
          // The name of a file in one folder: neither a path nor a hidden one.
          /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}$/.test(value)
            ? parsed(value)
            : refused('a credential name is made of letters, digits, "-", "_" and "." (not the first)'),
        ),
      }),
      map(SECRET_FORM, { env: variable }),
      map(SECRET_FORM, { env_file: variable }),
    ],
    { error: SECRET_FORM },
  )
  .meta({
    id: 'secret',
    description:
      'A secret, by reference: a file, a systemd credential, a file whose path an environment variable holds, or (with a warning) the variable itself',
  });
