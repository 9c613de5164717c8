/**
 * What a policy file may hold: one definition, from which come the types, the checks and the JSON Schema. It knows
 * each value by itself; what values say of each other is `compile.ts`.
 *
 * Every schema says in `error` what is allowed there, as a phrase that fits behind "allowed is": `validate.ts` makes the
 * message of it. A map answers an unknown key with the list of the known ones.
 */
import { z } from 'zod';
import { parseAddress } from '../net/address.js';
import { parseCidr } from '../net/cidr.js';
import { DENIAL_REASONS } from '../denial.js';
import { BIND_FORM, parseBind } from './bind.js';
import { DATE_FORM, parseDate } from './date.js';
import { DURATION_FORM, parseDuration } from './duration.js';
import { FIELD_FORM, parseCredentialField, parseFieldName } from './field-name.js';
import { HOST_FORM, parseHostName } from './host-name.js';
import type { IssueCode } from './issue.js';
import { METHODS } from './methods.js';
import { NAME, NAME_FORM } from './name.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';
import { parsePathPattern } from './path-pattern.js';
import { CARRIERS } from './policy.js';
import { SIZE_FORM, formatSize, parseSize } from './size.js';
import { UPSTREAM_FORM, parseUpstream } from './upstream.js';

/** What a scalar's own reader found, as it travels through zod to `validate.ts`. */
export interface ScalarProblem {
  readonly code: IssueCode;
  readonly problem: string;
  readonly hint?: string;
}

/** A map with these keys and no others. */
function map<T extends z.core.$ZodShape>(what: string, shape: T) {
  const known = Object.keys(shape).join(', ');
  return z.strictObject(shape, { error: (issue) => (issue.code === 'unrecognized_keys' ? known : what) });
}

