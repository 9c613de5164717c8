/**
 * The compiled policy: everything a request needs, decided when the file was read. Deeply frozen; a new file makes a
 * new Policy, and a request keeps the one it started with.
 */
import type { Sharing } from '../http/sharing.js';
import type { CidrSet } from '../net/cidr-set.js';
import type { Secret } from '../secret/secret.js';
import type { CertificateTable } from './certificate-table.js';
import type { ClientAuthority } from './client-authority.js';
import type { Demands } from './demands.js';
import type { Issue } from './issue.js';
import type { JwsAlgorithm } from './jws-algorithms.js';
import type { RouteTable } from './route-table.js';
import type { TokenTable } from './token-table.js';
import type { UpstreamTarget } from './upstream.js';
import type { VerificationKey } from './verification-key.js';

export interface Policy {
  /** First 12 hex digits of the SHA-256 of the policy's text: names the policy in logs. */
  readonly version: string;
  /** Path of the file, as the user wrote it. */
  readonly file: string;
  readonly listeners: readonly Listener[];
  /** Every upstream any route or listener uses, once. */
  readonly upstreams: readonly Upstream[];
  readonly upstreamExposure: UpstreamExposure;
  readonly authenticators: ReadonlyMap<string, Authenticator>;
  /** Role name → permissions. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  /** Absolute path of the private state directory. */
  readonly stateDir: string;
  /** Absolute paths of mounts in memory, below which files of root may be readable by others. */
  readonly secretMounts: readonly string[];
  /** Null: this process shares with nobody. */
  readonly redis: RedisSettings | null;
  readonly log: LogSettings;
  /** Null: no listener gets its certificates over ACME. */
  readonly acme: AcmeSettings | null;
  /** Null: no audit trail is written. */
  readonly audit: AuditSettings | null;
  readonly admin: Bind | null;
  /** How long open exchanges may go on after SIGTERM. */
  readonly drainMs: number;
  /** It is read again when its files change. */
  readonly watch: boolean;
  /** Processes that serve connections; `auto`: as many as there are cores. */
  readonly processes: number | 'auto';
  readonly tests: readonly PolicyTest[];
  /** Things worth saying at every start: `unsafe_…` keys, environment secrets, shadowed routes. */
  readonly warnings: readonly Issue[];
}

/** `denials_only`: what is permitted here is left out. */
export const AUDITED_AS = ['inference', 'model_access', 'data_deletion', 'denials_only'] as const;
export type AuditedAs = (typeof AUDITED_AS)[number];

export interface AuditSettings {
  /** Absolute path of the directory of the segments, which is one process's alone. */
  readonly dir: string;
  /** What becomes of requests that cannot be recorded. */
  readonly onFailure: 'deny' | 'allow';
  /** A checkpoint after so many records. */
  readonly checkpointRecords: number;
  /** And after this time where there were any. */
  readonly checkpointMs: number;
  /** Bytes after which a new segment begins; each day begins one too. */
  readonly segmentBytes: number;
  /** How long a segment is kept after its last record. `Infinity`: for ever. */
  readonly keepMs: number;
  /** Bytes of the file system that are not for requests. */
  readonly minFreeBytes: number;
  /** Null: the trail stays here. */
  readonly deliver: DeliverySettings | null;
}

/** The collector that is given a copy of the trail. */
export interface DeliverySettings {
  /** https, or http to this machine. */
  readonly url: string;
  readonly token: Secret | null;
  /** What guardbee shows of itself in TLS. */
  readonly certificate: CertificatePair | null;
  /** Who vouches for the collector. Null: the authorities that Node comes with. */
  readonly authority: ClientAuthority | null;
  /** A batch has at most so many records. */
  readonly batchRecords: number;
  /** And so many bytes. */
  readonly batchBytes: number;
  /** How long records wait for a batch to become full. */
  readonly batchMs: number;
  /** What must be on the disk before a request goes on must be with the collector too. */
  readonly wait: boolean;
}

/** Where in the policy's text something stands. */
export interface Position {
  readonly line: number;
  readonly column: number;
}

