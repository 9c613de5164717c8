import { checksFor } from './compile-checks.js';
import type { BodyDemand, ByValue, MemberCheck } from './demands.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { show } from './found.js';
import type { RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';
import { parseMember } from './schema-body.js';
import { formatSize } from './size.js';

const MEBIBYTE = 1024 ** 2;
/** Of a body that is judged, where the policy does not say. */
const USUAL_JUDGED = MEBIBYTE;
/** Reading a longer one would keep everybody else waiting. */
const LONGEST_JUDGED = 16 * MEBIBYTE;

/** The permissions of each value, and all of them together: who has none of these may ask for nothing. */
export function permissionsByValue(route: RouteEntry): ReadonlyMap<string, readonly string[]> | null {
  const written = route.body?.json?.require_by_value;
  if (written === undefined) return null;
  return new Map(
    Object.entries(written).map(([value, names]) => [value, typeof names === 'string' ? [names] : [...new Set(names)]]),
  );
}

/** Was something of `require_by_value` written, even if it was broken. */
export function declaresByValue(node: Draft): boolean {
  return node.dropped.has('body') || node.get('body')?.dropped.has('json') === true
    ? false
    : node.at(['body', 'json'])?.declares('require_by_value') === true;
}

/** Something that may have held `require_by_value` was taken out. */
export function lostByValue(node: Draft): boolean {
  const body = node.get('body');
  return (
    node.dropped.has('body') ||
    body?.dropped.has('json') === true ||
    body?.get('json')?.dropped.has('require_by_value') === true ||
    body?.get('json')?.get('require_by_value')?.tainted === true
  );
}

/**
 * @param listenerMost the listener's limit on bodies, in bytes; Infinity where it has none
 * @returns null where nothing is asked of the body
 */
export function compileBody(
  route: RouteEntry,
  node: Draft,
  access: RouteAccess,
  listenerMost: number,
  findings: Findings,
): BodyDemand | null {
  const at = node.get('body');
  const { body } = route;
  if (body === undefined || at === null) {
    return listenerMost === Infinity || route.deny === true ? null : { most: listenerMost, json: null };
  }
  if (route.deny === true) {
    findings.error('wrong_value', at, 'key', 'nothing passes a route that is closed, and no body either', 'remove it');
    return null;
  }
  const { json } = body;
  if (json === undefined) {
    if (body.max === undefined && at.dropped.size === 0) {
      findings.error(
        'wrong_value',
        at,
        'value',
        'an empty map says nothing',
        'write max: SIZE or json: { … }, or remove it',
      );
    }
    return body.max === undefined ? null : { most: body.max, json: null };
  }
  const jsonNode = at.get('json');
  if (route.public === true) {
    findings.error(
      'wrong_value',
      jsonNode,
      'key',
      'bodies are held for callers who have said who they are, and a public route asks nobody',
      'remove it, or write require: PERMISSION in place of public: true',
    );
  }
  if (body.max !== undefined && body.max > LONGEST_JUDGED) {
    findings.error(
      'wrong_value',
      at.get('max'),
      'value',
      `a body that is judged is held whole, so ${formatSize(LONGEST_JUDGED)} is the most`,
      `write max: ${formatSize(LONGEST_JUDGED)}, or remove json`,
    );
  }
  const most = Math.min(body.max ?? Math.min(USUAL_JUDGED, listenerMost), LONGEST_JUDGED);
  const byValue = compileByValue(route, jsonNode, findings);
  return { most, json: { byValue, checks: compileMembers(route, jsonNode, access, findings) } };
}

function compileByValue(route: RouteEntry, node: Draft | null, findings: Findings): ByValue | null {
  const field = route.body?.json?.field;
  const permissions = permissionsByValue(route);
  if (permissions === null) {
    if (field !== undefined && node?.declares('require_by_value') === false) {
      findings.missing(
        node,
        'require_by_value',
        'missing, needed is what each value of the field requires',
        'write require_by_value: { VALUE: PERMISSION }',
      );
    }
    return null;
  }
  if (field === undefined) {
    findings.missing(
      node,
      'field',
      `missing, needed is the field whose values ${show(route.name)} decides by`,
      'write field: NAME, as the service calls it',
    );
    return null;
  }
  if (permissions.size === 0 && node?.get('require_by_value')?.dropped.size === 0) {
    findings.error('wrong_value', node.get('require_by_value'), 'value', 'an empty map allows nothing', 'list a value');
  }
  return { pointer: field, permissions };
}

function compileMembers(route: RouteEntry, node: Draft | null, access: RouteAccess, findings: Findings): MemberCheck[] {
  const list = node?.get('check') ?? null;
  const compile = checksFor(access, findings);
  return Object.entries(route.body?.json?.check ?? {}).flatMap(([name, entry]) => {
    const place = list?.get(name) ?? null;
    const read = parseMember(name);
    if (!read.ok) {
      findings.error('wrong_value', place, 'key', `found ${show(name)}: ${read.problem}`, read.hint);
      return [];
    }
    return [{ name, pointer: read.value, check: compile(entry, place) }];
  });
}