/** A text that `read` turns into a value which keeps the proof. */
function scalar<T>(form: string, code: IssueCode, read: (text: string) => Parsed<T>) {
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

function list<T extends z.core.SomeType>(of: T, what: string) {
  return z.array(of, { error: `a list of ${what}` }).min(1);
}

function count(least: number, most: number) {
  const form = `a whole number from ${least} to ${most}`;
  return z.int({ error: form }).min(least, { error: form }).max(most, { error: form });
}

const name = z
  .string({ error: NAME_FORM })
  .regex(NAME, { error: NAME_FORM })
  .meta({ id: 'name', description: NAME_FORM });
const names = list(name, 'names');
const flag = z.boolean({ error: 'true or false' });
const yes = z.literal(true, { error: 'true' });

const duration = scalar(DURATION_FORM, 'bad_duration', parseDuration).meta({
  id: 'duration',
  description: DURATION_FORM,
  examples: ['500ms', '15s', '5m'],
});
const durationOrNone = scalar(`${DURATION_FORM}, or none`, 'bad_duration', (text) =>
  text === 'none' ? parsed(Infinity) : parseDuration(text),
).meta({ id: 'duration_or_none', description: `${DURATION_FORM}, or none`, examples: ['30s', 'none'] });

function size(least: number, most: number) {
  const form = `a size from ${formatSize(least)} to ${formatSize(most)}`;
  return scalar(SIZE_FORM, 'bad_size', (text) => {
    const read = parseSize(text);
    return !read.ok || (read.value >= least && read.value <= most) ? read : refused(`allowed is ${form}`);
  }).meta({ description: form, pattern: '^[0-9]+(B|KiB|MiB|GiB)$', examples: ['16KiB'] });
}

const date = scalar(DATE_FORM, 'bad_date', parseDate).meta({
  id: 'date',
  pattern: '^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt]|$)',
  description: DATE_FORM,
  examples: ['2027-01-01', '2027-01-01T08:00:00Z'],
});
const bind = scalar(BIND_FORM, 'bad_bind', parseBind).meta({
  id: 'bind',
  pattern: ':[0-9]{1,5}$',
  description: BIND_FORM,
  examples: ['127.0.0.1:8443', '[::1]:8443'],
});
const upstream = scalar(UPSTREAM_FORM, 'bad_upstream', parseUpstream).meta({
  id: 'upstream',
  pattern: '^(http://|unix:/)',
  description: UPSTREAM_FORM,
  examples: ['http://127.0.0.1:7833', 'unix:/run/queen.sock'],
});
const hostName = scalar(HOST_FORM, 'bad_host', parseHostName);
const fieldName = scalar(FIELD_FORM, 'bad_field_name', parseFieldName);
const credentialField = scalar(FIELD_FORM, 'bad_field_name', parseCredentialField);

const RANGE_FORM = 'an address or range such as 192.168.1.7 or 192.168.1.0/24';
const range = scalar(RANGE_FORM, 'bad_cidr', (text) => {
  const read = parseCidr(text);
  return read.ok ? parsed(read.range) : refused(read.problem, read.hint);
}).meta({ id: 'range', description: RANGE_FORM, examples: ['192.168.1.0/24', '127.0.0.1'] });
const ranges = list(range, 'addresses and ranges');

const ADDRESS_FORM = 'an address such as 192.168.1.7';
const address = scalar(ADDRESS_FORM, 'bad_cidr', (text) => {
  if (parseAddress(text) !== null) return parsed(text);
  const read = parseCidr(text);
  return read.ok ? refused('this is a range, allowed is one address') : refused(read.problem, read.hint);
});

const PATH_FORM = 'a path such as /v1/jobs, "/v1/jobs/{job_id}/stream" or /dev/**';
const path = scalar(PATH_FORM, 'bad_path', (text) => {
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
const FILE_FORM = 'a path of a file, absolute or from the folder of this file';
const filePath = scalar(FILE_FORM, 'wrong_value', (text) => {
  if (text === '') return refused('the path is empty');
  if (/\p{Cc}/u.test(text)) return refused('there is a control character or line break in the path');
  if (text.startsWith('~')) return refused('"~" is not expanded here', 'write the absolute path');
  if (text.includes('$')) return refused('variables are not expanded here', 'write the path itself');
  return parsed(text);
});

const text = (form: string, most: number) =>
  scalar(form, 'wrong_value', (value) => {
    if (value.trim() === '') return refused('the text is empty');
    if (value.length > most) return refused(`at most ${most} characters are allowed`);
    if (/[^\x20-\x7e]/.test(value)) return refused('allowed are printable ASCII characters on one line');
    return parsed(value);
  });

const SECRET_FORM =
  'a reference to a secret: { file: PATH }, { credential: NAME } or { env: NAME }; a secret never stands inline';
const secret = z
  .union(
    [
      map(SECRET_FORM, { file: filePath }),
      map(SECRET_FORM, {
        credential: scalar('a credential name of letters, digits, "-" and "_"', 'bad_name', (value) =>
          /^[A-Za-z0-9_-]{1,255}$/.test(value)
            ? parsed(value)
            : refused('a credential name is made of letters, digits, "-" and "_"'),
        ),
      }),
      map(SECRET_FORM, {
        env: scalar('the name of an environment variable', 'bad_name', (value) =>
          /^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(value)
            ? parsed(value)
            : refused('the name of an environment variable is made of letters, digits and "_"'),
        ),
      }),
    ],
    { error: SECRET_FORM },
  )
  .meta({
    id: 'secret',
    description: 'A secret, by reference: a file, a systemd credential, or (with a warning) an environment variable',
  });

const UPSTREAM_AUTH_FORM = 'a map such as { type: bearer, token: { file: PATH } }';
const upstreamAuth = z
  .discriminatedUnion(
    'type',
    [
      map(UPSTREAM_AUTH_FORM, { type: z.literal('bearer'), token: secret }),
      map(UPSTREAM_AUTH_FORM, {
        type: z.literal('basic'),
        username: scalar('a user name without ":"', 'wrong_value', (value) => {
          if (value === '') return refused('the user name is empty');
          return /[:\p{Cc}]/u.test(value)
            ? refused('a user name holds no ":" and no control characters')
            : parsed(value);
        }),
        password: secret,
      }),
      map(UPSTREAM_AUTH_FORM, { type: z.literal('header'), name: credentialField, value: secret }),
    ],
    { error: UPSTREAM_AUTH_FORM },
  )
  .meta({ id: 'upstream_auth', description: 'The credential that guardbee shows the upstream' });

const certificateFiles = { cert: filePath, key: filePath };
const TLS_FORM =
  '{ cert: FILE, key: FILE }, { certificates: [{ cert: FILE, key: FILE }] } or { self_signed: { names: [NAME] } }';
const tls = z
  .union(
    [
      map(TLS_FORM, certificateFiles),
      map(TLS_FORM, {
        certificates: list(map('a map such as { cert: FILE, key: FILE }', certificateFiles), 'certificates'),
      }),
      map(TLS_FORM, {
        self_signed: map('a map such as { names: [queen.lan] }', { names: list(hostName, 'host names and addresses') }),
      }),
    ],
    { error: TLS_FORM },
  )
  .meta({ id: 'tls', description: 'Certificate files, several picked by SNI, or a self-signed certificate' });

const limits = map('a map such as { connections: 2000 }', {
  head: size(1024, 1024 ** 2).optional(),
  fields: count(1, 1000).optional(),
  connections: count(1, 1_000_000).optional(),
});

const timeouts = map('a map such as { upstream: 60s }', {
  handshake: duration.optional(),
  head: duration.optional(),
  body: durationOrNone.optional(),
  upstream: durationOrNone.optional(),
  keep_alive: duration.optional(),
});

const METHODS_FORM = 'any, or a list of methods such as [GET, POST]';
const method = z.enum(METHODS, { error: 'a method such as GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS' });

const route = map('a map such as { name: rest, path: /**, require: PERMISSION }', {
  name,
  path,
  methods: z
    .union([z.literal('any', { error: METHODS_FORM }), list(method, 'methods')], { error: METHODS_FORM })
    .optional(),
  public: yes.optional().meta({ description: 'Anyone may ask: one literal path, GET and HEAD' }),
  deny: yes.optional().meta({ description: 'Nobody may ask; matched without regard to case' }),
  require: z
    .union([name, names], { error: 'a permission or role, or a list of them' })
    .optional()
    .meta({ description: 'Permissions or roles, any of which is enough' }),
  unsafe_public: flag.optional(),
  from: ranges.optional().meta({ description: 'The client, after trusted proxies' }),
  upstream: upstream.optional(),
  upstream_auth: upstreamAuth.optional(),
  authenticate: names.optional(),
  encoded_slash: z.literal('allow', { error: 'allow' }).optional(),
  timeouts: map('a map such as { upstream: 5m }', {
    body: durationOrNone.optional(),
    upstream: durationOrNone.optional(),
  }).optional(),
}).meta({
  id: 'route',
  description: 'First match wins; exactly one of public, deny and require',
  oneOf: [{ required: ['public'] }, { required: ['deny'] }, { required: ['require'] }],
});

const httpListener = map('a map with bind, upstream, authenticate and routes', {
  type: z.literal('http').optional(),
  bind,
  hosts: list(hostName, 'host names').optional().meta({ description: 'Other Host names get 421' }),
  tls: tls.optional(),
  allow_from: ranges.optional().meta({ description: "The socket's peer" }),
  trusted_proxies: z
    .array(range, { error: 'a list of addresses and ranges, which may be empty' })
    .optional()
    .meta({ description: 'Peers whose X-Forwarded-* are believed; may be empty' }),
  upstream: upstream.optional(),
  upstream_auth: upstreamAuth.optional(),
  strip_request_headers: list(fieldName, 'header field names').optional(),
  authenticate: names.optional(),
  routes: list(route, 'routes').meta({ description: 'In order; the first match wins, no match is denied' }),
  limits: limits.optional(),
  timeouts: timeouts.optional(),
  unsafe_plain_http: flag.optional(),
  unsafe_no_authentication: flag.optional(),
  unsafe_remote_upstream: flag.optional(),
});

const redirectListener = map('a map with bind and hosts', {
  type: z.literal('redirect'),
  bind,
  hosts: list(hostName, 'host names'),
  https_port: count(1, 65535).optional(),
  allow_from: ranges.optional(),
  limits: limits.optional(),
  timeouts: timeouts.optional(),
});

const listener = z.discriminatedUnion('type', [httpListener, redirectListener], {
  error: 'a map with bind, upstream, authenticate and routes',
});

const EMPTY_DIGEST = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const HASH = 'run "guardbee token hash", give it the token, and paste what it prints';
const MINT = 'run "guardbee token new"';

const token = map('a map such as { name: NAME, sha256: DIGEST, roles: [ROLE] }', {
  name,
  sha256: scalar('the SHA-256 of a token: 64 hex digits', 'bad_token', (value) => {
    if (/^[0-9a-f]{64}$/i.test(value)) {
      return value.toLowerCase() === EMPTY_DIGEST
        ? refused('this is the digest of an empty text', MINT)
        : parsed(value.toLowerCase());
    }
    if (/^sha-?256:/i.test(value))
      return refused('allowed are the 64 hex digits alone', 'leave out what stands before the colon');
    if (/^[0-9a-f]{65,}$|^[0-9a-f]{40,63}$/i.test(value)) {
      return refused('a SHA-256 has 64 hex digits', HASH);
    }
    return refused('allowed is the SHA-256 of a token (64 hex digits), never the token itself', HASH);
  }).meta({ pattern: '^[0-9A-Fa-f]{64}$' }),
  roles: names.optional(),
  permissions: names.optional(),
  not_before: date.optional(),
  not_after: date.optional(),
}).meta({ id: 'token', anyOf: [{ required: ['roles'] }, { required: ['permissions'] }] });

const tokens = list(token, 'tokens');

const AUTHENTICATOR_FORM = 'a map such as { type: bearer, tokens_file: FILE }';
const authenticator = z.discriminatedUnion(
  'type',
  [
    map(AUTHENTICATOR_FORM, {
      type: z.literal('bearer'),
      tokens: tokens.optional(),
      tokens_file: filePath.optional(),
      carriers: list(z.enum(CARRIERS, { error: `one of ${CARRIERS.join(', ')}` }), 'carriers').optional(),
      realm: scalar('a text for WWW-Authenticate', 'wrong_value', (value) =>
        /^[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}$/.test(value)
          ? parsed(value)
          : refused('allowed are up to 64 printable ASCII characters without quotes and backslashes'),
      ).optional(),
    }).meta({ anyOf: [{ required: ['tokens'] }, { required: ['tokens_file'] }] }),
  ],
  { error: AUTHENTICATOR_FORM },
);

const EXPECT_FORM = 'allow, or the status of the refusal such as 403';

const policyTest = map('a map such as { request: GET /, expect: 401 }', {
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
  }),
  host: text('a host such as queen.lan', 260).optional(),
  as: map('a map such as { roles: [ROLE] }', {
    name: name.optional(),
    roles: names.optional(),
    permissions: names.optional(),
  }).optional(),
  from: address.optional(),
  upgrade: z.literal('websocket', { error: 'websocket' }).optional(),
  expect: z.union([z.literal('allow', { error: EXPECT_FORM }), count(400, 599)], { error: EXPECT_FORM }),
  route: name.optional(),
  reason: z
    .enum(DENIAL_REASONS, { error: 'a reason code such as credential_missing or permission_missing' })
    .optional(),
});

const EXPOSURE_FORM = 'refuse, warn or { firewalled: "why" }';

export const policySchema = map('a map with version and listeners', {
  version: z.literal(1, { error: '1' }),
  listeners: z.record(name, listener, { error: 'a map of name to listener' }).meta({ minProperties: 1 }),
  authenticators: z.record(name, authenticator, { error: 'a map of name to authenticator' }).optional(),
  roles: z.record(name, names, { error: 'a map of role to a list of permissions' }).optional(),
  upstream_exposure: z
    .union(
      [
        z.enum(['refuse', 'warn'], { error: EXPOSURE_FORM }),
        map(EXPOSURE_FORM, { firewalled: text('a text that says why', 200) }),
      ],
      { error: EXPOSURE_FORM },
    )
    .optional(),
  state: map('a map such as { dir: /var/lib/guardbee }', { dir: filePath }).optional(),
  log: map('a map such as { level: info }', {
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error'], { error: 'trace, debug, info, warn or error' })
      .optional(),
    file: filePath.optional(),
    format: z.enum(['auto', 'json', 'text'], { error: 'auto, json or text' }).optional(),
  }).optional(),
  admin: map('a map such as { bind: 127.0.0.1:9180 }', { bind }).optional(),
  drain: duration.optional(),
  tests: list(policyTest, 'policy tests').optional(),
});

export const tokensFileSchema = map('a map with tokens', { tokens });

/** The file as its author wrote it, each value read. */
export type PolicyFile = z.output<typeof policySchema>;
export type TokensFile = z.output<typeof tokensFileSchema>;
export type ListenerEntry = PolicyFile['listeners'][string];
export type HttpListenerEntry = z.output<typeof httpListener>;
export type RedirectListenerEntry = z.output<typeof redirectListener>;
export type RouteEntry = z.output<typeof route>;
export type AuthenticatorEntry = z.output<typeof authenticator>;
export type TokenEntryInFile = z.output<typeof token>;
export type UpstreamAuthEntry = z.output<typeof upstreamAuth>;
export type TlsEntry = z.output<typeof tls>;
export type SecretReference = z.output<typeof secret>;
export type PolicyTestEntry = z.output<typeof policyTest>;

/** JSON Schema (2020-12) of the policy file, for editors. What only the compiler knows is not in it. */
export function policyJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(policySchema, { io: 'input' });
  return { title: 'guardbee policy, version 1', ...schema };
}
