import { formatAddress, isLoopback, isUnspecified, parseAddress } from '../net/address.js';
import { parsePortRange } from './bind.js';
import { parseHostName } from './host-name.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';
import { parseSocketPath } from './socket-path.js';

export const UPSTREAM_FORM = 'http://127.0.0.1:PORT or unix:/path/of.sock';

export const TCP_UPSTREAM_FORM = 'tcp://127.0.0.1:PORT, tcp://127.0.0.1:FIRST-LAST or unix:/path/of.sock';

export const OUTBOUND_UPSTREAM_FORM = 'https://NAME or https://NAME:PORT';

type Scheme = 'http' | 'https' | 'tcp';

/** How near an upstream is, as far as its text says. A name has to be looked up. */
export type Nearness = 'loopback' | 'remote' | 'name';

export interface ParsedUpstream {
  /** `127.0.0.1:7833`, `[::1]:7833`, `unix:/run/queen.sock`, `https://queen.lan:443`. */
  readonly name: string;
  /** What the upstream would call itself in a Location; empty for a socket. The port of its scheme is left out. */
  readonly authority: string;
  /** TLS is spoken with it. */
  readonly secure: boolean;
  readonly target: UpstreamTarget;
  readonly nearness: Nearness;
}

export type UpstreamTarget =
  | {
      readonly kind: 'tcp';
      readonly host: string;
      /** The first, where it is a range. */
      readonly port: number;
      /** Of a range. */
      readonly lastPort?: number;
    }
  | { readonly kind: 'unix'; readonly path: string };