export interface Bind {
  /** IP literal, without brackets. */
  readonly host: string;
  readonly port: number;
  readonly loopback: boolean;
  /** The name of a socket that systemd opened there. Null: guardbee opens its own. */
  readonly socket: string | null;
  /** Of a unix socket, absolute; then the address is loopback and the port 0. */
  readonly path?: string;
  readonly position: Position;
}

export type Listener = HttpListener | RedirectListener | TcpListener;

export interface HttpListener {
  readonly type: 'http';
  readonly name: string;
  readonly position: Position;
  readonly bind: Bind;
  /** Lower case, no port, no trailing dot. Null: any host. */
  readonly hosts: ReadonlySet<string> | null;
  /** `local_identity`: who everyone on this machine is. Null: being local is nothing by itself. */
  readonly local: Holder | null;
  /** For programs of this machine that call a service elsewhere: every upstream is behind TLS, and no foreign page asks. */
  readonly outbound: boolean;
  /** Null: plain HTTP. */
  readonly tls: TlsSettings | null;
  /** The socket's peer must be in it. Null: any. */
  readonly allowFrom: CidrSet | null;
  /** Peers whose X-Forwarded-* are believed. */
  readonly trustedProxies: CidrSet;
  /** Trusted proxies begin each connection with a PROXY header; without one it is closed. */
  readonly proxyProtocol: boolean;
  readonly routes: RouteTable;
  readonly limits: ListenerLimits;
  readonly timeouts: ListenerTimeouts;
  /** Lower-case names of request fields that never reach the upstream. */
  readonly stripRequestHeaders: ReadonlySet<string>;
  /** Whose client certificates are asked for in the handshake. Null: none are. */
  readonly clientCertificates: MtlsAuthenticator | null;
  /** Null: no login here, and `/.guardbee/` is a path like any other. */
  readonly sessions: SessionSettings | null;
  /** What ambient credentials may be used from, besides the listener's own origins: `https://app.lan`. */
  readonly origins: ReadonlySet<string>;
  /** An open stream ends when the credential it began with does. Revocation always ends it. */
  readonly streamsEndAtExpiry: boolean;
  /** How answers to bad credentials are slowed. Null: they are not. */
  readonly throttle: ThrottleSettings | null;
  /** What is done about X-Deadline. Null: nothing, it is a field like any other. */
  readonly deadlines: DeadlineSettings | null;
  /** Null: what the upstream says about other origins is what is said. */
  readonly cors: CorsSettings | null;
}

/** Fields of answers are prepared here: they are the same for every request of an origin. */
export interface CorsSettings {
  /** What is said to whatever page asks. Null: only to those of `origins`. */
  readonly any: Sharing | null;
  /** In the form of `readOrigin`. */
  readonly origins: ReadonlyMap<string, Sharing>;
  /** What is said to all others. */
  readonly others: Sharing;
  readonly credentials: boolean;
  readonly methods: ReadonlySet<string>;
  /** Lower case. */
  readonly headers: ReadonlySet<string>;
  /** Besides those that every answer may have of guardbee. */
  readonly exposed: ReadonlySet<string>;
  readonly maxAgeMs: number;
  /** Of the answer to a preflight, besides Access-Control-Allow-Origin. */
  readonly preflight: readonly string[];
}

/** The JSON answer to somebody names a thing that is then theirs. */
export interface OwnsSettings {
  /** Where the name stands: members, one in the other. */
  readonly from: readonly string[];
  readonly forMs: number;
  /** Of one upstream; the oldest are forgotten first. */
  readonly most: number;
}

export interface DeadlineSettings {
  /** Form of the 504: a problem document, or that of rbee. */
  readonly answer: 'problem' | 'rbee';
}

export interface ThrottleSettings {
  /** Failures that cost nothing, for each address and each claimed name. */
  readonly after: number;
  /** Before the answer to the next one; twice as long for each one after that. */
  readonly delayMs: number;
  readonly mostMs: number;
}

