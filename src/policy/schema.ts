/**
 * What a policy file may hold: one definition, from which come the types, the checks and the JSON Schema. It knows
 * each value by itself; what values say of each other is `compile.ts`.
 *
 * Every schema says in `error` what is allowed there, as a phrase that fits behind "allowed is": `validate.ts` makes the
 * message of it. A map answers an unknown key with the list of the known ones.
 */
import { z } from 'zod';
import { METHODS } from './methods.js';
import { MOST_PROCESSES } from './processes.js';
import { parsed, refused } from './parsed.js';
import { authenticator, localIdentity, type token, tokens } from './schema-authenticators.js';
import {
  bind,
  bindOrSocket,
  count,
  credentialField,
  duration,
  durationOrNone,
  fieldName,
  filePath,
  flag,
  hostName,
  list,
  map,
  mountPath,
  name,
  names,
  path,
  range,
  ranges,
  scalar,
  secret,
  socketName,
  text,
  upstream,
  yes,
} from './schema-scalars.js';

import { acme } from './schema-acme.js';
import { audit, auditedAs } from './schema-audit.js';
import { body } from './schema-body.js';
import { checkHeaders, checkPath, checkQuery } from './schema-checks.js';
import { cors } from './schema-cors.js';
import { deadlines, timeout } from './schema-deadlines.js';
import { connectionLimits, listenerLimits, routeLimits } from './schema-limits.js';
import { owner, owns } from './schema-ownership.js';
import { origins, sessions } from './schema-sessions.js';
import { upstreamTls } from './schema-outbound.js';
import { proxyProtocol, tcpListener } from './schema-tcp.js';
import { policyTest } from './schema-tests.js';
import { tls } from './schema-tls.js';

export type { ScalarProblem } from './schema-scalars.js';
export type { TcpListenerEntry } from './schema-tcp.js';
export type { PolicyTestEntry } from './schema-tests.js';
export type { TlsEntry } from './schema-tls.js';

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

const timeouts = map('a map such as { upstream: 60s }', {
  handshake: duration.optional(),
  head: duration.optional(),
  body: durationOrNone.optional(),
  upstream: durationOrNone.optional(),
  keep_alive: duration.optional(),
});

const THROTTLE_FORM = 'off, or a map such as { after: 5, delay: 250ms, most: 4s }';
const throttleDelay = duration.refine((ms) => ms <= 60_000, { error: 'a duration of 60s at most' });
const throttle = z
  .union(
    [
      z.literal('off', { error: THROTTLE_FORM }),
      map(THROTTLE_FORM, {
        after: count(1, 1000).optional(),
        delay: throttleDelay.optional(),
        most: throttleDelay.optional(),
      }),
    ],
    { error: THROTTLE_FORM },
  )
  .meta({ description: 'How answers to bad credentials are slowed; a good one never is' });

const streamLife = durationOrNone.meta({ description: 'The longest that an event stream or WebSocket may be open' });

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
  safe: z
    .literal(false, { error: 'false' })
    .optional()
    .meta({ description: 'A GET here changes something: the CSRF rule treats it as a write' }),
  body: body.optional(),
  check: checkPath.optional(),
  check_query: checkQuery.optional(),
  check_headers: checkHeaders.optional(),
  timeouts: map('a map such as { upstream: 5m }', {
    body: durationOrNone.optional(),
    upstream: durationOrNone.optional(),
  }).optional(),
  timeout: timeout.optional(),
  limits: routeLimits.optional(),
  streams: map('a map such as { max: 12h }', { max: streamLife }).optional(),
  owns: owns.optional(),
  owner: owner.optional(),
  audit: auditedAs.optional(),
}).meta({
  id: 'route',
  description: 'First match wins; exactly one of public, deny, require and body.json.require_by_value',
  oneOf: [
    { required: ['public'] },
    { required: ['deny'] },
    { required: ['require'] },
    {
      required: ['body'],
      properties: { body: { required: ['json'], properties: { json: { required: ['require_by_value'] } } } },
    },
  ],
});

