/** A decision that an audit trail has recorded, and what another policy would say in its place. */
import { DENIALS, type DenialReason } from '../denial.js';
import { proveWith } from '../gate/decide.js';
import type { Prove } from '../gate/decide.js';
import { UNLIMITED } from '../gate/limit.js';
import { SUPPOSED_OWNERS } from '../gate/owners.js';
import { type SupposedRequest, type Supposition, suppose } from '../gate/policy-tests.js';
import type { Verdict } from '../gate/verdict.js';
import type { Authentication } from '../identity/authenticate.js';
import { POLICY_ALONE } from '../identity/provers.js';
import type { AuditRecord } from '../observe/audit/record.js';
import type {
  Authenticator,
  BearerAuthenticator,
  Carrier,
  HttpListener,
  Policy,
  Route,
  TokenEntry,
} from '../policy/policy.js';

/** Why it is not known what the other policy would have said. */
export const UNKNOWN = {
  own_page: 'guardbee itself answered, or would',
  momentary: 'it was refused for what was the matter at the moment, not by a rule',
  limits: 'it was refused by a limit, and what was counted then is not known',
  resource_redacted: 'the path was masked or cut',
  value_unknown: 'a value in the path broke a check, and such values are not recorded',
  host_unknown: 'the Host was masked or cut',
  caller_unknown: 'nobody was asked who it is, and this policy would ask',
  permissions_unknown: "what its token allows besides its roles' is not recorded",
  query_unknown: 'this policy checks the query, which is not recorded',
  fields_unknown: 'it turns on header fields, which are not recorded',
  body_unknown: 'it turns on the body, which is not recorded',
  owner_unknown: 'it turns on who made a thing, which is not recorded',
} as const;
export type Unknown = keyof typeof UNKNOWN;

/** Ends a question whose answer is not known; the gate itself knows permits and refusals alone. */
class NotKnown extends Error {
  override readonly name = 'NotKnown';
  readonly why: Unknown;

  constructor(why: Unknown) {
    super(why);
    this.why = why;
  }
}

/** What a refusal of the past says of the next one: ask; any policy says the same; or why it cannot be known. */
const PAST: Readonly<Partial<Record<DenialReason, 'alike' | Unknown>>> = {
  malformed_request: 'alike',
  malformed_head: 'alike',
  malformed_target: 'alike',
  ambiguous_framing: 'alike',
  host_missing: 'alike',
  host_ambiguous: 'alike',
  authorization_repeated: 'alike',
  method_unsupported: 'alike',
  upgrade_malformed: 'alike',
  version_unsupported: 'alike',
  expectation_unsupported: 'alike',
  head_timeout: 'alike',
  head_too_large: 'fields_unknown',
  too_many_fields: 'fields_unknown',
  forwarded_malformed: 'fields_unknown',
  cross_site: 'fields_unknown',
  cors_refused: 'fields_unknown',
  deadline_malformed: 'fields_unknown',
  deadline_passed: 'fields_unknown',
  body_timeout: 'momentary',
  body_incomplete: 'momentary',
  body_budget_exhausted: 'momentary',
  credential_unverifiable: 'momentary',
  limits_unavailable: 'momentary',
  audit_unavailable: 'momentary',
  draining: 'momentary',
  connections_exhausted: 'momentary',
  connections_per_address_exhausted: 'momentary',
  login_malformed: 'own_page',
  login_too_large: 'own_page',
  login_type_unsupported: 'own_page',
  session_too_large: 'own_page',
  logout_failed: 'own_page',
  own_page_unknown: 'own_page',
  own_page_method: 'own_page',
};

const OF_LIMITS: ReadonlySet<string> = new Set([
  'rate_exceeded',
  'quota_exceeded',
  'concurrency_exceeded',
  'streams_exceeded',
]);
/** Somebody was asked, and what was shown proved nothing. */
const OF_CREDENTIALS: ReadonlySet<string> = new Set([
  'credential_invalid',
  'credential_expired',
  'credential_not_yet_valid',
  'credential_malformed',
  'credential_ambiguous',
  'credential_revoked',
]);
/** What is said once the head was looked at. */
const OF_BODIES: ReadonlySet<string> = new Set([
  'body_too_large',
  'body_type_unsupported',
  'body_encoding_unsupported',
  'body_malformed',
  'body_ambiguous',
  'operation_unknown',
]);

export interface PastDecision {
  readonly record: AuditRecord;
  readonly verdict: Verdict;
  /** Bytes of the request's body; null: not recorded. */
  readonly bodyBytes: number | null;
}

export type Replayed =
  { readonly known: true; readonly verdict: Verdict } | { readonly known: false; readonly why: Unknown };

/**
 * The decision that a record tells of. Null: it tells of none.
 * @param ended the record of the end, where the permission had one of its own
 */