/** Browser sessions of a listener: a credential shown once becomes a cookie. */
export interface SessionSettings {
  /** Whose credentials may log in; in the order that the login page offers them. */
  readonly loginWith: readonly LoginAuthenticator[];
  /** From login to the latest end, whatever is refreshed in between. */
  readonly lifetimeMs: number;
  readonly sameSite: 'strict' | 'lax';
  /** The first signs, all verify. Empty: one is derived from the key in the state directory. */
  readonly keys: readonly Secret[];
  /** What the login page calls the service. */
  readonly title: string;
  /** Where a session that was logged out of is remembered until it would have ended. */
  readonly revocation: RevocationSettings;
}

export interface RedirectListener {
  readonly type: 'redirect';
  readonly name: string;
  readonly position: Position;
  readonly bind: Bind;
  /** Lower case; the first is used when the request's host is none of them. Never empty. */
  readonly hosts: readonly string[];
  /** Port in the Location; 443 is left out of it. */
  readonly httpsPort: number;
  readonly allowFrom: CidrSet | null;
  readonly limits: ListenerLimits;
  readonly timeouts: ListenerTimeouts;
}

/** Passes bytes on, whatever they mean. */
export interface TcpListener {
  readonly type: 'tcp';
  readonly name: string;
  readonly position: Position;
  /** Of its first port. */
  readonly bind: Bind;
  /** That of `bind`, where there is only one. The n-th port leads to the n-th of the upstream. */
  readonly lastPort: number;
  /** Null: what comes in is passed on as it is. */
  readonly tls: TlsSettings | null;
  /** The socket's peer must be in it. Null: any. */
  readonly allowFrom: CidrSet | null;
  /** The client must be in it, after trusted proxies. Null: any. */
  readonly from: CidrSet | null;
  /** Peers that say in a PROXY header who connected to them. */
  readonly trustedProxies: CidrSet;
  readonly proxyProtocol: boolean;
  /** Version of the PROXY header that the upstream gets. Null: none. */
  readonly sendProxyProtocol: 'v1' | 'v2' | null;
  /** What the bytes are said to be; it encrypts and authenticates by itself. Null: nothing is said. */
  readonly inner: 'ssh' | null;
  readonly upstream: Upstream;
  /** Whose client certificates are asked for, and needed. Null: nobody is asked who they are. */
  readonly clientCertificates: MtlsAuthenticator | null;
  /** Any one of these names (permissions or roles) is enough. Empty exactly where nobody is asked. */
  readonly anyOf: readonly string[];
  readonly limits: Pick<ListenerLimits, 'connections' | 'connectionsPerAddress'>;
  readonly timeouts: Pick<ListenerTimeouts, 'handshakeMs' | 'headMs'>;
  /** A session ends when nothing was said in either direction for so long. `Infinity`: never for that. */
  readonly idleMs: number;
  /** The longest that a session may be open; `Infinity`: as long as it likes. */
  readonly maxMs: number;
  /** A session ends when the certificate that it began with does. */
  readonly endAtExpiry: boolean;
}

export type TlsSettings =
  | {
      readonly kind: 'files';
      /** The first answers when no name matches. Names are those of the certificate (SAN). Never empty. */
      readonly certificates: readonly CertificatePair[];
    }
  | {
      readonly kind: 'self_signed';
      /** Names and addresses for the certificate; made under `stateDir` when absent. Never empty. */
      readonly names: readonly string[];
    }
  | {
      readonly kind: 'acme';
      /** Lower case; a certificate for each. The first answers who names no server, once all have theirs. Never empty. */
      readonly hosts: readonly string[];
    };

/** In the order in which they are tried. */
export const ACME_CHALLENGES = ['tls-alpn-01', 'http-01'] as const;
export type AcmeChallenge = (typeof ACME_CHALLENGES)[number];

/** The authority that certificates are ordered of (RFC 8555). */
export interface AcmeSettings {
  /** https. */
  readonly directory: string;
  /** Whom it may write to. */
  readonly email: string | null;
  /** Those that a listener answers. Never empty. */
  readonly challenges: readonly AcmeChallenge[];
  /** Who vouches for it. Null: the authorities that Node comes with. */
  readonly authority: ClientAuthority | null;
  /** The key is base64url. */
  readonly externalAccount: { readonly keyId: string; readonly key: Secret } | null;
}

