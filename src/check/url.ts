import { type Address, parseAddress } from '../net/address.js';
import { addressKind, innerAddress } from '../net/address-kind.js';
import { CidrSet } from '../net/cidr-set.js';
import type { CidrRange } from '../net/cidr.js';
import { type Check, type Rule, textCheck, tooLong } from './check.js';

export interface UrlRules {
  /** Lower case. */
  readonly schemes: readonly string[];
  /** Null: any that nothing else speaks against. */
  readonly hosts: HostRules | null;
  /** Null: any. */
  readonly ports: ReadonlySet<number> | null;
  readonly private: 'allow' | 'refuse';
  readonly loopback: 'allow' | 'refuse';
  /** In bytes. */
  readonly max: number;
}

/** Names in lower case. */
export interface HostRules {
  readonly names: ReadonlySet<string>;
  /** With the dot in front: `.lan` of `*.lan`. */
  readonly suffixes: readonly string[];
  readonly ranges: readonly CidrRange[];
}

/** Where a URL has no port, by scheme. */
const DEFAULT_PORTS: ReadonlyMap<string, number> = new Map([
  ['http', 80],
  ['ws', 80],
  ['https', 443],
  ['wss', 443],
]);

/**
 * Scheme, host, port, path and query, in characters of RFC 3986 alone. Narrower than the RFC wherever two readers are
 * known to see two hosts: no user information, no fragment, no backslash, no empty port, no `?` without a path before
 * it, and a path that says which bytes it means.
 */
const URL_FORM =
  /^([A-Za-z][A-Za-z0-9+.-]{0,31}):\/\/(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::([1-9][0-9]{0,4}))?(?:\/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*)?$/;
const LABEL = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
/** A name that ends in a number is an IPv4 address to some readers (WHATWG URL, "ends in a number"). */
const NUMERIC = /^(?:[0-9]+|0x[0-9a-f]*)$/;

/**
 * A URL that a service behind will ask for. It is judged by its text: what a name resolves to, and where the answer
 * redirects to, is not seen.
 */
export function url(required: boolean, rules: UrlRules): Check {
  const schemes = new Set(rules.schemes);
  const judgeHost = hostRule(rules);
  return textCheck('url', required, (text) => {
    if (text === '') return 'empty';
    if (tooLong(text, rules.max)) return 'too_long';
    const parts = URL_FORM.exec(text);
    if (parts === null) return 'url_malformed';
    const scheme = (parts[1] ?? '').toLowerCase();
    const port = parts[3] === undefined ? DEFAULT_PORTS.get(scheme) : Number(parts[3]);
    if (port !== undefined && port > 65_535) return 'url_malformed';
    const host = readHost((parts[2] ?? '').toLowerCase());
    if (host === null) return 'url_malformed';
    if (!schemes.has(scheme)) return 'url_scheme';
    if (rules.ports !== null && (port === undefined || !rules.ports.has(port))) return 'url_port';
    return judgeHost(host);
  });
}

/** A name in lower case, or an address. Null: neither, or not in the one way it is written. */
export function readHost(text: string): string | Address | null {
  if (text.startsWith('[')) {
    const address = parseAddress(text.slice(1, -1));
    return address !== null && text.includes(':') ? address : null;
  }
  const labels = text.split('.');
  if (!labels.every((label) => LABEL.test(label))) return null;
  return NUMERIC.test(labels.at(-1) ?? '') ? parseAddress(text) : text;
}

function hostRule(rules: UrlRules): (host: string | Address) => Rule | null {
  const { hosts } = rules;
  const listed = hosts === null ? null : new CidrSet(hosts.ranges);
  const granted = hosts === null ? null : new CidrSet(hosts.ranges.filter(grants));
  const byName = (name: string): Rule | null => {
    if (hosts !== null) {
      if (hosts.names.has(name)) return null;
      if (!hosts.suffixes.some((suffix) => name.length > suffix.length && name.endsWith(suffix))) return 'url_host';
    }
    const loopback = name === 'localhost' || name.endsWith('.localhost');
    return loopback && rules.loopback === 'refuse' ? 'url_loopback' : null;
  };
  const byAddress = (address: Address): Rule | null => {
    if (listed !== null && !listed.has(address)) return 'url_host';
    if (granted?.has(address) === true) return null;
    switch (addressKind(address)) {
      case 'public':
        return null;
      case 'private':
        return rules.private === 'refuse' ? 'url_private' : null;
      case 'loopback':
        return rules.loopback === 'refuse' ? 'url_loopback' : null;
      case 'special':
        return 'url_special_address';
    }
  };
  return (host) => (typeof host === 'string' ? byName(host) : byAddress(innerAddress(host)));
}

/**
 * Does listing this range say that its addresses are meant, whatever kind they are: a single address does, and a range
 * of one kind. `0.0.0.0/0` holds loopback too, and nobody who writes it means that.
 */
function grants(range: CidrRange): boolean {
  const first: Address = { family: range.family, words: range.first };
  const last: Address = { family: range.family, words: range.last };
  if (range.prefixLength === (range.family === 4 ? 32 : 128)) return true;
  const kind = addressKind(first);
  return kind !== 'special' && kind !== 'public' && kind === addressKind(last) && isOneNetwork(range);
}

/** Networks of one kind are no wider than this, so that first and last being of a kind says it of all between. */
function isOneNetwork(range: CidrRange): boolean {
  return range.prefixLength >= (range.family === 4 ? 8 : 7);
}
