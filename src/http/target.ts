import type { DenialReason } from '../denial.js';

/** A request target in origin form (RFC 9112 §3.2.1), read one way only. */
export interface Target {
  /** Path and query exactly as they will be forwarded. */
  readonly raw: string;
  /** Path as sent, percent-encoding untouched. */
  readonly path: string;
  /** Without the `?`; null where there is none. Never judged, never changed. */
  readonly query: string | null;
  /** The path's segments, percent-decoded. */
  readonly segments: readonly string[];
  /** A segment holds a `/` that was percent-encoded. */
  readonly encodedSlash: boolean;
}

export type TargetResult =
  { readonly ok: true; readonly target: Target } | { readonly ok: false; readonly reason: DenialReason };

/** The usual case: unreserved characters and harmless sub-delims, nothing to decode. */
const PLAIN = /^[A-Za-z0-9\-._~!$&'()*+,=:@/]*$/;
const VISIBLE_ASCII = /^[\x21-\x7e]*$/;
const ENCODED = /%([0-9A-Fa-f]{2})/g;
const NOT_ASCII = /[\u0080-\uffff]/;
const BROKEN_ENCODING = /%(?![0-9A-Fa-f]{2})/;
/** Decoded text that decodes again: `%252e`, `%25%32%65` and `%252%65` are all `%2e`, which is `.` to a second reader. */
const NESTED_ENCODING = /%(?:[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4})/i;

const wrong = (reason: DenialReason): TargetResult => ({ ok: false, reason });

/**
 * Reads an origin-form target. Refused is whatever an upstream might read as another path than the one judged here:
 * dot segments in any encoding, empty segments, backslashes, fragments, path parameters, encoded control characters,
 * nested encodings, bytes that are not UTF-8.
 */
export function readTarget(text: string): TargetResult {
  if (text.charCodeAt(0) !== 0x2f) return wrong('malformed_target');
  const mark = text.indexOf('?');
  const path = mark === -1 ? text : text.slice(0, mark);
  const query = mark === -1 ? null : text.slice(mark + 1);
  if (query !== null && (!VISIBLE_ASCII.test(query) || query.includes('#'))) return wrong('malformed_target');
  if (path.includes('//')) return wrong('ambiguous_path');
  if (PLAIN.test(path)) {
    const segments = path.slice(1).split('/');
    if (path.includes('/.') && hasDotSegment(segments)) return wrong('ambiguous_path');
    return { ok: true, target: { raw: text, path, query, segments, encodedSlash: false } };
  }
  return readUnusual(text, path, query);
}

function readUnusual(text: string, path: string, query: string | null): TargetResult {
  if (!VISIBLE_ASCII.test(path) || path.includes('#') || BROKEN_ENCODING.test(path)) return wrong('malformed_target');
  if (/[\\;]/.test(path)) return wrong('ambiguous_path');
  let encodedSlash = false;
  for (const [, hex] of path.matchAll(ENCODED)) {
    const byte = Number.parseInt(hex ?? '', 16);
    if (byte < 0x20 || byte === 0x7f || byte === 0x5c || byte === 0x3b) return wrong('ambiguous_path');
    if (byte === 0x2f) encodedSlash = true;
  }
  const segments: string[] = [];
  for (const part of path.slice(1).split('/')) {
    const decoded = decode(part);
    if (decoded === null) return wrong('malformed_target');
    if (NESTED_ENCODING.test(decoded) || isDotsInDisguise(decoded)) return wrong('ambiguous_path');
    // With an encoded slash the upstream may see more segments than we do: none of them may be empty or dots.
    const inner = decoded.includes('/') ? decoded.split('/') : null;
    if (inner !== null && (hasDotSegment(inner) || inner.includes(''))) return wrong('ambiguous_path');
    segments.push(decoded);
  }
  if (hasDotSegment(segments)) return wrong('ambiguous_path');
  return { ok: true, target: { raw: text, path, query, segments, encodedSlash } };
}

function hasDotSegment(segments: readonly string[]): boolean {
  return segments.includes('.') || segments.includes('..');
}

/**
 * U+FF0E, U+2024, U+2025 and the like are dots to readers that normalize (NFKC), with U+FF0F and U+FF3C as slashes
 * around them. Such a slash alone is a letter of a name: Japanese file names have it because `/` may not stand there.
 */
function isDotsInDisguise(segment: string): boolean {
  return NOT_ASCII.test(segment) && hasDotSegment(segment.normalize('NFKC').split(/[/\\]/));
}

/** UTF-8 percent-decoding; null where the bytes are not UTF-8 (overlong forms of `.` and `/` among them). */
function decode(part: string): string | null {
  if (!part.includes('%')) return part;
  try {
    const text = decodeURIComponent(part);
    // C1 controls and line separators have no business in a path and break logs.
    return /[\u0080-\u009f\u2028\u2029]/.test(text) ? null : text;
  } catch {
    return null;
  }
}
