/**
 * A route's path: literal segments, `{name}` for exactly one non-empty segment, `**` at the end for the path before it
 * and everything below. No regular expressions: every proxy that matches routes with them has had bypasses.
 */
export type PatternSegment =
  | { readonly kind: 'literal'; readonly text: string }
  | { readonly kind: 'param'; readonly name: string }
  | { readonly kind: 'rest' };

export interface PathPattern {
  readonly text: string;
  readonly segments: readonly PatternSegment[];
  /** Matches exactly one path. */
  readonly literal: boolean;
}

export type PathPatternResult =
  { readonly ok: true; readonly pattern: PathPattern } | { readonly ok: false; readonly problem: string };

/** RFC 3986 pchar without percent-encoding and without `;`, which requests may not hold either. */
const LITERAL = /^[A-Za-z0-9\-._~!$&'()+,=:@]*$/;
const PARAM = /^\{([a-z][a-z0-9_]*)\}$/;

export function parsePathPattern(text: string): PathPatternResult {
  const wrong = (problem: string): PathPatternResult => ({ ok: false, problem });
  if (!text.startsWith('/')) return wrong('a path begins with "/"');
  const parts = text.slice(1).split('/');
  const segments: PatternSegment[] = [];
  const names = new Set<string>();
  for (const [index, part] of parts.entries()) {
    const last = index === parts.length - 1;
    const param = PARAM.exec(part)?.[1];
    if (part === '**') {
      if (!last) return wrong('"**" may only stand at the end');
      segments.push({ kind: 'rest' });
    } else if (param !== undefined) {
      if (names.has(param)) return wrong(`"{${param}}" stands twice`);
      names.add(param);
      segments.push({ kind: 'param', name: param });
    } else if (part === '' && !last) {
      return wrong('"//" is never matched: requests with it are refused');
    } else if (part === '.' || part === '..') {
      return wrong('dot segments are never matched: requests with them are refused');
    } else if (part.includes('*')) {
      return wrong('"*" is not a wildcard here: use {name} for one segment, or "**" at the end');
    } else if (part.includes('{') || part.includes('}')) {
      return wrong('a parameter is a whole segment of the form {lower_case_name}');
    } else if (part.includes('%')) {
      return wrong('write the path decoded: "%" is not allowed');
    } else if (!LITERAL.test(part)) {
      return wrong("a segment holds letters, digits and -._~!$&'()+,=:@ only");
    } else {
      segments.push({ kind: 'literal', text: part });
    }
  }
  return { ok: true, pattern: { text, segments, literal: segments.every((segment) => segment.kind === 'literal') } };
}
