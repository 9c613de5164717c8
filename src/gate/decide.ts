import type { DenialReason } from '../denial.js';
import type { Framing, Message } from '../http/message.js';
import { type Asked, type Authentication, authenticate } from '../identity/authenticate.js';
import type { Caller } from '../identity/caller.js';
import { POLICY_ALONE, type Provers } from '../identity/provers.js';
import type { HttpListener } from '../policy/policy.js';
import { type Admission, admit } from './admit.js';
import { type Decision, type Invalid, type Refusal, authorize, refusal, refusalByHead } from './authorize.js';
import { checkHead } from './check-head.js';
import { lateness, watchTime } from './deadlines.js';
import { type Held, judgeBody, refusedByLength, refusedByType } from './judge-body.js';
import {
  type Allowance,
  type Early,
  type Limiter,
  UNLIMITED,
  identityKey,
  isRefusal,
  limit,
  limitBefore,
} from './limit.js';
import { type Owners, SUPPOSED_OWNERS, mayUse } from './owners.js';
import type { Underway } from './underway.js';

/** Says who a request is from; policy tests and `explain` put a supposed caller in its place. */
export type Prove = (asked: Asked, caller: Caller, nowMs: number) => Authentication | Promise<Authentication>;

/** The usual way to say it. */
export function proveWith(provers: Provers): Prove {
  return (asked, caller, nowMs) => authenticate(asked, caller, nowMs, provers);
}

/** What deciding needs besides the policy and the request. */
export interface Means {
  readonly prove: Prove;
  readonly holdBody: HoldBody;
  readonly limiter: Limiter;
  readonly owners: Owners;
}

/** A body that must be known whole before anything is decided. */
export interface WantedBody {
  /** Whose it is, in one text for one identity. */
  readonly by: string;
  readonly framing: Framing;
  readonly expectsContinue: boolean;
  /** In bytes; what states more is refused before it is wanted. */
  readonly most: number;
  /** Idle time between two pieces of it. */
  readonly idleMs: number;
}

export type HeldBody = ({ readonly ok: true } & Held) | { readonly ok: false; readonly reason: DenialReason };

/** Reads a body and holds it until it is released or its exchange is over. */
export type HoldBody = (underway: Underway, wanted: WantedBody) => HeldBody | Promise<HeldBody>;

const NO_BODY: HeldBody = { ok: true, bytes: Buffer.alloc(0), release: () => undefined };

/** Where there is nothing but the policy. */
export const MEANS_OF_POLICY: Means = {
  prove: proveWith(POLICY_ALONE),
  limiter: UNLIMITED,
  holdBody: () => NO_BODY,
  owners: SUPPOSED_OWNERS,
};

/** Of a request that was refused before anybody was asked who it is. */
const UNASKED = { identity: null, fingerprint: null, attempt: null, particulars: null };

/**
 * The gate: admit, authenticate, what the route demands, authorize. HTTP/1.1, HTTP/2 and upgrades come through here, and
 * so do `tests:` and `explain`, which is why they can't disagree with what the proxy does. No log, no metric, no clock;
 * what is counted or held is so through `means`. A promise only where something must be found out, or a body be read.
 */
export function decide(
  listener: HttpListener,
  message: Message,
  caller: Caller,
  nowMs: number,
  underway: Underway,
  means: Means,
): Decision | Promise<Decision> {
  const admission = admit(listener, message, caller);
  if (!admission.admitted) return { allow: false, ...admission, ...UNASKED };
  watchTime(admission, nowMs, underway);
  const early = limitBefore(admission, nowMs, means.limiter);
  if (early instanceof Promise) return early.then((late) => ask(admission, caller, nowMs, late, underway, means));
  return ask(admission, caller, nowMs, early, underway, means);
}

/** Who is it. Public routes ask nobody. */
function ask(
  admission: Admission,
  caller: Caller,
  nowMs: number,
  early: Early | Refusal,
  underway: Underway,
  means: Means,
): Decision | Promise<Decision> {
  if (isRefusal(early)) return early;
  if (admission.route.access.kind === 'public') return proceed(admission, null, nowMs, early, underway, means);
  const proved = means.prove(admission, caller, nowMs);
  return proved instanceof Promise
    ? proved.then((late) => proceed(admission, late, nowMs, early, underway, means))
    : proceed(admission, proved, nowMs, early, underway, means);
}

/** Whoever it is has been asked. Most routes demand nothing more, and then nothing more is looked at. */
function proceed(
  admission: Admission,
  authentication: Authentication | null,
  nowMs: number,
  early: Early,
  underway: Underway,
  means: Means,
): Decision | Promise<Decision> {
  const { demands } = admission.route;
  const late = lateness(admission, nowMs);
  if (late !== null) return refusalByHead(admission, authentication) ?? refusal(admission, authentication, late);
  if (demands === null) return authorize(admission, authentication, null);
  // Nothing is read or counted for somebody who may not ask at all.
  const refused = refusalByHead(admission, authentication);
  if (refused !== null) return refused;
  const wrong = demands.head === null ? null : checkHead(demands.head, admission, authentication);
  if (wrong !== null) return wrong;
  if (demands.owner !== null) {
    const who = authentication?.ok === true ? authentication.identity : null;
    if (who === null || !mayUse(demands.owner, admission, who, means.owners, nowMs)) {
      return refusal(admission, authentication, 'not_owner');
    }
  }
  if (demands.limits === null) return judge(admission, authentication, null, underway, means);
  const limited = limit(demands.limits, admission, authentication, nowMs, early, underway, means.limiter);
  return limited instanceof Promise
    ? limited.then((late) => judge(admission, authentication, late, underway, means))
    : judge(admission, authentication, limited, underway, means);
}

/** Bodies, of a request that is within its limits. */
function judge(
  admission: Admission,
  authentication: Authentication | null,
  limited: Allowance | Refusal | null,
  underway: Underway,
  means: Means,
): Decision | Promise<Decision> {
  if (limited !== null && isRefusal(limited)) return limited;
  const allowance = limited;
  const body = admission.route.demands?.body ?? null;
  if (body === null) return authorize(admission, authentication, { allowance, body: null });
  const { message, route } = admission;
  // It was counted, whatever becomes of it: its answer says what is left.
  const fields = allowance?.fields ?? [];
  const no = (reason: DenialReason, invalid: Invalid | null = null): Refusal =>
    refusal(admission, authentication, reason, { fields, invalid });
  const tooLarge = refusedByLength(body, message);
  if (tooLarge !== null) return no(tooLarge);
  const { json } = body;
  if (json === null) return authorize(admission, authentication, { allowance, body: null });
  const unfit = refusedByType(message);
  if (unfit !== null) return no(unfit);
  if (authentication?.ok !== true) throw new TypeError('a body is read for nobody who is unknown');

  const { framing, expectsContinue } = message;
  const settle = (held: HeldBody): Decision => {
    if (!held.ok) return no(held.reason);
    const judgement = judgeBody(held, json, authentication.identity);
    if (judgement.ok) return authorize(admission, authentication, { allowance, body: judgement.body });
    held.release();
    return no(judgement.reason, judgement.invalid);
  };
  const by = identityKey(authentication.identity);
  const held = means.holdBody(underway, { by, framing, expectsContinue, most: body.most, idleMs: route.bodyMs });
  return held instanceof Promise ? held.then(settle) : settle(held);
}
