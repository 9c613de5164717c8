/**
 * Paths behind which a whole API stands: what a request does is said in its body. The member that says it, by path in
 * lower case.
 */
const SAYS_WHAT: ReadonlyMap<string, string> = new Map([
  // rbee: one door to inference, to installing programs and to ending processes.
  ['/v1/jobs', 'operation'],
  ['/v1/inference', 'operation'],
  ['/graphql', 'query'],
  ['/v1/graphql', 'query'],
  ['/api/graphql', 'query'],
  ['/jsonrpc', 'method'],
  ['/json-rpc', 'method'],
  ['/rpc', 'method'],
  ['/api/rpc', 'method'],
  ['/mcp', 'method'],
]);

/** The member of the body that says what a POST to this pattern asks for, as far as is known. Null: the path says it. */
export function fieldOfSingleEndpoint(pattern: string): string | null {
  return SAYS_WHAT.get(pattern.toLowerCase().replace(/\/\*\*$/, '')) ?? null;
}
