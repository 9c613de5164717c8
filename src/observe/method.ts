/** Methods that logs and metrics name; all others are `_OTHER` there, or a client could make up labels. */
export const METHODS = Object.freeze([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'CONNECT',
  'TRACE',
] as const);

const KNOWN: ReadonlySet<string> = new Set(METHODS);

export function isKnownMethod(method: string): boolean {
  return KNOWN.has(method);
}
