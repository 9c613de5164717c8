import { caller } from '../check/caller.js';
import type { Check } from '../check/check.js';
import { oneOf } from '../check/enum.js';
import { hex } from '../check/hex.js';
import { identifier } from '../check/identifier.js';
import { modelRef } from '../check/model-ref.js';
import { path } from '../check/path.js';
import { prompt } from '../check/prompt.js';
import { range } from '../check/range.js';
import { text } from '../check/text.js';
import { type HostRules, url } from '../check/url.js';
import { cgiTwin, fieldRole } from '../http/fields.js';
import type { HeadChecks, NamedCheck, ParameterCheck } from './demands.js';
import { didYouMean } from './did-you-mean.js';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import { either, show } from './found.js';
import type { RouteAccess } from './policy.js';
import type { RouteEntry } from './schema.js';
import type { CheckEntry, HostEntry } from './schema-checks.js';

/** Checks of one entry of a map, told where it stands. */
export type CompileCheck = (entry: CheckEntry, node: Draft | null) => Check;

/** Compiles single checks for a route. @param access what the route asks of its callers */
export function checksFor(access: RouteAccess, findings: Findings): CompileCheck {
  return (entry, node) => {
    const map = entry === 'caller' ? { type: 'caller' as const } : entry;
    if (map.type === 'caller' && access.kind === 'public') {
      findings.error(
        'wrong_value',
        node,
        'value',
        'nobody is asked here who they are, so there is no caller to compare with',
        'remove it, or write require: PERMISSION in the route',
      );
    }
    return compileCheck(map, node, findings);
  };
}

function compileCheck(entry: Exclude<CheckEntry, string>, node: Draft | null, findings: Findings): Check {
  const required = entry.required === true;
  switch (entry.type) {
    case 'caller':
      return caller(required);
    case 'identifier':
      return identifier(required, entry.max ?? 256);
    case 'model_ref':
      return modelRef(required, entry.max ?? 512);
    case 'hex':
      return hex(required, entry.length);
    case 'path':
      return path(required, entry.root ?? null);
    case 'prompt':
      return prompt(required, entry.max ?? 100_000, entry.bidi ?? 'refuse');
    case 'text':
      return text(required, entry.max ?? 1000, entry.lines ?? 'refuse', entry.bidi ?? 'refuse');
    case 'range':
      if (entry.min >= entry.max) {
        findings.error(
          'wrong_value',
          node?.get('max') ?? null,
          'value',
          'no number is both: min is the least that is allowed, and max is what the value must be less than',
          'write a max that is more than min',
        );
      }
      return range(required, entry.min, entry.max, entry.integer === true);
    case 'enum':
      return oneOf(required, [...new Set(entry.values)]);
    case 'url':
      return compileUrl(entry, node, findings);
  }
}

function compileUrl(entry: Extract<CheckEntry, { type: 'url' }>, node: Draft | null, findings: Findings): Check {
  const hosts = entry.hosts === undefined ? null : hostRules(entry.hosts);
  const rules = {
    schemes: entry.schemes ?? ['http', 'https'],
    hosts,
    ports: entry.ports === undefined ? null : new Set(entry.ports),
    private: entry.private ?? ('refuse' as const),
    loopback: entry.loopback ?? ('refuse' as const),
    max: entry.max ?? 2048,
  };
  const open = rules.private === 'allow' && rules.loopback === 'allow';
  if (hosts === null && !open && node?.dropped.has('hosts') !== true) {
    findings.warn(
      'url_hosts_open',
      node,
      'value',
      'any public name passes here: one may resolve to a private address, and where the answer redirects to is not seen',
      'list the hosts that are meant: hosts: [queen.lan, 192.168.1.0/24]',
    );
  }
  return url(entry.required === true, rules);
}