const httpListener = map('a map with bind, upstream, authenticate and routes', {
  type: z.literal('http').optional(),
  bind: bindOrSocket,
  socket: socketName.optional(),
  hosts: list(hostName, 'host names').optional().meta({ description: 'Other Host names get 421' }),
  tls: tls.optional(),
  allow_from: ranges.optional().meta({ description: "The socket's peer" }),
  trusted_proxies: z
    .array(range, { error: 'a list of addresses and ranges, which may be empty' })
    .optional()
    .meta({ description: 'Peers whose X-Forwarded-* are believed; may be empty' }),
  proxy_protocol: proxyProtocol.optional(),
  outbound: flag
    .optional()
    .meta({ description: 'Programs of this machine call a service elsewhere, over TLS, through it' }),
  upstream: upstream.optional(),
  upstream_tls: upstreamTls.optional(),
  upstream_auth: upstreamAuth.optional(),
  strip_request_headers: list(fieldName, 'header field names').optional(),
  authenticate: names.optional(),
  local_identity: localIdentity.optional(),
  sessions: sessions.optional(),
  origins: origins
    .optional()
    .meta({ description: 'Sites besides this one whose pages may use what browsers show by themselves' }),
  routes: list(route, 'routes').meta({ description: 'In order; the first match wins, no match is denied' }),
  limits: listenerLimits.optional(),
  timeouts: timeouts.optional(),
  streams: map('a map such as { max: 12h }', {
    end_at_expiry: flag
      .optional()
      .meta({ description: 'An open stream ends when the credential it began with expires' }),
    max: streamLife.optional(),
  }).optional(),
  throttle: throttle.optional(),
  timeout: timeout.optional(),
  deadlines: deadlines.optional(),
  cors: cors.optional(),
  unsafe_plain_http: flag.optional(),
  unsafe_no_authentication: flag.optional(),
  unsafe_network_identity: flag.optional(),
  unsafe_remote_upstream: flag.optional(),
});

const redirectListener = map('a map with bind and hosts', {
  type: z.literal('redirect'),
  bind,
  socket: socketName.optional(),
  hosts: list(hostName, 'host names'),
  https_port: count(1, 65535).optional(),
  allow_from: ranges.optional(),
  limits: connectionLimits.optional(),
  timeouts: timeouts.optional(),
});

const listener = z.discriminatedUnion('type', [httpListener, redirectListener, tcpListener], {
  error: 'a map with bind, upstream, authenticate and routes',
});

const redis = map('a map such as { url: { file: PATH } }', {
  url: secret.meta({ description: 'redis://[user:password@]host[:port][/database], or rediss:// for TLS' }),
  prefix: scalar('a text such as guardbee:', 'wrong_value', (value) =>
    /^[A-Za-z0-9_.:{}-]{1,64}$/.test(value)
      ? parsed(value)
      : refused('allowed are 1 to 64 letters, digits, and the characters _ . : { } -'),
  ).optional(),
}).meta({ id: 'redis', description: 'What several sidecars share: a Redis or Valkey server' });

const PROCESSES_FORM = `auto, or a number of 1 to ${MOST_PROCESSES}`;
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
  state: map('a map such as { dir: /var/lib/guardbee }', {
    dir: filePath.optional(),
    redis: redis.optional(),
  })
    .meta({ anyOf: [{ required: ['dir'] }, { required: ['redis'] }] })
    .optional(),
  secret_mounts: list(mountPath, 'absolute paths')
    .optional()
    .meta({ description: 'Where an orchestrator mounts secrets in memory; files of root may be readable there' }),
  log: map('a map such as { level: info }', {
    level: z
      .enum(['trace', 'debug', 'info', 'warn', 'error'], { error: 'trace, debug, info, warn or error' })
      .optional(),
    file: filePath.optional(),
    format: z.enum(['auto', 'json', 'text'], { error: 'auto, json or text' }).optional(),
  }).optional(),
  acme: acme.optional(),
  audit: audit.optional(),
  admin: map('a map such as { bind: 127.0.0.1:9180 }', { bind }).optional(),
  drain: duration.optional(),
  watch: flag.optional().meta({ description: 'Read this file, and those that it names, again when they change' }),
  processes: z
    .union([z.literal('auto', { error: PROCESSES_FORM }), count(1, MOST_PROCESSES)], { error: PROCESSES_FORM })
    .optional()
    .meta({ description: 'Processes that serve connections; auto: one for each core' }),
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
export type SecretReference = z.output<typeof secret>;

/** JSON Schema (2020-12) of the policy file, for editors. What only the compiler knows is not in it. */
export function policyJsonSchema(): Record<string, unknown> {
  const schema = z.toJSONSchema(policySchema, { io: 'input' });
  return { title: 'guardbee policy, version 1', ...schema };
}
