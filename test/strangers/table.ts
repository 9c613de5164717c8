import type { FieldList } from '../support/message-reader.js';

/** What a stranger may learn of a refusal, written out here and not taken from the code. */
export interface RefusalSeen {
  readonly status: number;
  readonly title: string;
  /** The whole `WWW-Authenticate`; null: there is none. */
  readonly challenge: string | null;
  /** What only the log says. */
  readonly reason: string;
}

const seen = (status: number, reason: string, title: string, challenge: string | null = null): RefusalSeen => ({
  status,
  reason,
  title,
  challenge,
});

const BARE = 'Bearer realm="guardbee"';
const INVALID_TOKEN = `${BARE}, error="invalid_token"`;
const INVALID_REQUEST = `${BARE}, error="invalid_request"`;

export const SEEN = Object.freeze({
  missing: seen(401, 'credential_missing', 'A credential is needed', BARE),
  invalid: seen(401, 'credential_invalid', 'The credential is not valid', INVALID_TOKEN),
  expired: seen(401, 'credential_expired', 'The credential is no longer valid', INVALID_TOKEN),
  notYet: seen(401, 'credential_not_yet_valid', 'The credential is not valid yet', INVALID_TOKEN),
  malformedCredential: seen(400, 'credential_malformed', 'The credential is malformed', INVALID_REQUEST),
  twoCredentials: seen(400, 'credential_ambiguous', 'More than one credential', INVALID_REQUEST),
  twoAuthorizations: seen(400, 'authorization_repeated', 'More than one Authorization field', INVALID_REQUEST),
  notAllowed: seen(
    403,
    'permission_missing',
    'The credential does not allow this',
    `${BARE}, error="insufficient_scope"`,
  ),
  noRoute: seen(403, 'route_unknown', 'Nothing here for you'),
  denied: seen(403, 'route_denied', 'This path is closed'),
  clientDenied: seen(403, 'client_denied', 'This address may not use this path'),
  wrongHost: seen(421, 'wrong_host', 'This server does not answer for that host'),
  noHost: seen(400, 'host_missing', 'The request names no host'),
  twoHosts: seen(400, 'host_ambiguous', 'The request names its host in more than one way'),
  malformedHead: seen(400, 'malformed_head', 'A header field is malformed'),
  malformedTarget: seen(400, 'malformed_target', 'The request target is malformed'),
  malformedRequest: seen(400, 'malformed_request', 'The request could not be read'),
  ambiguousPath: seen(400, 'ambiguous_path', 'The path can be read in more than one way'),
  ambiguousFraming: seen(400, 'ambiguous_framing', 'The length of the request is ambiguous'),
  forwardedMalformed: seen(400, 'forwarded_malformed', 'A forwarding header field is malformed'),
  method: seen(501, 'method_unsupported', 'This method is not supported'),
  upgrade: seen(501, 'upgrade_unsupported', 'This upgrade is not supported'),
  malformedUpgrade: seen(400, 'upgrade_malformed', 'The upgrade request is malformed'),
  version: seen(505, 'version_unsupported', 'This HTTP version is not supported'),
  expectation: seen(417, 'expectation_unsupported', 'This expectation is not supported'),
  headTooLarge: seen(431, 'head_too_large', 'The header fields are too large'),
  tooManyFields: seen(431, 'too_many_fields', 'There are too many header fields'),
});

/** The tokens that strangers show; only the guard's makers know what they are. */
export type TokenName = 'good' | 'viewer' | 'expired' | 'not_yet' | 'unknown';

export const WAYS = ['HTTP/1.1', 'HTTP/1.1 over TLS', 'HTTP/2', 'WebSocket', 'WebSocket over TLS'] as const;
export type Way = (typeof WAYS)[number];

const HTTP1: readonly Way[] = ['HTTP/1.1', 'HTTP/1.1 over TLS'];
const PLAIN_HTTP: readonly Way[] = [...HTTP1, 'HTTP/2'];
const WEBSOCKET: readonly Way[] = ['WebSocket', 'WebSocket over TLS'];
const NOT_HTTP2: readonly Way[] = [...HTTP1, ...WEBSOCKET];

