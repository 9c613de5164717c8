import type { Exchange } from '../exchange.js';
import type { Permit } from '../gate/authorize.js';
import type { Allowance } from '../gate/limit.js';

/** From here on the exchange is a stream, which may have a longest life. */
export function openStream(exchange: Exchange, permit: Permit, kind: 'sse' | 'ws'): void {
  exchange.becomes(kind);
  const { streamMaxMs } = permit.route;
  if (streamMaxMs === Number.POSITIVE_INFINITY || exchange.finished) return;
  const timer = setTimeout(() => {
    exchange.cut('stream_expired');
  }, streamMaxMs);
  timer.unref();
  exchange.whenFinished(() => {
    clearTimeout(timer);
  });
}

/** Those of this draft and of the ones before it: two words on one limit would contradict each other. */
const RATE_LIMIT_FIELD = /^ratelimit(?:-policy|-limit|-remaining|-reset)?$/;

/** The fields of an answer with what is said of our limits, in place of what the upstream says of its own. */
export function limitedFields(fields: readonly string[], allowance: Allowance | null): readonly string[] {
  if (allowance?.fields == null) return fields;
  const kept: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] ?? '';
    if (!RATE_LIMIT_FIELD.test(name)) kept.push(name, fields[i + 1] ?? '');
  }
  kept.push(...allowance.fields);
  return kept;
}