export function pastDecision(record: AuditRecord, ended: AuditRecord | null): PastDecision | null {
  const { result, reason, listener, action, route, upstream, who } = record;
  // Connections and our own life have no action.
  if (listener === undefined || action === undefined) return null;
  const bodyBytes = (ended ?? record).bytes_in ?? null;
  if (result === 'denied') {
    if (reason === undefined || !isDenialReason(reason)) return null;
    return { record, verdict: { said: 'denied', route: route ?? null, reason }, bodyBytes };
  }
  if (result === 'answered') return { record, verdict: { said: 'answered', by: 'session_page' }, bodyBytes };
  if (result === 'noted' || route === undefined) return null;
  const told = who === undefined ? null : { name: who, roles: record.roles ?? [] };
  return {
    record,
    verdict: { said: 'permitted', route, upstream: (ended ?? record).upstream ?? upstream ?? '', who: told },
    bodyBytes,
  };
}

function isDenialReason(text: string): text is DenialReason {
  return Object.hasOwn(DENIALS, text);
}

/** Masked, or shortened. */
function isWhole(text: string): boolean {
  return !text.includes('[redacted') && !text.includes('…');
}

/** What the policy would say of it now, at the moment of then. Limits are not counted. */
export function replay(past: PastDecision, policy: Policy): Replayed {
  const { verdict, record } = past;
  if (verdict.said === 'answered') return no('own_page');
  const reason = verdict.said === 'denied' ? verdict.reason : null;
  const said = reason === null ? undefined : PAST[reason];
  if (said === 'alike') return { known: true, verdict };
  if (said !== undefined) return no(said);
  const { resource, host } = record;
  if (record.detail?.['in'] === 'path') return no('value_unknown');
  if (resource?.startsWith('/') !== true || !isWhole(resource)) return no('resource_redacted');
  if (host !== undefined && !isWhole(host)) return no('host_unknown');
  const listener = policy.listeners.find((one) => one.name === record.listener);
  if (listener?.type !== 'http') throw new TypeError('whoever asks looks for the listener first');
  try {
    return judged(past, listener, policy, reason);
  } catch (error) {
    if (error instanceof NotKnown) return no(error.why);
    throw error;
  }
}

function no(why: Unknown): Replayed {
  return { known: false, why };
}

function judged(past: PastDecision, listener: HttpListener, policy: Policy, reason: DenialReason | null): Replayed {
  const { record, bodyBytes } = past;
  const { client, peer } = record;
  const forwarded = client !== undefined && peer !== undefined && client !== peer ? ['x-forwarded-for', client] : [];
  const hasBody = bodyBytes !== null && bodyBytes > 0 && record.upgrade !== true;
  const length = hasBody ? ['content-length', String(bodyBytes)] : [];
  const request: SupposedRequest = {
    listener: listener.name,
    method: record.action ?? '',
    target: record.resource ?? '/',
    host: record.host ?? null,
    from: peer ?? client ?? '',
    upgrade: record.upgrade === true,
    headers: [...forwarded, ...length],
    as: null,
  };
  const counted = OF_LIMITS.has(reason ?? '');
  const said = suppose(policy, request, Date.parse(record.time), {
    prove: asThen(past, policy),
    limiter: counted
      ? {
          count: unknown('limits'),
          take: unknown('limits'),
          giveBack: () => undefined,
        }
      : UNLIMITED,
    owners: { ...SUPPOSED_OWNERS, isOwner: reason === 'not_owner' ? () => false : unknown('owner_unknown') },
    holdBody: unknown('body_unknown'),
  });
  if (said.kind === 'unanswerable') throw new NotKnown('fields_unknown');
  const route = listener.routes.routes.find(({ name }) => name === said.route) ?? null;
  if (route !== null) lookForUnknown(said, route, past);
  return {
    known: true,
    verdict:
      said.kind === 'allowed'
        ? { said: 'permitted', route: said.route, upstream: said.upstream, who: said.identity }
        : { said: 'denied', route: said.route, reason: said.reason },
  };
}

function unknown(why: Unknown): () => never {
  return () => {
    throw new NotKnown(why);
  };
}

/** The gate was asked about a request without a query, without fields and without a body: where that decided, nothing is known. */
function lookForUnknown(said: Exclude<Supposition, { kind: 'unanswerable' }>, route: Route, past: PastDecision): void {
  const { record, bodyBytes } = past;
  const reason = said.kind === 'refused' ? said.reason : null;
  const { demands } = route;
  if (reason === 'permission_missing') {
    const by = route.authenticators.find(({ name }) => name === record.authenticator);
    const cut = (record.roles ?? []).length >= MOST_ROLES;
    if (cut || (by?.type === 'jwt' && by.permissionsFrom !== null)) throw new NotKnown('permissions_unknown');
  }
  const wrongInPath = said.kind === 'refused' && said.invalid?.place === 'path';
  if (wrongInPath || demands === null) return;
  const ofHead = reason === 'field_invalid' || reason === 'query_ambiguous';
  if (reason !== null && !ofHead && !OF_BODIES.has(reason) && reason !== 'upgrade_unsupported') return;
  const { head, body } = demands;
  if (head !== null && head.query.length > 0 && record.query === true) throw new NotKnown('query_unknown');
  if (head !== null && head.headers.length > 0) throw new NotKnown('fields_unknown');
  if (ofHead || body === null) return;
  // Nothing but the length is known, and that only of what was let through.
  if (body.json !== null || (bodyBytes === null && !BODILESS.has(record.action ?? ''))) {
    throw new NotKnown('body_unknown');
  }
}