export interface Stranger {
  readonly name: string;
  /** A WebSocket handshake is always a GET. */
  readonly method?: string;
  readonly path: string;
  /** `{good}` in a value stands for the token of that name. */
  readonly fields?: FieldList;
  readonly subprotocols?: readonly string[];
  readonly host?: string;
  /** The address to come from. */
  readonly from?: string;
  /** Of the two listeners, or of those that answer for `bee.test` alone. */
  readonly named?: true;
  /** Behind a proxy that is trusted. */
  readonly behindProxy?: true;
  /** Left out: all of them. */
  readonly ways?: readonly Way[];
  readonly body?: string;
  readonly expect: RefusalSeen | 'allowed';
}

const bearer = (token: string): FieldList => [['Authorization', `Bearer ${token}`]];
const as = (token: TokenName): FieldList => bearer(`{${token}}`);

/** Each way to show a token. */
const CARRIED: readonly { readonly how: string; readonly show: (token: string) => Partial<Stranger> }[] = [
  { how: 'Authorization', show: (token) => ({ fields: bearer(token) }) },
  { how: 'X-API-Key', show: (token) => ({ fields: [['X-API-Key', token]] }) },
  { how: 'X-Guardbee-Token', show: (token) => ({ fields: [['X-Guardbee-Token', token]] }) },
  { how: 'a subprotocol', show: (token) => ({ subprotocols: ['bearer', token], ways: WEBSOCKET }) },
];

const SHOWN: readonly (readonly [what: string, token: string, expect: RefusalSeen | 'allowed'])[] = [
  ['a good token', '{good}', 'allowed'],
  ['a token nobody has', '{unknown}', SEEN.invalid],
  ['an expired token', '{expired}', SEEN.expired],
  ['a token that is not valid yet', '{not_yet}', SEEN.notYet],
  ['a token too short to be one', 'hunter2', SEEN.invalid],
];

/** Paths that an upstream could read as another than the one judged. */
const CROOKED_PATHS: readonly string[] = [
  '/read/../dev/x',
  '/read/./x',
  '/read/..',
  '/..',
  '/read/%2e%2e/dev',
  '/read/%2E%2e/dev',
  '/read/.%2e/dev',
  '/read//x',
  '//read',
  '//other.test/read',
  '/read/x%2fy',
  '/read/x%5cy',
  '/read/x%00',
  '/read/x%0d%0ay',
  '/read/%252e%252e/dev',
  '/read/x%252fy',
  '/read;x=1/y',
  '/read/x%3by',
];

/**
 * Who comes to the gate and what becomes of them, on every way in. Each row is tried over each way that can carry it.
 */
