import { DENIALS, type DenialReason } from '../denial.js';
import type { Exchange } from '../exchange.js';
import type { FailureReason } from '../failure.js';
import type { WholeAnswer } from './respond.js';

/** The 504 as programs of rbee read it. Null: it is about something else, or the listener answers as ever. */
export function deadlineAnswer(reason: DenialReason | FailureReason, exchange: Exchange): WholeAnswer | null {
  if (reason !== 'deadline_passed' && reason !== 'deadline_exceeded') return null;
  if (exchange.listener.deadlines?.answer !== 'rbee') return null;
  const { ms, nowMs } = exchange.elapsed;
  const sent = exchange.message?.deadline;
  const deadlineMs = exchange.endsAtMs ?? (typeof sent === 'number' ? sent : nowMs);
  // A timer may be a part of a millisecond early.
  const exceededByMs = Math.max(0, Math.floor(nowMs - deadlineMs));
  const body = Buffer.from(
    `${JSON.stringify({
      error: 'deadline_exceeded',
      deadline_ms: Math.round(deadlineMs),
      elapsed_ms: Math.round(ms),
      exceeded_by_ms: exceededByMs,
    })}\n`,
  );
  const fields = [
    'content-type',
    'application/json',
    'content-length',
    String(body.length),
    'cache-control',
    'no-store',
    'x-content-type-options',
    'nosniff',
    'retry-after',
    '1',
    'x-deadline-exceeded-by-ms',
    String(exceededByMs),
    'x-request-id',
    exchange.requestId,
  ];
  return { status: DENIALS.deadline_passed.status, fields, body };
}