/** As many as a record has. */
export const MOST_ROLES = 16;
const BODILESS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'DELETE']);

/** Who it was then, as the policy knows them now. */
function asThen({ record, verdict }: PastDecision, policy: Policy): Prove {
  const byAddress = proveWith(POLICY_ALONE);
  const reason = verdict.said === 'denied' ? verdict.reason : null;
  const { who, credential } = record;
  if (who === undefined) {
    if (reason === 'credential_missing') return byAddress;
    if (reason !== null && OF_CREDENTIALS.has(reason)) {
      return (asked, _caller, nowMs) => {
        // A token that only this policy knows.
        const known = credential === undefined ? null : tokenOf(asked.route, credential, null, nowMs);
        return known ?? { ok: false, reason, fingerprint: credential ?? null, attempt: null };
      };
    }
    // Nobody was asked: on a public route, or because it was refused before.
    return unknown('caller_unknown');
  }
  // Only an address proves somebody without showing anything.
  if (credential === undefined) return byAddress;
  return (asked, _caller, nowMs) =>
    tokenOf(asked.route, credential, null, nowMs) ??
    namesake(asked.route, record, policy, nowMs) ??
    ({ ok: false, reason: 'credential_invalid', fingerprint: credential, attempt: null } as const);
}

/** @param name null: the token itself, by its fingerprint */
function tokenOf(route: Route, credential: string, name: string | null, nowMs: number): Authentication | null {
  let late: Authentication | null = null;
  for (const one of route.authenticators) {
    if (one.type !== 'bearer') continue;
    for (const entry of tokensOf(one).get(name ?? `#${credential}`) ?? []) {
      const { roles, grants, notAfterMs, notBeforeMs } = entry;
      if (nowMs >= notBeforeMs && nowMs < notAfterMs) {
        return proved(one, 'authorization', credential, { name: entry.name, roles, grants });
      }
      const reason = nowMs < notBeforeMs ? 'credential_not_yet_valid' : 'credential_expired';
      late = { ok: false, reason, fingerprint: credential, attempt: null };
    }
  }
  return late;
}

const indexes = new WeakMap<BearerAuthenticator, ReadonlyMap<string, readonly TokenEntry[]>>();

/** By name, and by `#` and fingerprint; a name has no such sign. */
function tokensOf(by: BearerAuthenticator): ReadonlyMap<string, readonly TokenEntry[]> {
  const known = indexes.get(by);
  if (known !== undefined) return known;
  const index = new Map<string, TokenEntry[]>();
  for (const entry of by.tokens.entries()) {
    for (const key of [entry.name, `#${entry.sha256.slice(0, 6)}`]) {
      const there = index.get(key);
      if (there === undefined) index.set(key, [entry]);
      else there.push(entry);
    }
  }
  indexes.set(by, index);
  return index;
}

/** Whoever has the name with the same authenticator: tokens are exchanged, and sessions have credentials of their own. */
function namesake(route: Route, record: AuditRecord, policy: Policy, nowMs: number): Authentication | null {
  const { who = '', credential = '', roles = [] } = record;
  const by = route.authenticators.find(({ name }) => name === record.authenticator);
  if (by === undefined) return null;
  if (!isWhole(who)) throw new NotKnown('caller_unknown');
  switch (by.type) {
    case 'bearer':
      return tokenOf({ ...route, authenticators: [by] }, credential, who, nowMs);
    case 'basic': {
      const user = [...by.users.values()].find(({ holder }) => holder.name === who);
      return user === undefined ? null : proved(by, 'basic', credential, user.holder);
    }
    case 'mtls': {
      const holder = by.identities.entries().find((one) => one.holder.name === who)?.holder;
      return holder === undefined ? null : proved(by, 'certificate', credential, holder);
    }
    case 'jwt': {
      // A role that the policy does not have is nobody's.
      const ours = roles.filter((role) => by.roles.has(role));
      const grants = new Set([...ours, ...ours.flatMap((role) => policy.roles.get(role) ?? [])]);
      return proved(by, 'authorization', credential, { name: who, roles: ours, grants });
    }
    case 'network':
      return null;
  }
}

function proved(
  by: Authenticator,
  carrier: Carrier,
  fingerprint: string,
  holder: { readonly name: string; readonly roles: readonly string[]; readonly grants: ReadonlySet<string> },
): Authentication {
  const { name, roles, grants } = holder;
  const expiresAtMs = Number.POSITIVE_INFINITY;
  return {
    ok: true,
    carrier,
    fingerprint,
    identity: { name, roles, grants, authenticator: by.name, expiresAtMs, revocables: [] },
  };
}
