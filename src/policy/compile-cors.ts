import type { Sharing } from '../http/sharing.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { CorsSettings } from './policy.js';
import type { CorsEntry } from './schema-cors.js';

const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'];
/** What programs in a page send besides what any page may: credentials, types of bodies, deadlines. */
const HEADERS = ['authorization', 'content-type', 'x-api-key', 'x-guardbee-token', 'x-deadline'];
/** What guardbee itself says that a page has a use for. */
const EXPOSED = ['x-request-id', 'retry-after', 'ratelimit', 'ratelimit-policy', 'www-authenticate'];
const MAX_AGE_MS = 600_000;

/** @param node that of the listener */
export function compileCors(entry: CorsEntry | undefined, node: Draft, findings: Findings): CorsSettings | null {
  if (entry === undefined) return null;
  const credentials = entry.credentials === true;
  if (entry.origins === 'any' && credentials) {
    findings.error(
      'wrong_value',
      node.at(['cors', 'credentials']),
      'value',
      'with origins: any, every site could read what the browser of whoever visits it is shown here',
      'list the origins that may: origins: [https://app.lan]; or leave credentials out',
    );
  }
  const methods = [...new Set(entry.methods ?? METHODS)];
  const headers = [...new Set(entry.headers ?? HEADERS)];
  const exposed = [...new Set([...EXPOSED, ...(entry.expose ?? [])])].join(', ');
  const sharedWith = (origin: string): Sharing => ({
    fields: [
      ...['access-control-allow-origin', origin],
      ...(credentials ? ['access-control-allow-credentials', 'true'] : []),
      ...['access-control-expose-headers', exposed],
    ],
    varies: true,
  });
  const maxAgeMs = entry.max_age ?? MAX_AGE_MS;
  const common = [
    ...(credentials ? ['access-control-allow-credentials', 'true'] : []),
    ...['access-control-allow-methods', methods.join(', ')],
    ...['access-control-allow-headers', headers.join(', ')],
    ...['access-control-max-age', String(Math.floor(maxAgeMs / 1000))],
    ...['vary', 'Origin, Access-Control-Request-Method, Access-Control-Request-Headers'],
  ];
  return {
    any: entry.origins === 'any' ? sharedWith('*') : null,
    origins: new Map(entry.origins === 'any' ? [] : entry.origins.map((origin) => [origin, sharedWith(origin)])),
    others: { fields: [], varies: true },
    credentials,
    methods: new Set(methods),
    headers: new Set(headers),
    exposed: new Set(entry.expose ?? []),
    maxAgeMs,
    preflight: common,
  };
}
