import type { Exchange } from '../exchange.js';
import { arrive } from '../gate/admit.js';
import { answerPreflight } from '../gate/cors.js';
import type { Message } from '../http/message.js';
import type { Caller } from '../identity/caller.js';
import { denialAnswer, respond } from './respond.js';

/**
 * A browser asks whether a page may ask. It shows no credential with that, and no upstream hears of it; where it comes
 * from and which host it names counts as ever.
 */
export function servePreflight(exchange: Exchange, message: Message, caller: Caller): void {
  const { cors } = exchange.listener;
  if (cors === null) throw new TypeError('a listener without cors answers no preflights');
  const arrival = arrive(exchange.listener, message, caller);
  if (!arrival.arrived) {
    respond.denial(exchange, arrival.reason, []);
    return;
  }
  exchange.knows({ client: arrival.at, requestId: arrival.requestId, identity: null, fingerprint: null });
  const fields = answerPreflight(cors, message);
  if (fields === null) {
    // Nothing in it tells the page who may: an answer without the fields is a refusal to every browser.
    exchange.denied('cors_refused', () => {
      const answer = denialAnswer('cors_refused', exchange.requestId);
      exchange.answer.sendWhole(answer.status, [...answer.fields, 'vary', 'Origin'], answer.body);
    });
    return;
  }
  exchange.answeredBy('preflight', 204, () => {
    exchange.answer.sendWhole(204, [...fields, 'x-request-id', exchange.requestId], Buffer.alloc(0));
  });
}