function hostRules(entries: readonly HostEntry[]): HostRules {
  return {
    names: new Set(entries.flatMap((one) => (one.kind === 'name' ? [one.name] : []))),
    suffixes: entries.flatMap((one) => (one.kind === 'suffix' ? [one.suffix] : [])),
    ranges: entries.flatMap((one) => (one.kind === 'range' ? [one.range] : [])),
  };
}

/** What a route checks in the head of a request. Null: nothing. */
export function compileHeadChecks(
  route: RouteEntry,
  node: Draft,
  access: RouteAccess,
  findings: Findings,
): HeadChecks | null {
  const written = ['check', 'check_query', 'check_headers'].filter((key) => node.declares(key));
  if (route.deny === true && access.kind === 'deny') {
    for (const key of written) {
      findings.error(
        'wrong_value',
        node.get(key),
        'key',
        'nothing passes a route that is closed, so there is nothing to check',
        'remove it',
      );
    }
    return null;
  }
  const compile = checksFor(access, findings);
  const path = compileParameters(route, node, compile, findings);
  const query = compileNamed(route.check_query, node.get('check_query'), compile);
  const headers = compileHeaders(route, node, compile, findings);
  return path.length + query.length + headers.length === 0
    ? null
    : { path, query, queryNames: new Set(query.map(({ name }) => name)), headers };
}

function compileParameters(
  route: RouteEntry,
  node: Draft,
  compile: CompileCheck,
  findings: Findings,
): ParameterCheck[] {
  const at = new Map<string, number>();
  for (const [index, segment] of route.path.segments.entries()) {
    if (segment.kind === 'param') at.set(segment.name, index);
  }
  const list = node.get('check');
  return Object.entries(route.check ?? {}).flatMap(([name, entry]) => {
    const place = list?.get(name) ?? null;
    const segment = at.get(name);
    if (segment === undefined) {
      if (!node.dropped.has('path')) unknownParameter(name, [...at.keys()], place, findings);
      return [];
    }
    return [{ name, segment, check: compile(entry, place) }];
  });
}

function unknownParameter(name: string, known: readonly string[], place: Draft | null, findings: Findings): void {
  const meant = didYouMean(name, known);
  findings.error(
    'unknown_name',
    place,
    'key',
    `the path has no parameter ${show(name)}; it has ${known.length === 0 ? 'none' : either(known).replace(' or ', ' and ')}`,
    meant === undefined
      ? 'query parameters stand under check_query, header fields under check_headers, members of the body under body.json.check'
      : `did you mean ${meant}?`,
  );
}

function compileNamed(
  entries: Readonly<Record<string, CheckEntry>> | undefined,
  list: Draft | null,
  compile: CompileCheck,
): NamedCheck[] {
  return Object.entries(entries ?? {}).map(([name, entry]) => ({
    name,
    check: compile(entry, list?.get(name) ?? null),
  }));
}

function compileHeaders(route: RouteEntry, node: Draft, compile: CompileCheck, findings: Findings): NamedCheck[] {
  const list = node.get('check_headers');
  const seen = new Map<string, string>();
  return Object.entries(route.check_headers ?? {}).flatMap(([written, entry]) => {
    const place = list?.get(written) ?? null;
    const name = written.toLowerCase();
    const role = fieldRole(name);
    if (role !== null || name === 'cookie') {
      findings.error(
        'bad_field_name',
        place,
        'key',
        role === 'credential' || name === 'cookie'
          ? `${show(written)} holds credentials, which are for authenticators to judge`
          : `${show(written)} never reaches the upstream as the client sent it, so there is nothing to check`,
        'remove it',
      );
      return [];
    }
    const twin = seen.get(cgiTwin(name));
    if (twin !== undefined) {
      findings.error(
        'duplicate_name',
        place,
        'key',
        `${show(written)} is ${show(twin)} in another spelling`,
        'keep one of them',
      );
      return [];
    }
    seen.set(cgiTwin(name), written);
    return [{ name, check: compile(entry, place) }];
  });
}
