import type { DenialReason } from '../denial.js';
import type { Admission } from './admit.js';
import type { Underway } from './underway.js';

/**
 * Begins to count: by the deadline that the client sent, and by the time that the route gives, whichever ends first. One
 * that is past already ends nothing here: whoever asks is told so only once it is known that they may ask at all.
 */
export function watchTime({ listener, message, route }: Admission, nowMs: number, underway: Underway): void {
  if (route.wholeMs !== Number.POSITIVE_INFINITY) underway.endBy(nowMs + route.wholeMs);
  if (message.deadline === null || message.deadline === 'malformed' || listener.deadlines === null) return;
  if (message.deadline > nowMs) underway.endBy(message.deadline);
}

/** What speaks against the deadline that the client sent. A deadline is past when it is there. Null: nothing. */
export function lateness({ listener, message }: Admission, nowMs: number): DenialReason | null {
  if (message.deadline === null || listener.deadlines === null) return null;
  if (message.deadline === 'malformed') return 'deadline_malformed';
  return message.deadline <= nowMs ? 'deadline_passed' : null;
}