export interface CertificatePair {
  /** Absolute paths. */
  readonly certFile: string;
  readonly keyFile: string;
  readonly certPem: string;
  readonly key: Secret;
}

export interface ListenerLimits {
  /** Bytes of the request head (request line and fields). */
  readonly headBytes: number;
  readonly headFields: number;
  /** Open connections at once. */
  readonly connections: number;
  /** The same from one address (of IPv6 one /64), trusted proxies excepted. Null: no limit. */
  readonly connectionsPerAddress: number | null;
}

/** All in milliseconds; `Infinity` where the policy says `none`. */
export interface ListenerTimeouts {
  readonly handshakeMs: number;
  readonly headMs: number;
  /** Idle time between two pieces of a request body. */
  readonly bodyMs: number;
  /** Until the first byte of the upstream's answer. */
  readonly upstreamMs: number;
  readonly keepAliveMs: number;
}

export interface Upstream {
  /** Stable name for metrics: `127.0.0.1:7833`, `unix:/run/queen.sock`, `https://queen.lan:443`. */
  readonly name: string;
  /** `Host` as the upstream itself would write it in a Location, e.g. `127.0.0.1:7833`; empty for a socket. */
  readonly authority: string;
  readonly target: UpstreamTarget;
  /** False under `unsafe_remote_upstream` and where `tls` is: then the address is not checked at connect. */
  readonly mustBeLoopback: boolean;
  /** Of an outbound listener. Null: plain bytes go there. */
  readonly tls: UpstreamTls | null;
}

/** Who the other end of an outbound listener must be, and what it is shown. */
export interface UpstreamTls {
  /** DNS name or IP literal, for which its certificate must be (RFC 9525). */
  readonly serverName: string;
  /** Null: those that Node comes with. */
  readonly authority: ClientAuthority | null;
  /** What guardbee shows of itself. Null: nothing. */
  readonly certificate: CertificatePair | null;
  /** SHA-256 of the public key (SubjectPublicKeyInfo), base64: its own must be one of them. Null: any that is vouched for. */
  readonly spki: ReadonlySet<string> | null;
  /** The same for all that trust and show the same. */
  readonly digest: string;
}

export type UpstreamExposure =
  { readonly mode: 'refuse' } | { readonly mode: 'warn' } | { readonly mode: 'firewalled'; readonly why: string };

export interface Route {
  readonly name: string;
  /** Place in the listener's list: the lowest that matches wins. */
  readonly index: number;
  readonly listener: string;
  readonly position: Position;
  /** The pattern as written; logs print it as `http.route`. */
  readonly pattern: string;
  /** Upper case. Null: any method. */
  readonly methods: ReadonlySet<string> | null;
  readonly access: RouteAccess;
  /** The client (after trusted proxies) must be in it. Null: any. */
  readonly from: CidrSet | null;
  /** Null only where access is deny. */
  readonly upstream: Upstream | null;
  /** Credential to show the upstream: field name (lower case) and value. */
  readonly upstreamAuth: { readonly field: string; readonly value: Secret } | null;
  /** In the order written. Empty only where access is public or deny. */
  readonly authenticators: readonly Authenticator[];
  /** `%2F` in the path is allowed, as part of a segment. */
  readonly encodedSlash: boolean;
  /** False: whatever the method, a request here changes something (in rbee a GET runs the job). */
  readonly safe: boolean;
  readonly bodyMs: number;
  readonly upstreamMs: number;
  /** From the first to the last byte of an exchange, its bodies and streams included. `Infinity`: as long as it takes. */
  readonly wholeMs: number;
  /** The longest that an event stream or WebSocket may be open; Infinity: as long as it likes. */
  readonly streamMaxMs: number;
  /** What the audit trail calls requests here. Null: by what was decided. */
  readonly audit: AuditedAs | null;
  /** What is remembered of the answers here. Null: nothing. */
  readonly owns: OwnsSettings | null;
  /** Null: who asks is all that matters. */
  readonly demands: Demands | null;
}

export type RouteAccess =
  | { readonly kind: 'public' }
  | { readonly kind: 'deny' }
  /** Any one of these names (permissions or roles) is enough. Never empty. */
  | { readonly kind: 'require'; readonly anyOf: readonly string[] };

