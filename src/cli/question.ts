import { DENIALS, type DenialReason } from '../denial.js';
import { type SupposedRequest, type Supposition, suppose } from '../gate/policy-tests.js';
import type { Verdict } from '../gate/verdict.js';
import { either, show } from '../policy/found.js';
import { ISSUES } from '../policy/issue.js';
import type { HttpListener, Policy, Route, TokenEntry } from '../policy/policy.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import { EXIT, Ending } from './exit-code.js';
import { type Explanation, type Found, canonical, describe, routeOf } from './explanation.js';
import type { PolicySource } from './policy-source.js';
import {
  type Caller,
  allHolders,
  callerOf,
  guess,
  nobodyOfTheName,
  roleNames,
  tokensNamed,
} from './supposed-caller.js';
import type { Voice } from './voice.js';

/** A request that is only supposed, as it is asked of one policy or of two. */
export interface Question {
  /** Null: the only one. */
  readonly listener: string | null;
  readonly method: string;
  readonly target: string;
  readonly host: string | null;
  /** Null: from this machine. */
  readonly from: string | null;
  /** Names and values in turn. */
  readonly headers: readonly string[];
  readonly body: string | null;
  readonly upgrade: boolean;
  /** Null: nobody of the policy. */
  readonly as: string | null;
  readonly roles: readonly string[];
  readonly permissions: readonly string[];
}

/** A policy, read as far as a question needs it. */
export interface Rules {
  readonly source: PolicySource;
  readonly policy: Policy;
  /** What kept the secret files from being read; null where they were read, or were not needed. */
  readonly unread: Parameters<typeof renderIssues>[0] | null;
}

export interface Answer {
  readonly explanation: Explanation;
  readonly verdict: Verdict;
}

/** The rules do not need the secrets; a token's name does. A number is the exit code, and then it has been said why. */
export async function readRules(source: PolicySource, as: string | null, voice: Voice): Promise<Rules | number> {
  const whole = as === null ? null : await source.load();
  if (whole?.ok === true) return { source, policy: whole.policy, unread: null };
  const rules = await source.load({ skipSecretFiles: true });
  if (rules.ok) {
    const secrets = whole === null ? [] : whole.issues;
    return { source, policy: rules.policy, unread: secrets.length === 0 ? null : secrets };
  }
  const issues = whole?.issues.some((issue) => ISSUES[issue.code] !== 'secret') === true ? whole.issues : rules.issues;
  voice.err(renderIssues(issues));
  return exitCodeFor(issues);
}

/** Is there anybody of that name, as far as the policy could be read. */
function knows({ policy }: Rules, name: string): boolean {
  return tokensNamed(policy, name).length > 0 || allHolders(policy).some(({ holder }) => holder.name === name);
}

/**
 * Refuses a question that makes no sense to any of the policies: names that one of them knows are a difference between
 * them. A number is the exit code.
 */
export function checkNames(
  { as, roles }: Pick<Question, 'as' | 'roles'>,
  all: readonly [Rules, ...Rules[]],
  voice: Voice,
): number | null {
  const [first] = all;
  if (as !== null && !all.some((rules) => knows(rules, as))) {
    const unread = all.find((rules) => rules.unread !== null)?.unread ?? null;
    if (unread === null) throw new Ending(EXIT.usage, nobodyOfTheName(first.policy, as));
    voice.err(renderIssues(unread));
    voice.err(`guardbee: ${show(as)} may be in a file that could not be read: say --role ROLE instead`);
    return exitCodeFor(unread);
  }
  const known = new Set(all.flatMap(({ policy }) => [...roleNames(policy)]));
  for (const role of roles) {
    if (!known.has(role)) throw new Ending(EXIT.usage, `there is no role ${show(role)}${guess(role, known)}`);
  }
  return null;
}

