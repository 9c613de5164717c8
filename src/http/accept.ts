import { listMembers } from './fields.js';

// Does Accept (RFC 9110 §12.5.1) name HTML, as browsers do for what they open? Programs send */* or nothing, and would
// rather have something to parse.
export function prefersHtml(accept: string | null): boolean {
  if (accept === null) return false;
  return listMembers(accept).some((member) => {
    const [type, ...parameters] = member.split(';').map((part) => part.trim().toLowerCase());
    if (type !== 'text/html' && type !== 'application/xhtml+xml') return false;
    return !parameters.some((parameter) => /^q[ \t]*=[ \t]*0(?:\.0{0,3})?$/.test(parameter));
  });
}

/** Does Accept name event streams, as EventSource does. Wildcards ask for none. */
export function asksForEventStream(accept: string | null): boolean {
  return accept !== null && /(?:^|,)[ \t]*text\/event-stream[ \t]*(?:;|,|$)/i.test(accept);
}