/**
 * Where a credential may be shown. Only enabled carriers count. `basic` is the Authorization field with the Basic
 * scheme; `address` is the client's own address, for those that can send nothing.
 */
export type Carrier = TokenCarrier | 'basic' | 'certificate' | 'cookie' | 'address';

/** Carriers of bearer tokens, API keys and JWTs. */
export type TokenCarrier = 'authorization' | 'x_api_key' | 'x_guardbee_token' | 'subprotocol';

export const TOKEN_CARRIERS: readonly TokenCarrier[] = [
  'authorization',
  'x_api_key',
  'x_guardbee_token',
  'subprotocol',
];

/** Carriers that a browser uses by itself, whoever made it ask: what CSRF lives on. */
export const AMBIENT_CARRIERS: ReadonlySet<Carrier> = new Set(['basic', 'certificate', 'cookie', 'address']);

export type Authenticator =
  BearerAuthenticator | JwtAuthenticator | MtlsAuthenticator | BasicAuthenticator | NetworkAuthenticator;

/** Those whose credentials somebody can type into a form: at most one `bearer` and one `basic`, and any `jwt`. */
export type LoginAuthenticator = BearerAuthenticator | JwtAuthenticator | BasicAuthenticator;

interface AuthenticatorBase {
  readonly name: string;
  /** For `WWW-Authenticate`; without quotes and backslashes. */
  readonly realm: string;
  readonly carriers: ReadonlySet<Carrier>;
}

export interface BearerAuthenticator extends AuthenticatorBase {
  readonly type: 'bearer';
  readonly tokens: TokenTable;
}

export interface JwtAuthenticator extends AuthenticatorBase {
  readonly type: 'jwt';
  readonly issuer: string;
  /** Any one of them in `aud` is enough. Never empty. */
  readonly audiences: readonly string[];
  /** JWS `alg` values; which of them a key may be used with is pinned by the key's own type. Never empty. */
  readonly algorithms: readonly JwsAlgorithm[];
  readonly keys: JwtKeys;
  readonly clockToleranceMs: number;
  /** Oldest a token may be, by `iat`, which is then mandatory. Null: as old as its `exp` lets it. */
  readonly maxAgeMs: number | null;
  /** Claim that names the identity; `sub` unless the policy says otherwise. A path of member names. */
  readonly nameFrom: readonly string[];
  /** Claims that hold roles and permissions, as a list or as one text with blanks. Null: none do. */
  readonly rolesFrom: readonly string[] | null;
  readonly permissionsFrom: readonly string[] | null;
  /** What the issuer calls a role → what the policy calls it; what is not in it is no role. Null: they are called the same. */
  readonly rolesMap: ReadonlyMap<string, string> | null;
  /** Role name → permissions, of the policy: names that are no role here are nobody's. */
  readonly roles: ReadonlyMap<string, readonly string[]>;
  /** Permissions that the policy knows: all that a claim can give. */
  readonly permissions: ReadonlySet<string>;
  /** Null: nothing is ever revoked. */
  readonly revocation: RevocationSettings | null;
}

export type JwtKeys =
  | { readonly kind: 'url'; readonly url: string }
  /** Read from a JWK Set (`jwks`), or from PEM (`public_key`). Empty only where files were not to be read. */
  | {
      readonly kind: 'file';
      readonly from: 'jwks' | 'public_key';
      /** Absolute path. */
      readonly file: string;
      readonly keys: readonly VerificationKey[];
    };

export interface RevocationSettings {
  readonly store: 'embedded' | 'shared';
  /** Of the shared store: `jwt:revoked:{jti}`. Null: guardbee's own form. Holds `{jti}`, and may hold `{issuer}`. */
  readonly key: string | null;
  /** What is said of a token when the store cannot be asked. */
  readonly onUnavailable: 'deny' | 'allow';
}

export interface MtlsAuthenticator extends AuthenticatorBase {
  readonly type: 'mtls';
  readonly authority: ClientAuthority;
  readonly identities: CertificateTable;
}

