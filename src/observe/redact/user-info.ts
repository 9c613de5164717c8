import { IS_MASK, MASK, MAX_TOKEN } from './mask.js';
import type { Spans } from './spans.js';

/** `//user:password@host`, in URLs of any scheme. The user's name stays. */
const URL_MARKS = /\/\/|[@\s"'<>`]/g;

export function findUserInfo(text: string, spans: Spans): void {
  if (!text.includes('@') || !text.includes('//')) return;
  let start = -1;
  for (const found of text.matchAll(URL_MARKS)) {
    if (found[0] === '//') {
      start = found.index + 2;
    } else if (found[0] !== '@') {
      start = -1;
    } else if (start >= 0 && found.index - start <= MAX_TOKEN) {
      const info = text.slice(start, found.index);
      const colon = info.indexOf(':');
      const slash = info.search(/[/?#]/);
      // Past the first slash an `@` belongs to the path, but where a password with a slash in it was not encoded.
      if (slash >= 0 && (colon < 0 || colon > slash || /^:\d{1,5}(?:[/?#]|$)/.test(info.slice(colon)))) continue;
      const from = start + colon + 1;
      if (from < found.index && !IS_MASK.test(text.slice(from, found.index)))
        spans.add('url_userinfo', from, found.index, MASK);
    }
  }
}