/** Reads an upstream. Nothing before an `@` is ever repeated. */
export function parseUpstream(text: string): Parsed<ParsedUpstream> {
  if (text === '') return refused(`an upstream is not empty; allowed is ${UPSTREAM_FORM}`);
  if (/[\s\p{Cc}]/u.test(text))
    return refused(`there is a blank or control character in it; allowed is ${UPSTREAM_FORM}`);
  if (text.startsWith('unix:')) return parseSocket(text.slice('unix:'.length));
  if (text.startsWith('/'))
    return refused(`allowed is ${UPSTREAM_FORM}`, 'a unix socket is written unix:/path/of.sock');
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text);
  if (scheme === null) return refuseWithoutScheme(text);
  const rest = text.slice(scheme[0].length);
  if (rest.includes('@')) {
    return refused(
      'a user name or password does not belong into a URL',
      'use upstream_auth: { type: basic, username: NAME, password: { file: PATH } }',
    );
  }
  const name = (scheme[1] ?? '').toLowerCase();
  if (name === 'ws') return refused('WebSockets go through http:// as well', `write http://${hostOf(rest)}`);
  if (name === 'wss') return refused('WebSockets go through https:// as well', `write https://${hostOf(rest)}`);
  if (name !== 'http' && name !== 'https') return refused(`this scheme is not supported; allowed is ${UPSTREAM_FORM}`);
  if (/[?#]/.test(rest)) return refused('a query or fragment does not belong here', `write ${name}://${hostOf(rest)}`);
  if (rest.includes('/')) {
    return refused(
      'a path does not belong here: requests keep the path they came with',
      `write ${name}://${hostOf(rest)}`,
    );
  }
  return parseAuthority(rest, name);
}

/** Reads the upstream of a tcp listener. Nothing before an `@` is ever repeated. */
export function parseTcpUpstream(text: string): Parsed<ParsedUpstream> {
  if (text === '') return refused(`an upstream is not empty; allowed is ${TCP_UPSTREAM_FORM}`);
  if (/[\s\p{Cc}]/u.test(text))
    return refused(`there is a blank or control character in it; allowed is ${TCP_UPSTREAM_FORM}`);
  if (text.startsWith('unix:')) return parseSocket(text.slice('unix:'.length));
  if (text.startsWith('/'))
    return refused(`allowed is ${TCP_UPSTREAM_FORM}`, 'a unix socket is written unix:/path/of.sock');
  if (text.includes('@')) return refused('a user name does not belong here: who asks, says it to the service itself');
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text);
  const rest = text.slice(scheme?.[0].length ?? 0);
  const again = /^[A-Za-z0-9.:[\]-]{1,64}$/.test(rest) ? `write tcp://${rest}` : undefined;
  if (scheme === null) return refused(`allowed is ${TCP_UPSTREAM_FORM}`, again);
  if (scheme[1]?.toLowerCase() !== 'tcp')
    return refused(`a tcp listener passes bytes on and speaks nothing else; allowed is ${TCP_UPSTREAM_FORM}`, again);
  if (/[/?#]/.test(rest))
    return refused('a path, query or fragment does not belong here', 'write tcp://127.0.0.1:PORT');
  const range = /^(.*:)(\d{1,5})-(\d{1,5})$/.exec(rest);
  if (range === null) {
    if (!/:\d{1,5}$/.test(rest)) return refused('the port is missing', 'write tcp://127.0.0.1:PORT');
    return parseAuthority(rest, 'tcp');
  }
  const [, host = '', firstText = '', lastText = ''] = range;
  const first = parseAuthority(`${host}${firstText}`, 'tcp');
  const ports = parsePortRange(firstText, lastText);
  if (!first.ok) return first;
  if (!ports.ok) return ports;
  const { name, target } = first.value;
  if (target.kind !== 'tcp') throw new TypeError('an address and a port are no unix socket');
  const { last } = ports.value;
  return parsed({ ...first.value, name: `${name}-${last}`, target: { ...target, lastPort: last } });
}

function parseSocket(text: string): Parsed<ParsedUpstream> {
  const path = parseSocketPath(text);
  if (!path.ok) return path;
  const target = { kind: 'unix', path: path.value } as const;
  return parsed({ name: `unix:${path.value}`, authority: '', secure: false, target, nearness: 'loopback' });
}

function parseAuthority(text: string, scheme: Scheme = 'http'): Parsed<ParsedUpstream> {
  if (!text.includes('[') && text.split(':').length > 2) {
    const last = text.lastIndexOf(':');
    const written = parseAddress(text.slice(0, last)) === null ? '::1' : text.slice(0, last);
    return refused(
      'an IPv6 address stands in brackets',
      `write "${scheme}://[${written}]:${/^\d+$/.test(text.slice(last + 1)) ? text.slice(last + 1) : 'PORT'}"`,
    );
  }
  const split = /^(\[[^[\]]*\]|[^:[\]]*)(?::(.*))?$/.exec(text);
  if (split === null) return refused(`allowed is ${UPSTREAM_FORM}`);
  const hostText = split[1] ?? '';
  const portText = split[2] ?? (scheme === 'https' ? '443' : '80');
  if (hostText === '') return refused('the host is missing', `write ${scheme}://127.0.0.1:PORT`);
  if (!/^\d{1,5}$/.test(portText) || /^0\d/.test(portText) || Number(portText) > 65535 || Number(portText) === 0) {
    return refused('the port of an upstream is a number from 1 to 65535');
  }
  if (hostText.includes('%')) return refused('a zone id (the part from %) is not supported');
  const bracketed = hostText.startsWith('[');
  const address = parseAddress(bracketed ? hostText.slice(1, -1) : hostText);
  if (bracketed && (address === null || !hostText.includes(':'))) {
    return refused('there is no valid IPv6 address between the brackets');
  }
  const port = Number(portText);
  if (address !== null) {
    const nearness = isLoopback(address) ? 'loopback' : 'remote';
    return parsed(tcp(formatAddress(address), port, nearness, scheme));
  }
  const name = parseHostName(hostText);
  if (!name.ok) return name;
  return parsed(tcp(name.value, port, name.value === 'localhost' ? 'loopback' : 'name', scheme));
}

function tcp(host: string, port: number, nearness: Nearness, scheme: Scheme): ParsedUpstream {
  const secure = scheme === 'https';
  const written = host.includes(':') ? `[${host}]` : host;
  return {
    name: `${secure ? 'https://' : ''}${written}:${port}`,
    authority: authorityOf(host, port, secure),
    secure,
    target: { kind: 'tcp', host, port },
    nearness,
  };
}

/** As a Host field says it. */
export function authorityOf(host: string, port: number, secure: boolean): string {
  const written = host.includes(':') ? `[${host}]` : host;
  return port === (secure ? 443 : 80) ? written : `${written}:${port}`;
}

/** The fix for an upstream that is not loopback. */
export function loopbackHint(upstream: ParsedUpstream, scheme: Scheme): string {
  const port = upstream.target.kind === 'tcp' ? upstream.target.port : 80;
  const ports = /:(\d+-\d+)$/.exec(upstream.name)?.[1] ?? port;
  const address = upstream.target.kind === 'tcp' ? parseAddress(upstream.target.host) : null;
  if (address !== null && isUnspecified(address)) return `write ${scheme}://127.0.0.1:${ports}`;
  if (scheme === 'tcp') return `run guardbee on the machine of the service and write tcp://127.0.0.1:${ports}`;
  return `run guardbee on the machine of the service and write http://127.0.0.1:${port}; unsafe_remote_upstream: true sends requests over the network unprotected`;
}

function refuseWithoutScheme(text: string): Parsed<never> {
  if (text.includes('@')) return refused(`allowed is ${UPSTREAM_FORM}`);
  const guess = /^\d{1,5}$/.test(text) ? `127.0.0.1:${text}` : text;
  const read = parseAuthority(guess.replace(/[/?#].*$/, ''));
  return refused(`allowed is ${UPSTREAM_FORM}`, read.ok ? `write http://${read.value.authority}` : undefined);
}

/** Host and port alone, for a hint; only when they are nothing else. */
function hostOf(rest: string): string {
  const authority = rest.replace(/[/?#].*$/, '');
  return parseAuthority(authority).ok ? authority : '127.0.0.1:PORT';
}