export interface BasicAuthenticator extends AuthenticatorBase {
  readonly type: 'basic';
  /** By user name, in Normalization Form C. */
  readonly users: ReadonlyMap<string, BasicUser>;
}

export interface BasicUser {
  /** bcrypt, `$2b$…`. Shown to nobody. */
  readonly hash: Secret;
  /** Base-2 logarithm of the rounds that the hash takes. */
  readonly cost: number;
  readonly holder: Holder;
}

export interface NetworkAuthenticator extends AuthenticatorBase {
  readonly type: 'network';
  /** Single hosts, by the canonical text of their address. */
  readonly hosts: ReadonlyMap<string, Holder>;
  /** `local_identity`: every client on this machine. Only on plain loopback listeners. */
  readonly local: Holder | null;
}

/** Who a password, a certificate or an address stands for. */
export interface Holder {
  readonly name: string;
  readonly roles: readonly string[];
  /** Role names, the permissions of those roles, and permissions of its own: what `require` is looked up in. */
  readonly grants: ReadonlySet<string>;
}

/** A reference to a secret: its kind (`file`, `credential`, `env`, `env_file`) and what it names; a file's path is absolute. */
export interface TokenSource {
  readonly kind: 'file' | 'credential' | 'env' | 'env_file';
  readonly name: string;
}

/** Who a token stands for. */
export interface TokenEntry {
  readonly name: string;
  readonly authenticator: string;
  /** 64 lowercase hex digits; `unread …` where the policy was asked without its files, which matches no token. */
  readonly sha256: string;
  /** Where the token itself stands, as the policy says it; null where the policy holds the digest. */
  readonly source: TokenSource | null;
  readonly roles: readonly string[];
  /** The token's own, besides those of its roles. */
  readonly permissions: readonly string[];
  /** Role names, the permissions of those roles, and the token's own permissions: what `require` is looked up in. */
  readonly grants: ReadonlySet<string>;
  /** Epoch milliseconds; -Infinity / Infinity where the policy says nothing. Valid while notBefore <= now < notAfter. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

export interface RedisSettings {
  /** `redis://`, `rediss://`; holds a password. */
  readonly url: Secret;
  /** Before every key of ours. */
  readonly prefix: string;
}

export interface LogSettings {
  readonly level: LogLevel;
  /** Absolute path; null: stdout. */
  readonly file: string | null;
  /** `auto`: text on a terminal, JSON elsewhere. */
  readonly format: 'auto' | 'json' | 'text';
}

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** One entry of `tests:`. */
export type PolicyTest = RequestTest | ConnectionTest;

/** A connection to a tcp listener, and what the gate must say of it. */
export interface ConnectionTest {
  readonly kind: 'connection';
  readonly name: string;
  readonly position: Position;
  readonly listener: string;
  /** Null: no certificate. */
  readonly as: RequestTest['as'];
  /** Address of the socket's peer. */
  readonly from: string;
  readonly expect: 'allow' | 'deny';
  /** When given, the reason code that must have been said. */
  readonly reason: string | null;
}

/** A request and what the gate must say of it. */
export interface RequestTest {
  readonly kind: 'request';
  readonly name: string;
  readonly position: Position;
  readonly listener: string;
  readonly method: string;
  readonly target: string;
  readonly host: string | null;
  /** Null: no credential. */
  readonly as: {
    readonly name: string;
    readonly roles: readonly string[];
    readonly permissions: readonly string[];
  } | null;
  /** Address of the socket's peer. */
  readonly from: string;
  /** Names and values in turn, besides Host and credentials. */
  readonly headers: readonly string[];
  /** As it is sent. Null: there is none. */
  readonly body: string | null;
  /** False: what the path names belongs to somebody else. */
  readonly owner: boolean;
  /** How often it is asked in one moment; what is said of the last one counts. */
  readonly times: number;
  readonly upgrade: boolean;
  readonly expect: { readonly kind: 'allow' } | { readonly kind: 'status'; readonly status: number };
  /** When given, the route that must have decided. */
  readonly route: string | null;
  /** When given, the reason code that must have been said. */
  readonly reason: string | null;
}