export const STRANGERS: readonly Stranger[] = [
  // Whoever shows nothing.
  { name: 'no token', path: '/read', expect: SEEN.missing },
  {
    name: 'no token, to write',
    method: 'POST',
    path: '/write',
    body: '{"a":1}',
    ways: PLAIN_HTTP,
    expect: SEEN.missing,
  },
  { name: 'a token in the query', path: '/read?access_token={good}&token={good}', expect: SEEN.missing },
  { name: 'a token in a cookie', path: '/read', fields: [['Cookie', 'token={good}']], expect: SEEN.missing },
  { name: 'a token without a scheme', path: '/read', fields: [['Authorization', '{good}']], expect: SEEN.missing },
  { name: 'a token as Basic', path: '/read', fields: [['Authorization', 'Basic {good}']], expect: SEEN.missing },
  {
    name: 'a token of a proxy',
    path: '/read',
    fields: [['Proxy-Authorization', 'Bearer {good}']],
    expect: SEEN.missing,
  },
  {
    name: 'an identity of its own making',
    path: '/read',
    fields: [
      ['X-Auth-User', 'keeper'],
      ['X-Auth-Roles', 'operator'],
      ['X_Auth_User', 'keeper'],
    ],
    expect: SEEN.missing,
  },

  // Whoever shows something, in every place where it may be shown.
  ...CARRIED.flatMap(({ how, show }) =>
    SHOWN.map(([what, token, expect]): Stranger => ({
      name: `${what} in ${how}`,
      path: '/read',
      ...show(token),
      expect,
    })),
  ),
  {
    name: 'a token announced in lower case',
    path: '/read',
    fields: [['Authorization', 'bearer {good}']],
    expect: 'allowed',
  },
  {
    // Over HTTP/2 nghttp2 drops a field whose value ends with a blank.
    name: 'a scheme without a token',
    path: '/read',
    fields: bearer(''),
    ways: NOT_HTTP2,
    expect: SEEN.malformedCredential,
  },
  { name: 'two words for a token', path: '/read', fields: bearer('{good} {good}'), expect: SEEN.malformedCredential },
  {
    name: 'a token that is longer than any',
    path: '/read',
    fields: bearer('x'.repeat(8193)),
    expect: SEEN.malformedCredential,
  },
  {
    name: 'a subprotocol without a token',
    path: '/read',
    subprotocols: ['bearer'],
    ways: WEBSOCKET,
    expect: SEEN.malformedCredential,
  },

  // Whoever shows two things: which of them counted would be anybody's guess.
  {
    name: 'the same good token twice, in two fields',
    path: '/read',
    fields: [...as('good'), ['X-API-Key', '{good}']],
    expect: SEEN.twoCredentials,
  },
  {
    name: 'a bad token before a good one',
    path: '/read',
    fields: [['X-Guardbee-Token', '{unknown}'], ...as('good')],
    expect: SEEN.twoCredentials,
  },
  {
    name: 'two API keys',
    path: '/read',
    fields: [
      ['X-API-Key', '{good}'],
      ['X-API-Key', '{viewer}'],
    ],
    ways: NOT_HTTP2,
    expect: SEEN.twoCredentials,
  },
  {
    name: 'a field and a subprotocol',
    path: '/read',
    fields: as('good'),
    subprotocols: ['bearer', '{good}'],
    ways: WEBSOCKET,
    expect: SEEN.twoCredentials,
  },
  {
    name: 'two Authorization fields',
    path: '/read',
    fields: [...as('good'), ...as('good')],
    ways: NOT_HTTP2,
    expect: SEEN.twoAuthorizations,
  },
  {
    name: 'two Authorization fields on a public route',
    path: '/health',
    fields: [...as('good'), ...as('good')],
    ways: HTTP1,
    expect: SEEN.twoAuthorizations,
  },

  // Whoever is known and may not.
  {
    name: 'a viewer who writes',
    method: 'POST',
    path: '/write',
    fields: as('viewer'),
    ways: PLAIN_HTTP,
    expect: SEEN.notAllowed,
  },
  { name: 'a viewer at a control path', path: '/control', fields: as('viewer'), expect: SEEN.notAllowed },
  { name: 'an operator at a control path', path: '/control', fields: as('good'), expect: 'allowed' },
  { name: 'a viewer who reads', path: '/read', fields: as('viewer'), expect: 'allowed' },

  // Wherever there is nothing, or nothing any more.
  { name: 'a path nobody named', path: '/elsewhere', fields: as('good'), expect: SEEN.noRoute },
  { name: 'a path nobody named, without a token', path: '/elsewhere', expect: SEEN.noRoute },
  { name: 'the path of a route in capitals', path: '/READ', fields: as('good'), expect: SEEN.noRoute },
  { name: 'the path of a route with a slash', path: '/read/', fields: as('good'), expect: SEEN.noRoute },
  {
    name: 'a method the route does not have',
    method: 'DELETE',
    path: '/read',
    fields: as('good'),
    ways: PLAIN_HTTP,
    expect: SEEN.noRoute,
  },
  {
    name: 'HEAD where only GET is',
    method: 'HEAD',
    path: '/control',
    fields: as('good'),
    ways: PLAIN_HTTP,
    expect: SEEN.noRoute,
  },
  { name: 'a closed path', path: '/dev/x', fields: as('good'), expect: SEEN.denied },
  { name: 'a closed path itself', path: '/dev', fields: as('good'), expect: SEEN.denied },
  { name: 'a closed path in capitals', path: '/DeV/x', fields: as('good'), expect: SEEN.denied },
  { name: 'a closed path, encoded', path: '/%64ev/x', fields: as('good'), expect: SEEN.denied },
  { name: 'a closed path, without a token', path: '/dev/x', expect: SEEN.denied },

  // Whatever is open to all.
  { name: 'a public path', path: '/health', ways: PLAIN_HTTP, expect: 'allowed' },
  { name: 'a public path, its head', method: 'HEAD', path: '/health', ways: PLAIN_HTTP, expect: 'allowed' },
  {
    name: 'a public path with a token nobody has',
    path: '/health',
    fields: as('unknown'),
    ways: PLAIN_HTTP,
    expect: 'allowed',
  },
  { name: 'a public path, to write', method: 'POST', path: '/health', ways: PLAIN_HTTP, expect: SEEN.noRoute },

  // From where.
  { name: 'a wrong address', path: '/local', fields: as('good'), expect: SEEN.clientDenied },
  { name: 'the right address', path: '/local', fields: as('good'), from: '127.0.0.2', expect: 'allowed' },
  { name: 'the right address and no token', path: '/local', from: '127.0.0.2', expect: SEEN.missing },
  {
    name: 'a wrong address that names the right one',
    path: '/local',
    fields: [
      ...as('good'),
      ['X-Forwarded-For', '127.0.0.2'],
      ['X-Real-IP', '127.0.0.2'],
      ['Forwarded', 'for=127.0.0.2'],
    ],
    expect: SEEN.clientDenied,
  },
  {
    name: 'the right address behind a proxy',
    path: '/local',
    fields: [...as('good'), ['X-Forwarded-For', '127.0.0.2']],
    behindProxy: true,
    expect: 'allowed',
  },
  {
    name: 'a wrong address behind a proxy, which put a right one in front of it',
    path: '/local',
    fields: [...as('good'), ['X-Forwarded-For', '127.0.0.2, 192.0.2.1']],
    behindProxy: true,
    expect: SEEN.clientDenied,
  },
  {
    name: 'no address behind a proxy',
    path: '/local',
    fields: [...as('good'), ['X-Forwarded-For', 'unknown']],
    behindProxy: true,
    expect: SEEN.forwardedMalformed,
  },

  // To whom.
  { name: 'a wrong host', path: '/read', fields: as('good'), host: 'other.test', named: true, expect: SEEN.wrongHost },
  { name: 'an address for a host', path: '/read', fields: as('good'), named: true, expect: SEEN.wrongHost },
  {
    name: 'a host below the right one',
    path: '/read',
    fields: as('good'),
    host: 'a.bee.test',
    named: true,
    expect: SEEN.wrongHost,
  },
  {
    name: 'a wrong host on a public path',
    path: '/health',
    host: 'other.test',
    named: true,
    ways: PLAIN_HTTP,
    expect: SEEN.wrongHost,
  },
  { name: 'the right host', path: '/read', fields: as('good'), host: 'bee.test', named: true, expect: 'allowed' },
  {
    name: 'the right host in capitals, with a port',
    path: '/read',
    fields: as('good'),
    host: 'BEE.test:1234',
    named: true,
    expect: 'allowed',
  },
  {
    name: 'a host with a user',
    path: '/read',
    fields: as('good'),
    host: 'user@bee.test',
    named: true,
    ways: NOT_HTTP2,
    expect: SEEN.malformedHead,
  },
  {
    name: 'a host with a path',
    path: '/read',
    fields: as('good'),
    host: 'bee.test/x',
    named: true,
    ways: NOT_HTTP2,
    expect: SEEN.malformedHead,
  },
  { name: 'an empty host', path: '/read', fields: as('good'), host: '', ways: NOT_HTTP2, expect: SEEN.noHost },
  {
    name: 'two hosts',
    path: '/read',
    fields: [['Host', 'bee.test'], ['Host', 'bee.test'], ...as('good')],
    ways: NOT_HTTP2,
    expect: SEEN.twoHosts,
  },

  // What is crooked is refused before anybody asks who it is.
  ...CROOKED_PATHS.flatMap((path): Stranger[] => [
    { name: `the path ${path}`, path, fields: as('good'), expect: SEEN.ambiguousPath },
    { name: `the path ${path}, without a token`, path, expect: SEEN.ambiguousPath },
  ]),
  { name: 'a path with a broken encoding', path: '/read/%zz', fields: as('good'), expect: SEEN.malformedTarget },
  { name: 'a path that is not UTF-8', path: '/read/%c0%af', fields: as('good'), expect: SEEN.malformedTarget },
  { name: 'a fragment', path: '/read#x', fields: as('good'), expect: SEEN.malformedTarget },
  { name: 'a backslash', path: '/read\\..\\dev', fields: as('good'), expect: SEEN.ambiguousPath },
  {
    name: 'the star',
    method: 'OPTIONS',
    path: '*',
    fields: as('good'),
    ways: PLAIN_HTTP,
    expect: SEEN.malformedTarget,
  },
  {
    name: 'another host in the target',
    path: 'http://other.test/read',
    fields: as('good'),
    ways: ['HTTP/1.1', 'WebSocket'],
    expect: SEEN.twoHosts,
  },
  {
    name: 'a user in the target',
    path: 'http://user:pass@bee.test/read',
    host: 'bee.test',
    fields: as('good'),
    ways: ['HTTP/1.1', 'WebSocket'],
    expect: SEEN.malformedTarget,
  },
  {
    name: 'another scheme in the target',
    path: 'ftp://bee.test/read',
    host: 'bee.test',
    fields: as('good'),
    ways: NOT_HTTP2,
    expect: SEEN.malformedTarget,
  },
  {
    name: 'the same host in the target',
    path: 'http://bee.test/read',
    host: 'bee.test',
    fields: as('good'),
    ways: ['HTTP/1.1', 'WebSocket'],
    expect: 'allowed',
  },
  { name: 'TRACE', method: 'TRACE', path: '/read', fields: as('good'), ways: HTTP1, expect: SEEN.method },
  {
    name: 'a method of another protocol',
    method: 'BREW',
    path: '/read',
    fields: as('good'),
    ways: HTTP1,
    expect: SEEN.method,
  },
  {
    name: 'a method of another protocol',
    method: 'BREW',
    path: '/read',
    fields: as('good'),
    ways: ['HTTP/2'],
    expect: SEEN.method,
  },
  { name: 'CONNECT', method: 'CONNECT', path: 'bee.test:80', fields: as('good'), ways: HTTP1, expect: SEEN.method },
  {
    name: 'an upgrade to another protocol',
    path: '/read',
    fields: [
      ...as('good'),
      ['Connection', 'Upgrade, HTTP2-Settings'],
      ['Upgrade', 'h2c'],
      ['HTTP2-Settings', 'AAMAAABkAARAAAAAAAIAAAAA'],
    ],
    ways: HTTP1,
    expect: SEEN.upgrade,
  },
  {
    name: 'an upgrade to two protocols',
    path: '/read',
    fields: [...as('good'), ['Connection', 'Upgrade'], ['Upgrade', 'websocket, h2c']],
    ways: HTTP1,
    expect: SEEN.upgrade,
  },
  {
    name: 'an upgrade without a key',
    path: '/read',
    fields: [...as('good'), ['Connection', 'Upgrade'], ['Upgrade', 'websocket'], ['Sec-WebSocket-Version', '13']],
    ways: HTTP1,
    expect: SEEN.malformedUpgrade,
  },
  {
    name: 'an upgrade of an old version',
    path: '/read',
    fields: [
      ...as('good'),
      ['Connection', 'Upgrade'],
      ['Upgrade', 'websocket'],
      ['Sec-WebSocket-Version', '8'],
      ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
    ],
    ways: HTTP1,
    expect: SEEN.malformedUpgrade,
  },
  {
    name: 'an upgrade with a body',
    path: '/read',
    fields: [
      ...as('good'),
      ['Connection', 'Upgrade'],
      ['Upgrade', 'websocket'],
      ['Sec-WebSocket-Version', '13'],
      ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
    ],
    body: 'GET /read HTTP/1.1\r\nHost: h\r\n\r\n',
    ways: HTTP1,
    expect: SEEN.malformedUpgrade,
  },
  {
    name: 'an upgrade that writes',
    method: 'POST',
    path: '/write',
    fields: [
      ...as('good'),
      ['Connection', 'Upgrade'],
      ['Upgrade', 'websocket'],
      ['Sec-WebSocket-Version', '13'],
      ['Sec-WebSocket-Key', 'AAAAAAAAAAAAAAAAAAAAAA=='],
    ],
    ways: HTTP1,
    expect: SEEN.malformedUpgrade,
  },
  {
    name: 'an expectation',
    path: '/read',
    fields: [...as('good'), ['Expect', 'the-unexpected']],
    ways: PLAIN_HTTP,
    expect: SEEN.expectation,
  },
  {
    name: 'too many fields',
    path: '/read',
    fields: [
      ...as('good'),
      ...Array.from({ length: 101 }, (_, n): readonly [string, string] => [`X-${String(n)}`, 'x']),
    ],
    expect: SEEN.tooManyFields,
  },
  {
    name: 'a head that is too large',
    path: '/read',
    fields: [...as('good'), ['X-Large', 'x'.repeat(16 * 1024)]],
    expect: SEEN.headTooLarge,
  },
  {
    name: 'a target that is too large',
    path: `/read?${'x'.repeat(16 * 1024)}`,
    fields: as('good'),
    expect: SEEN.headTooLarge,
  },
];
