import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';
import { isLoopback, parseAddress } from '../net/address.js';
import type {
  Authenticator,
  BasicAuthenticator,
  BearerAuthenticator,
  Carrier,
  HttpListener,
  JwtAuthenticator,
  MtlsAuthenticator,
  NetworkAuthenticator,
  Route,
  SessionSettings,
} from '../policy/policy.js';
import type { Caller } from './caller.js';
import { type Credential, readCredential } from './credential.js';
import type { Identity } from './identity.js';
import { claimedIssuer, looksLikeJwt } from './jwt-shape.js';
import { proveCertificate } from './mtls.js';
import { proveAddress } from './network.js';
import type { Proof, Provers } from './provers.js';
import { sessionCookieName } from './session-cookie.js';
import { proveToken } from './static-token.js';

/** What came of asking who it is. `fingerprint` is there whenever a credential was readable, good or bad. */
export type Authentication =
  | { readonly ok: true; readonly identity: Identity; readonly carrier: Carrier; readonly fingerprint: string | null }
  | {
      readonly ok: false;
      readonly reason: DenialReason;
      readonly fingerprint: string | null;
      readonly attempt: Attempt | null;
    };

/**
 * A credential that did not prove itself and that somebody may be guessing. What browsers and TLS show by themselves
 * (cookies, certificates) is signed, cannot be guessed, and comes with every picture of a page: none of those is one.
 */
export interface Attempt {
  /** Stands for the name that was claimed; null where the credential claims none. */
  readonly claimed: string | null;
}

/** A request that was admitted, and who brought it. */
export interface Asked {
  readonly listener: HttpListener;
  readonly route: Route;
  readonly message: Message;
  /** Canonical address of the client, after trusted proxies. */
  readonly client: string;
}

/** What a route takes, sorted by what each credential needs; computed once for a route. */
interface Plan {
  readonly carriers: ReadonlySet<Carrier>;
  readonly cookieName: string | null;
  readonly bearer: ReadonlyMap<Carrier, BearerAuthenticator>;
  readonly jwt: ReadonlyMap<Carrier, readonly JwtAuthenticator[]>;
  readonly basic: BasicAuthenticator | null;
  readonly mtls: MtlsAuthenticator | null;
  /** Two at most: those of the list, and `local_identity`. */
  readonly networks: readonly NetworkAuthenticator[];
}

const plans = new WeakMap<Route, Plan>();

function planFor(listener: HttpListener, route: Route): Plan {
  const known = plans.get(route);
  if (known !== undefined) return known;
  const carriers = new Set(route.authenticators.flatMap((one) => [...one.carriers]));
  const { sessions } = listener;
  const loginHere = sessions?.loginWith.some((one) => route.authenticators.includes(one)) === true;
  if (loginHere) carriers.add('cookie');
  const bearer = new Map<Carrier, BearerAuthenticator>();
  for (const one of route.authenticators) {
    if (one.type !== 'bearer') continue;
    for (const carrier of one.carriers) if (!bearer.has(carrier)) bearer.set(carrier, one);
  }
  const jwt = new Map<Carrier, JwtAuthenticator[]>();
  for (const one of route.authenticators) {
    if (one.type !== 'jwt') continue;
    for (const carrier of one.carriers) jwt.set(carrier, [...(jwt.get(carrier) ?? []), one]);
  }
  const only = <T extends Authenticator['type']>(type: T): Extract<Authenticator, { type: T }> | null =>
    route.authenticators.find((one): one is Extract<Authenticator, { type: T }> => one.type === type) ?? null;
  const plan: Plan = {
    carriers,
    cookieName: loginHere ? sessionCookieName(listener.name) : null,
    bearer,
    jwt,
    basic: only('basic'),
    mtls: only('mtls'),
    networks: route.authenticators.filter((one) => one.type === 'network'),
  };
  plans.set(route, plan);
  return plan;
}

const MISSING: Authentication = { ok: false, reason: 'credential_missing', fingerprint: null, attempt: null };

/**
 * Who is it. Carrier and shape of the credential pick one authenticator, and that one's word is final: a bad credential
 * never falls through to another, nor to the certificate or address that came with it, nor to anonymous. At once where
 * the answer is known, a promise where it must be found out.
 */
export function authenticate(
  asked: Asked,
  caller: Caller,
  nowMs: number,
  provers: Provers,
): Authentication | Promise<Authentication> {
  const plan = planFor(asked.listener, asked.route);
  const read = readCredential(asked.message, plan.carriers, plan.cookieName);
  if (read.kind === 'refused') return { ok: false, reason: read.reason, fingerprint: null, attempt: null };
  if (read.kind === 'none') return withoutMessage(plan, asked, caller, nowMs);
  const { credential } = read;
  const proof = prove(plan, asked, credential, nowMs, provers);
  return proof instanceof Promise ? proof.then((late) => said(late, credential)) : said(proof, credential);
}

