import { type Challenge, DENIALS, type DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';

import { FAILURES, type FailureReason } from '../failure.js';
import type { Invalid, Particulars } from '../gate/authorize.js';
import { sharingOn } from '../gate/cors.js';
import { share } from '../http/sharing.js';
import type { Authenticator } from '../policy/policy.js';
import type { Respond } from '../proxy/respond.js';
import { deadlineAnswer } from './deadline-answer.js';
import { sendLoginInstead } from './login-answer.js';

/** What a client may know of a refusal or failure: the row's title and status, and the request's id to ask about. */
export interface WholeAnswer {
  readonly status: number;
  readonly fields: readonly string[];
  readonly body: Buffer;
}

/**
 * RFC 9457 problem document. `instance` is the request id, so that an operator finds the line in the log; nothing else
 * in it depends on the request. Of a value that is not as it should be it says what the policy calls it, and the rule.
 */
function problem(status: number, title: string, requestId: string, invalid: Invalid | null): Buffer {
  const wrong =
    invalid === null
      ? ''
      : `,"invalid":[${JSON.stringify({ in: invalid.place, name: invalid.name, rule: invalid.rule })}]`;
  return Buffer.from(
    `{"type":"about:blank","title":${JSON.stringify(title)},"status":${String(status)},"instance":"${instance(requestId)}"${wrong}}\n`,
  );
}

/** A URI reference (RFC 9457 §3.1.5). A trusted proxy's id is a plain word, which is one as it stands. */
function instance(requestId: string): string {
  return /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(requestId) ? `urn:uuid:${requestId}` : requestId;
}

/** What may pass by itself: a slow moment of the client or of its way (408), and ours (503). */
const RETRIABLE: ReadonlySet<number> = new Set([408, 503]);
/** Seconds after which asking again may help. */
const RETRY_AFTER = '5';

function whole(
  status: number,
  title: string,
  requestId: string,
  challenges: readonly string[],
  particulars: Particulars | null,
): WholeAnswer {
  const body = problem(status, title, requestId, particulars?.invalid ?? null);
  const fields = [
    'content-type',
    'application/problem+json',
    'content-length',
    String(body.length),
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
    'x-request-id',
    requestId,
  ];
  for (const challenge of challenges) fields.push('www-authenticate', challenge);
  const more = particulars?.fields ?? [];
  fields.push(...more);
  if (RETRIABLE.has(status) && !more.includes('retry-after')) fields.push('retry-after', RETRY_AFTER);
  return { status, fields, body };
}

/** RFC 6750 §3. The realm is a quoted-string without quotes or backslashes; the policy's schema sees to that. */
function bearerChallenge(challenge: Exclude<Challenge, 'none'>, realm: string): string {
  return challenge === 'bare' ? `Bearer realm="${realm}"` : `Bearer realm="${realm}", error="${challenge}"`;
}

const REALM = 'guardbee';

/**
 * One challenge for each scheme that could help (RFC 9110 §11.6.1), Bearer first. A 401 has at least one; a 403 none but
 * that of RFC 6750.
 */
function challengesOf(challenge: Challenge, status: number, asked: readonly Authenticator[]): string[] {
  if (challenge === 'none') return [];
  const bearer = asked.find((one) => one.type === 'bearer' || one.type === 'jwt');
  const basic = status === 401 ? asked.find((one) => one.type === 'basic') : undefined;
  const challenges: string[] = [];
  if (bearer !== undefined || basic === undefined) {
    challenges.push(bearerChallenge(challenge, bearer?.realm ?? asked[0]?.realm ?? REALM));
  }
  // RFC 7617 §2.1.
  if (basic !== undefined) challenges.push(`Basic realm="${basic.realm}", charset="UTF-8"`);
  return challenges;
}

export function denialAnswer(
  reason: DenialReason,
  requestId: string,
  asked: readonly Authenticator[] = [],
  particulars: Particulars | null = null,
): WholeAnswer {
  const row = DENIALS[reason];
  return whole(row.status, row.title, requestId, challengesOf(row.challenge, row.status, asked), particulars);
}

export function failureAnswer(reason: FailureReason, requestId: string): WholeAnswer {
  const row = FAILURES[reason];
  return whole(row.status, row.title, requestId, [], null);
}

/** Who may read it, where the listener says so. */
function shared({ listener, message }: Exchange, fields: readonly string[]): readonly string[] {
  const sharing = sharingOn(listener, message);
  return sharing === null ? fields : share(fields, sharing);
}

/** The one place where a refusal or failure becomes an answer. */
export const respond: Respond = {
  denial(
    exchange: Exchange,
    reason: DenialReason,
    asked: readonly Authenticator[],
    particulars: Particulars | null = null,
  ): void {
    exchange.denied(reason, () => {
      if (DENIALS[reason].status === 401 && sendLoginInstead(exchange, asked)) return;
      const answer = deadlineAnswer(reason, exchange) ?? denialAnswer(reason, exchange.requestId, asked, particulars);
      exchange.answer.sendWhole(answer.status, shared(exchange, answer.fields), answer.body);
    });
  },
  failure(exchange: Exchange, reason: FailureReason): void {
    exchange.failed(reason);
    if (exchange.answer.headSent || FAILURES[reason].status === 499) {
      exchange.answer.abort();
      return;
    }
    const answer = deadlineAnswer(reason, exchange) ?? failureAnswer(reason, exchange.requestId);
    exchange.answer.sendWhole(answer.status, shared(exchange, answer.fields), answer.body);
  },
};
