import { formatAddress, formatAddressAndPort, isLoopback, parseAddress } from '../net/address.js';
import type { Address } from '../net/address.js';
import { parseCidr } from '../net/cidr.js';
import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';
import { parseSocketPath } from './socket-path.js';

export const BIND_FORM = 'an address and a port such as 127.0.0.1:8443, "[::1]:8443" or 0.0.0.0:443';

export const BIND_PORTS_FORM =
  'an address and a port or a range of ports such as 192.168.1.10:2222 or 192.168.1.10:9000-9099';

/** Ports of one range. Each is a socket of its own. */
export const MOST_PORTS = 1024;

export const BIND_OR_SOCKET_FORM = `${BIND_FORM}; on an outbound listener also unix:/path/of.sock`;

export interface ParsedBind {
  /** IP literal, without brackets. */
  readonly host: string;
  readonly address: Address;
  /** The first, where it is a range. */
  readonly port: number;
  /** Of a range. */
  readonly lastPort?: number;
  readonly loopback: boolean;
  /** Of a unix socket, absolute; then the address is loopback and the port 0. */
  readonly path?: string;
}

/** Reads an address to listen on. Names other than `localhost` are refused: what they resolve to may change. */
export function parseBind(text: string): Parsed<ParsedBind> {
  if (text === '') return refused(`an address is not empty; allowed is ${BIND_FORM}`);
  if (/\s/.test(text)) return refused(`there is a blank in the address; allowed is ${BIND_FORM}`);
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) {
    return refused(
      'this is a URL; allowed is an address and a port',
      'leave out the scheme and the path; TLS is switched on by tls',
    );
  }
  if (/^unix:|^\//.test(text)) return refused(`listening on a unix socket is not supported; allowed is ${BIND_FORM}`);
  if (/^(?:fd|fdgram|systemd|sd)[:/@]/i.test(text)) {
    return refused(
      'this names a socket that is handed over, and not where it is',
      'write bind: ADDRESS:PORT, which is judged, and socket: NAME beside it, as FileDescriptorName= of the .socket unit says',
    );
  }
  if (text.includes('%')) {
    return refused('a zone id (the part from %) is not supported', 'bind an address that is not link-local, or [::]');
  }
  if (/^\d{1,5}$/.test(text)) return refused('the address is missing', `write 127.0.0.1:${text}`);

  const bracketed = /^\[([^[\]]*)\](?::(\d*))?$/.exec(text);
  if (bracketed !== null) return parseBracketed(bracketed[1] ?? '', bracketed[2]);
  if (text.includes('[') || text.includes(']')) return refused(`the brackets are not closed; allowed is ${BIND_FORM}`);

  const colons = text.split(':').length - 1;
  if (colons > 1) return refuseUnbracketed(text);
  if (colons === 0) return refuseWithoutPort(text);
  const colon = text.indexOf(':');
  const hostText = text.slice(0, colon);
  const port = parsePort(text.slice(colon + 1));
  if (hostText === '' || hostText === '*') {
    const wanted = port.ok ? port.value : 8443;
    return refused(
      hostText === '' ? 'the address is missing' : '"*" is not an address',
      `write 127.0.0.1:${wanted} for this machine alone, or 0.0.0.0:${wanted} for every IPv4 address`,
    );
  }
  if (!port.ok) return port;
  if (hostText.toLowerCase() === 'localhost') return bindTo(LOOPBACK, port.value);
  const address = parseAddress(hostText);
  if (address !== null) return bindTo(address, port.value);
  if (/^[\d.]+$/.test(hostText)) {
    const why = parseCidr(hostText);
    return why.ok ? refused(`allowed is ${BIND_FORM}`) : refused(why.problem, withPort(why.hint, port.value));
  }
  return refused(
    'a name is not an address to bind: what it resolves to may change',
    'write the address itself, or localhost',
  );
}

/** Reads an address to listen on, or a unix socket. */
export function parseBindOrSocket(text: string): Parsed<ParsedBind> {
  if (text.startsWith('/')) return refused('a unix socket is written unix:/path/of.sock', `write unix:${text}`);
  if (!text.startsWith('unix:')) return parseBind(text);
  const path = parseSocketPath(text.slice('unix:'.length));
  if (!path.ok) return path;
  return parsed({ host: '127.0.0.1', address: LOOPBACK, port: 0, loopback: true, path: path.value });
}