function said(proof: Proof, { carrier, fingerprint }: Credential): Authentication {
  return proof.ok
    ? { ok: true, identity: proof.identity, carrier, fingerprint }
    : {
        ok: false,
        reason: proof.reason,
        fingerprint,
        attempt: carrier === 'cookie' ? null : { claimed: proof.claimed ?? null },
      };
}

function prove(
  plan: Plan,
  asked: Asked,
  credential: Credential,
  nowMs: number,
  provers: Provers,
): Proof | Promise<Proof> {
  const { carrier } = credential;
  switch (carrier) {
    case 'cookie':
      return provers.session(asked.listener, credential, nowMs);
    case 'basic':
      return plan.basic === null ? NOBODY : provers.basic(plan.basic, credential, asked.client, nowMs);
    case 'certificate':
    case 'address':
      return NOBODY;
    case 'authorization':
    case 'x_api_key':
    case 'x_guardbee_token':
    case 'subprotocol':
      return proveText(plan.bearer.get(carrier), plan.jwt.get(carrier) ?? [], credential, nowMs, provers);
  }
}

/** A token or a JWT: its shape says which. */
function proveText(
  keys: BearerAuthenticator | undefined,
  issuers: readonly JwtAuthenticator[],
  credential: Credential,
  nowMs: number,
  provers: Provers,
): Proof | Promise<Proof> {
  if (keys !== undefined && (issuers.length === 0 || !looksLikeJwt(credential))) {
    return proveToken(keys, credential, nowMs);
  }
  const [only] = issuers;
  const issuer = issuers.length === 1 ? only : issuers.find((one) => one.issuer === claimedIssuer(credential));
  return issuer === undefined ? NOBODY : provers.jwt(issuer, credential, nowMs);
}

/**
 * Who wants a session: the same judges as for a request, of those that may log in.
 *
 * @param client canonical address, after trusted proxies
 * @param typed into the login page, where no carrier picks; else the credential came where an enabled carrier has it
 */
export function authenticateLogin(
  settings: SessionSettings,
  credential: Credential,
  client: string,
  typed: boolean,
  nowMs: number,
  provers: Provers,
): Authentication | Promise<Authentication> {
  const judges = settings.loginWith.filter((one) => typed || one.carriers.has(credential.carrier));
  const basic = judges.find((one) => one.type === 'basic');
  const keys = judges.find((one) => one.type === 'bearer');
  const issuers = judges.filter((one) => one.type === 'jwt');
  const proof =
    credential.carrier !== 'basic'
      ? proveText(keys, issuers, credential, nowMs, provers)
      : basic === undefined
        ? NOBODY
        : provers.basic(basic, credential, client, nowMs);
  return proof instanceof Promise ? proof.then((late) => said(late, credential)) : said(proof, credential);
}

/** Where a program that logs in without the page may show what it has. */
export function loginCarriers(settings: SessionSettings): ReadonlySet<Carrier> {
  return new Set(settings.loginWith.flatMap((one) => [...one.carriers]));
}

const NOBODY: Proof = { ok: false, reason: 'credential_invalid' };

/** No credential in the message: the connection's own may speak. */
function withoutMessage(plan: Plan, asked: Asked, caller: Caller, nowMs: number): Authentication {
  if (plan.mtls !== null && caller.certificate !== null) {
    const fingerprint = caller.certificate.sha256.slice(0, 6);
    const proof = proveCertificate(plan.mtls, caller.certificate, nowMs);
    return proof.ok
      ? { ok: true, identity: proof.identity, carrier: 'certificate', fingerprint }
      : { ok: false, reason: proof.reason, fingerprint, attempt: null };
  }
  for (const network of plan.networks) {
    const proof = proveAddress(network, asked.client, () => isLocal(asked, caller));
    if (proof?.ok === true) return { ok: true, identity: proof.identity, carrier: 'address', fingerprint: null };
  }
  return MISSING;
}

/**
 * Does the request come from a program on this machine. One that says it was passed on does not, unless a proxy that
 * the policy trusts says that its client is local: somebody else's proxy here may speak for the whole world.
 */
function isLocal({ listener, message, client }: Asked, caller: Caller): boolean {
  const from = caller.proxied?.source.address ?? caller.address;
  if (message.forwardedFor !== null && !listener.trustedProxies.has(from)) return false;
  const address = parseAddress(client);
  return address !== null && isLoopback(address);
}
