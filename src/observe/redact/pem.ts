import type { Spans } from './spans.js';

export const PEM_BEGIN = '-----BEGIN';
export const PEM_END = '-----END';

/** From BEGIN to END, or to the end of the text where END is missing: the middle of a key is a key as well. */
export function findPem(text: string, spans: Spans): void {
  let begin = text.indexOf(PEM_BEGIN);
  while (begin >= 0) {
    const end = text.indexOf(PEM_END, begin);
    const stop = end < 0 ? text.length : afterPemEnd(text, end);
    spans.mask('pem', begin, stop);
    begin = text.indexOf(PEM_BEGIN, stop);
  }
}

export function afterPemEnd(text: string, end: number): number {
  const label = text.slice(end + PEM_END.length, end + PEM_END.length + 80);
  const dashes = label.indexOf('-----');
  return end + PEM_END.length + (dashes < 0 ? 0 : dashes + 5);
}