/** What the policy says, and why. @throws Ending where the question makes no sense */
export async function answer(question: Question, { policy, source }: Rules): Promise<Answer> {
  const listener = listenerFor(policy, question.listener);
  const { as, method } = question;
  const request: SupposedRequest = {
    listener: listener.name,
    method: /^[a-z]+$/.test(method) ? method.toUpperCase() : method,
    target: question.target,
    host: question.host,
    from: question.from ?? '127.0.0.1',
    headers: question.headers,
    body: question.body,
    upgrade: question.upgrade,
    as: null,
  };
  const now = Date.now();
  const tokens = as === null ? [] : tokensNamed(policy, as);
  const holders = as === null ? [] : allHolders(policy).filter(({ holder }) => holder.name === as);
  const caller =
    as !== null && tokens.length + holders.length === 0
      ? ({ kind: 'stranger', name: as } as const)
      : callerOf({ role: question.roles, permission: question.permissions }, tokens, holders, listener, now);
  const found = judge(policy, listener, request, caller, now);
  const explanation = await describe(policy, listener, request, found, question.from !== null, source);
  return { explanation, verdict: verdictOf(found.said) };
}

function verdictOf(said: Found['said']): Verdict {
  return said.kind === 'allowed'
    ? { said: 'permitted', route: said.route, upstream: said.upstream, who: said.identity }
    : { said: 'denied', route: said.route, reason: said.reason };
}

/** @param name null: the only one */
function listenerFor(policy: Policy, name: string | null): HttpListener {
  const http = policy.listeners.filter((listener) => listener.type === 'http');
  const names = http.map((listener) => listener.name);
  const [only] = http;
  if (name === null) {
    if (only !== undefined && http.length === 1) return only;
    throw new Ending(
      EXIT.usage,
      http.length === 0
        ? 'the policy has no listener that forwards'
        : `which listener? Say --listener ${either(names)}`,
    );
  }
  const found = http.find((listener) => listener.name === name);
  if (found !== undefined) return found;
  throw new Ending(
    EXIT.usage,
    policy.listeners.some((listener) => listener.name === name)
      ? policy.listeners.some((listener) => listener.name === name && listener.type === 'tcp')
        ? `listener ${show(name)} is of type tcp and reads no requests: leave METHOD and PATH out`
        : `listener ${show(name)} only redirects`
      : `there is no listener ${show(name)}${guess(name, names)}; there ${names.length === 1 ? 'is' : 'are'} ${names.join(', ')}`,
  );
}

function judge(
  policy: Policy,
  listener: HttpListener,
  request: SupposedRequest,
  caller: Exclude<Caller, { kind: 'known' }>,
  now: number,
): Found {
  const asNobody = answered(suppose(policy, request, now));
  const { identity } = asNobody;
  const asksWho = identity !== null || (asNobody.kind === 'refused' && asNobody.reason === 'credential_missing');
  if (caller.kind === 'nobody' && identity !== null) {
    return { said: asNobody, caller: { kind: 'known', identity, from: canonical(request.from) } };
  }
  if (!asksWho || caller.kind === 'nobody') return { said: asNobody, caller };
  const reason = notTaken(caller, routeOf(listener, asNobody.route), now);
  if (reason !== null) {
    const { route, line } = asNobody;
    return {
      said: { kind: 'refused', route, line, reason, status: DENIALS[reason].status, identity: null, invalid: null },
      caller,
    };
  }
  if (caller.kind === 'stranger') throw new TypeError('a stranger is taken for nobody');
  return { said: answered(suppose(policy, { ...request, as: caller.as }, now)), caller };
}

function notTaken(caller: Caller, route: Route | null, now: number): DenialReason | null {
  if (caller.kind === 'stranger') return 'credential_invalid';
  if (caller.kind === 'token') return proof(caller.token, route, now);
  if (caller.kind !== 'shown') return null;
  return route?.authenticators.some((one) => one.name === caller.shown.authenticator) === true
    ? null
    : 'credential_invalid';
}

/** Why a token would not be taken, as `identity/static-token` would say; null where it would be. */
function proof(token: TokenEntry, route: Route | null, now: number): DenialReason | null {
  if (route?.authenticators.some((one) => one.name === token.authenticator) !== true) return 'credential_invalid';
  if (now < token.notBeforeMs) return 'credential_not_yet_valid';
  return now >= token.notAfterMs ? 'credential_expired' : null;
}

function answered(said: Supposition): Found['said'] {
  if (said.kind === 'unanswerable') throw new Ending(EXIT.usage, said.why);
  return said;
}