const LOOPBACK: Address = { family: 4, words: [0, 0, 0xffff, 0x7f000001] };

/** Reads an address to listen on with one port, or with a range of them. */
export function parseBindPorts(text: string): Parsed<ParsedBind> {
  const found = /^(.*):(\d{1,5})-(\d{1,5})$/.exec(text);
  if (found === null) {
    return /-\d*$/.test(text) && !/^[a-z]/i.test(text) ? refused(`allowed is ${BIND_PORTS_FORM}`) : parseBind(text);
  }
  const [, host = '', first = '', last = ''] = found;
  const bind = parseBind(`${host}:${first}`);
  if (!bind.ok) return bind;
  const range = parsePortRange(first, last);
  return range.ok ? parsed({ ...bind.value, lastPort: range.value.last }) : range;
}

/** `9000-9099`: each at least 1, without leading zeros, the second greater. */
export function parsePortRange(
  firstText: string,
  lastText: string,
): Parsed<{ readonly first: number; readonly last: number }> {
  const first = parsePort(firstText);
  if (!first.ok) return first;
  const last = parsePort(lastText);
  if (!last.ok) return last;
  if (first.value === 0) return refused('a range begins with port 1 or later: 0 would be any free port');
  if (last.value <= first.value) return refused('the last port of a range is greater than the first');
  if (last.value - first.value >= MOST_PORTS) return refused(`a range has at most ${MOST_PORTS} ports`);
  return parsed({ first: first.value, last: last.value });
}

function parseBracketed(inside: string, portText: string | undefined): Parsed<ParsedBind> {
  const address = parseAddress(inside);
  if (address === null) return refused('there is no valid IPv6 address between the brackets');
  if (!inside.includes(':'))
    return refused('brackets are for IPv6 addresses', `write ${formatAddress(address)}:${portText ?? '8443'}`);
  if (portText === undefined) return refused('the port is missing', `write "[${inside}]:8443"`);
  const port = parsePort(portText);
  return port.ok ? bindTo(address, port.value) : port;
}

/** `::1:8443` is the address ::1:8443 to one reader and port 8443 of ::1 to another. */
function refuseUnbracketed(text: string): Parsed<never> {
  const last = text.lastIndexOf(':');
  const host = parseAddress(text.slice(0, last));
  const problem = 'an IPv6 address stands in brackets, so that the port can be told from it';
  if (host !== null && /^\d{1,5}$/.test(text.slice(last + 1))) {
    return refused(problem, `write "[${text.slice(0, last)}]:${text.slice(last + 1)}"`);
  }
  if (parseAddress(text) !== null) return refused(problem, `write "[${text}]:8443"`);
  return refused(`allowed is ${BIND_FORM}`);
}

function refuseWithoutPort(text: string): Parsed<never> {
  const address = parseAddress(text);
  if (address !== null || text.toLowerCase() === 'localhost')
    return refused('the port is missing', `write ${text}:8443`);
  return refused(`allowed is ${BIND_FORM}`);
}

/** 0 is allowed: the system picks a free one. */
function parsePort(text: string): Parsed<number> {
  if (text === '') return refused('the port is missing');
  if (!/^\d+$/.test(text)) return refused('a port is a number from 0 to 65535');
  if (text.length > 1 && text.startsWith('0')) return refused('the port has a leading zero');
  if (text.length > 5 || Number(text) > 65535) return refused('a port is a number from 0 to 65535');
  return parsed(Number(text));
}

/** A hint about an address, completed to one about a bind. */
function withPort(hint: string | undefined, port: number): string | undefined {
  const one = /^write ([\d.]+)$/.exec(hint ?? '')?.[1];
  return one === undefined ? undefined : `write ${one}:${port}`;
}

function bindTo(address: Address, port: number): Parsed<ParsedBind> {
  return parsed({ host: formatAddress(address), address, port, loopback: isLoopback(address) });
}

/** `127.0.0.1:8443`, `[::1]:8443`, `192.168.1.10:9000-9099`, `unix:/run/link.sock`. */
export function formatBind({ address, port, lastPort, path }: ParsedBind): string {
  if (path !== undefined) return `unix:${path}`;
  return `${formatAddressAndPort(address, port)}${lastPort === undefined ? '' : `-${lastPort}`}`;
}
