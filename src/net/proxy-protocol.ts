/**
 * The PROXY protocol, versions 1 and 2: how a proxy that passes bytes on says who connected to it, in a header before
 * the first byte. Read and written as https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt has it.
 */
import { addressOf, formatAddress, parseAddress } from './address.js';
import type { Address, AddressWords } from './address.js';

export interface Endpoint {
  readonly address: Address;
  readonly port: number;
}

/** The two ends of the connection that a proxy passes on. */
export interface ProxiedConnection {
  readonly source: Endpoint;
  readonly destination: Endpoint;
}

export type ProxyHeader =
  /** All that came so far may be the beginning of one. */
  | { readonly kind: 'more' }
  | { readonly kind: 'malformed' }
  | {
      readonly kind: 'header';
      /** In bytes; what follows belongs to whoever connected. */
      readonly length: number;
      /** Null: the proxy speaks for itself (`LOCAL`), or does not say for whom (`UNKNOWN`, `AF_UNSPEC`). */
      readonly connection: ProxiedConnection | null;
    };

/**
 * The longest header that is read, TLVs included: what fits into one segment of the smallest TCP that there is
 * (§2.2), so that no sender may rely on more.
 */
export const MOST_HEADER_BYTES = 536;

/** `PROXY UNKNOWN ` and what a sender may put behind it, with CR LF (§2.1). */
const MOST_V1_BYTES = 107;
const V1_START = Buffer.from('PROXY ', 'latin1');
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
/** Signature, version and command, family and protocol, length. */
const V2_FIXED_BYTES = 16;

const MORE: ProxyHeader = Object.freeze({ kind: 'more' });
const MALFORMED: ProxyHeader = Object.freeze({ kind: 'malformed' });

/**
 * Reads the header at the beginning of `bytes`, which is all that came so far. Says `malformed` at the first byte that
 * no header can have there, and never asks for more than `MOST_HEADER_BYTES`. TLVs are passed over. Never throws.
 */
export function readProxyHeader(bytes: Buffer): ProxyHeader {
  if (bytes.length === 0) return MORE;
  if (bytes[0] === SIGNATURE[0]) return readBinary(bytes);
  return begins(bytes, V1_START) ? readText(bytes) : MALFORMED;
}

/** Are the bytes the start, or a part of it. */
function begins(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

function readText(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, MOST_V1_BYTES).indexOf('\n');
  if (end < 0) return bytes.length < MOST_V1_BYTES ? MORE : MALFORMED;
  if (bytes[end - 1] !== 0x0d) return MALFORMED;
  const line = bytes.toString('latin1', V1_START.length, end - 1);
  const length = end + 1;
  // What follows it is to be ignored (§2.1).
  if (line === 'UNKNOWN' || line.startsWith('UNKNOWN ')) return { kind: 'header', length, connection: null };
  const [family, from = '', to = '', fromPort = '', toPort = '', ...others] = line.split(' ');
  if ((family !== 'TCP4' && family !== 'TCP6') || others.length > 0) return MALFORMED;
  const source = readEndpoint(from, fromPort, family);
  const destination = readEndpoint(to, toPort, family);
  if (source === null || destination === null) return MALFORMED;
  return { kind: 'header', length, connection: { source, destination } };
}

function readEndpoint(text: string, portText: string, family: 'TCP4' | 'TCP6'): Endpoint | null {
  if (text.includes(':') !== (family === 'TCP6')) return null;
  const address = parseAddress(text);
  const port = /^(?:0|[1-9]\d{0,4})$/.test(portText) ? Number(portText) : 65_536;
  return address === null || port > 65_535 ? null : { address, port };
}

function readBinary(bytes: Buffer): ProxyHeader {
  if (!begins(bytes, SIGNATURE)) return MALFORMED;
  const versionAndCommand = bytes[12];
  // 0x2_: version 2; command 0 is LOCAL, 1 is PROXY, and all others must be refused (§2.2).
  if (versionAndCommand !== undefined && versionAndCommand !== 0x20 && versionAndCommand !== 0x21) return MALFORMED;
  if (bytes.length < V2_FIXED_BYTES) return MORE;
  const length = V2_FIXED_BYTES + bytes.readUInt16BE(14);
  const familyAndProtocol = bytes[13] ?? 0;
  const local = versionAndCommand === 0x20;
  const need = local ? 0 : addressBytes(familyAndProtocol);
  if (need === null || length > MOST_HEADER_BYTES || length < V2_FIXED_BYTES + need) return MALFORMED;
  if (bytes.length < length) return MORE;
  if (need === 0) return { kind: 'header', length, connection: null };
  const size = need === 12 ? 4 : 16;
  const at = V2_FIXED_BYTES;
  const source = { address: addressAt(bytes, at, size), port: bytes.readUInt16BE(at + 2 * size) };
  const destination = { address: addressAt(bytes, at + size, size), port: bytes.readUInt16BE(at + 2 * size + 2) };
  return { kind: 'header', length, connection: { source, destination } };
}

/**
 * Length of the addresses of a PROXY command; null for what cannot be who connected to a stream over IP: datagrams, the
 * paths of unix sockets, and values that nobody has given a meaning.
 */
function addressBytes(familyAndProtocol: number): number | null {
  switch (familyAndProtocol) {
    case 0x00:
      return 0;
    case 0x11:
      return 12;
    case 0x21:
      return 36;
    default:
      return null;
  }
}

function addressAt(bytes: Buffer, at: number, size: 4 | 16): Address {
  if (size === 4) return addressOf([0, 0, 0xffff, bytes.readUInt32BE(at)]);
  return addressOf([0, 4, 8, 12].map((offset) => bytes.readUInt32BE(at + offset)) as unknown as AddressWords);
}

/** The header that says it, in version 1 or 2. Where the two ends are of different families, both are written as IPv6. */
export function proxyHeader(version: 'v1' | 'v2', { source, destination }: ProxiedConnection): Buffer {
  const v4 = source.address.family === 4 && destination.address.family === 4;
  if (version === 'v1') {
    const [from, to] = [source, destination].map(({ address }) => (v4 ? formatAddress(address) : inV6(address)));
    const line = `PROXY ${v4 ? 'TCP4' : 'TCP6'} ${from ?? ''} ${to ?? ''} ${source.port} ${destination.port}\r\n`;
    return Buffer.from(line, 'latin1');
  }
  const size = v4 ? 4 : 16;
  const header = Buffer.alloc(V2_FIXED_BYTES + 2 * size + 4);
  SIGNATURE.copy(header);
  header[12] = 0x21;
  header[13] = v4 ? 0x11 : 0x21;
  header.writeUInt16BE(2 * size + 4, 14);
  let at = V2_FIXED_BYTES;
  for (const { address } of [source, destination]) {
    for (const word of v4 ? address.words.slice(3) : address.words) at = header.writeUInt32BE(word, at);
  }
  header.writeUInt16BE(source.port, at);
  header.writeUInt16BE(destination.port, at + 2);
  return header;
}

/** The text of an IPv4 address as IPv6 has it. */
function inV6(address: Address): string {
  const text = formatAddress(address);
  return address.family === 4 ? `::ffff:${text}` : text;
}
