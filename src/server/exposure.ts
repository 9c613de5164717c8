/**
 * The other half nobody checks: an upstream that listens on the network itself. A guard in front of it is then walked
 * around by whoever knows the port. Linux says who listens where in /proc/net/tcp and /proc/net/tcp6; this reads it,
 * at start and every ten seconds.
 *
 * What cannot be seen is `unknown`, never `private`: another network namespace (a container's), another machine,
 * another operating system.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { endianness } from 'node:os';
import {
  addressOf,
  formatAddress,
  formatAddressAndPort,
  isLoopback,
  isUnspecified,
  parseAddress,
  sameAddress,
} from '../net/address.js';
import type { Address } from '../net/address.js';
import type { Upstream } from '../policy/policy.js';

/** A TCP socket in state LISTEN. */
export interface ListeningSocket {
  readonly address: Address;
  readonly port: number;
  /** Number of the socket's inode, as in `/proc/PID/fd`. */
  readonly inode: number;
}

export type ExposureState = 'private' | 'exposed' | 'unknown';

export interface Exposure {
  /** Name of the upstream. */
  readonly upstream: string;
  readonly state: ExposureState;
  /** Where the upstream's port listens beyond loopback, as `0.0.0.0:7833` or `[::]:7833`; empty unless exposed. */
  readonly addresses: readonly string[];
  /** What was seen, one clause without full stop. */
  readonly why: string;
  /** Whether anything listens on the upstream's port of this machine; null where that cannot be seen. */
  readonly listening: boolean | null;
}

/** An address that guardbee itself listens on, with the port it really has (not 0). */
export interface OwnBind {
  /** IP literal, without brackets. */
  readonly host: string;
  readonly port: number;
}

export const PROC_FILES = ['/proc/net/tcp', '/proc/net/tcp6'] as const;
export type ProcFile = (typeof PROC_FILES)[number];

/**
 * Text of one of the two files, as far as sockets that listen stand there; throws as `readFileSync` does, with `code`
 * ENOENT where there is no such file.
 */
export type ReadProc = (file: ProcFile) => string;

/** State LISTEN in include/net/tcp_states.h, in hexadecimal as the kernel prints it. */
const LISTEN = '0A';

/** The kernel hands out a page of lines at a time. */
const PIECE_BYTES = 4096;

/**
 * Those that listen come first (Documentation/networking/proc_net_tcp.rst). What follows is a line for each connection of
 * the machine, of which a guard with thousands of streams has two for each: time and memory for nothing.
 */
export function isPastListeners(text: string): boolean {
  const end = text.lastIndexOf('\n');
  if (end === -1) return false;
  const line = text.slice(text.lastIndexOf('\n', end - 1) + 1, end);
  // The first line names the columns.
  return !line.startsWith('  sl') && !line.includes(` ${LISTEN} `);
}

const readProcNow: ReadProc = (file) => {
  const descriptor = openSync(file, 'r');
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let text = '';
    while (!isPastListeners(text)) {
      const count = readSync(descriptor, piece);
      if (count === 0) break;
      text += piece.toString('latin1', 0, count);
    }
    return text;
  } finally {
    closeSync(descriptor);
  }
};

async function readProcSoon(file: ProcFile): Promise<string> {
  const handle = await open(file, 'r');
  try {
    const piece = Buffer.alloc(PIECE_BYTES);
    let text = '';
    while (!isPastListeners(text)) {
      const { bytesRead } = await handle.read(piece, 0, piece.length, null);
      if (bytesRead === 0) break;
      text += piece.toString('latin1', 0, bytesRead);
    }
    return text;
  } finally {
    await handle.close();
  }
}

/** ` sl: local_address:port remote_address:port st tx:rx tr:when retrnsmt uid timeout inode …` (Linux proc_net_tcp). */
const LINE =
  /^ *\d+: ([\dA-F]{8}|[\dA-F]{32}):([\dA-F]{4}) [\dA-F]+:[\dA-F]{4} 0A [\dA-F]+:[\dA-F]+ [\dA-F]+:[\dA-F]+ [\dA-F]+ +\d+ +\d+ (\d+)/u;

/**
 * The listening sockets in the text of /proc/net/tcp or /proc/net/tcp6. Other lines, and lines it cannot read, are
 * passed over. Never throws.
 *
 * @param order byte order of the machine that wrote the text: the kernel prints each 32-bit word of an address, which
 * is in network order in memory, as a number of its own.
 */
export function parseProcNetTcp(text: string, order: 'LE' | 'BE' = endianness()): ListeningSocket[] {
  const sockets: ListeningSocket[] = [];
  // A busy machine has tens of thousands of connections here and a handful of listeners, so lines are sorted out
  // without a regular expression first.
  for (let start = 0; start < text.length;) {
    const newline = text.indexOf('\n', start);
    const end = newline < 0 ? text.length : newline;
    const mark = text.indexOf(` ${LISTEN} `, start);
    if (mark < 0) break;
    if (mark > end) {
      // Nothing listens before `mark`: go on with the line it is in.
      start = text.lastIndexOf('\n', mark) + 1;
      continue;
    }
    const socket = parseLine(text.slice(start, end), order);
    if (socket !== null) sockets.push(socket);
    start = end + 1;
  }
  return sockets;
}

function parseLine(line: string, order: 'LE' | 'BE'): ListeningSocket | null {
  const [, hex = '', port = '', inode = ''] = LINE.exec(line) ?? [];
  if (hex === '') return null;
  const word = (i: number): number => {
    const value = Number.parseInt(hex.slice(i * 8, i * 8 + 8), 16);
    return order === 'BE' ? value : swapped(value);
  };
  const address = addressOf(hex.length === 8 ? [0, 0, 0xffff, word(0)] : [word(0), word(1), word(2), word(3)]);
  return { address, port: Number.parseInt(port, 16), inode: Number(inode) };
}

/** The four bytes of a 32-bit number in the other order, unsigned. */
function swapped(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** What the two files said; null for one that is not there or could not be read. */
type Seen = Readonly<Record<ProcFile, string | null>>;

/**
 * Looks where the port of each upstream listens on this machine. An upstream is `exposed` when some socket listens on
 * its port beyond loopback (0.0.0.0 and :: included) and is not one of guardbee's own; by default it must be assumed
 * that this socket is the upstream's. One entry for each upstream, in their order. Never throws.
 *
 * @param ownBinds compared exactly, address and port: guardbee on 192.168.1.10:7833 before an upstream on
 * 127.0.0.1:7833 exposes nothing, the upstream on 0.0.0.0:7833 does
 */
export function checkExposure(
  upstreams: readonly Upstream[],
  ownBinds: readonly OwnBind[],
  readProc: ReadProc = readProcNow,
): Exposure[] {
  const read = (file: ProcFile): string | null => {
    try {
      return readProc(file);
    } catch (error) {
      return isMissing(error) && file === '/proc/net/tcp6' ? '' : null;
    }
  };
  return judge(upstreams, ownBinds, {
    '/proc/net/tcp': read('/proc/net/tcp'),
    '/proc/net/tcp6': read('/proc/net/tcp6'),
  });
}

/** Without /proc/net/tcp6 the kernel has no IPv6, so nothing listens there; any other failure hides something. */
function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function judge(upstreams: readonly Upstream[], ownBinds: readonly OwnBind[], seen: Seen): Exposure[] {
  const blind = PROC_FILES.filter((file) => seen[file] === null);
  const own = ownBinds.flatMap((bind) => {
    const address = parseAddress(bind.host);
    return address === null ? [] : [{ address, port: bind.port }];
  });
  const foreign = PROC_FILES.flatMap((file) => parseProcNetTcp(seen[file] ?? '')).filter(
    (socket) => !own.some((bind) => bind.port === socket.port && sameAddress(bind.address, socket.address)),
  );
  return upstreams.map((upstream) => judgeOne(upstream, foreign, blind));
}

function judgeOne(upstream: Upstream, foreign: readonly ListeningSocket[], blind: readonly ProcFile[]): Exposure {
  let listening: boolean | null = null;
  const says = (state: ExposureState, why: string, addresses: readonly string[] = []): Exposure =>
    Object.freeze({ upstream: upstream.name, state, addresses: Object.freeze(addresses), why, listening });
  const target = upstream.target;
  if (target.kind === 'unix') return says('private', 'it is a unix socket, which no network reaches');

  const last = target.lastPort ?? target.port;
  const port = last === target.port ? `port ${target.port}` : `one of the ports ${target.port}-${last}`;
  const atPort = foreign.filter((socket) => socket.port >= target.port && socket.port <= last);
  const host = parseAddress(target.host);
  // A remote upstream (`unsafe_remote_upstream`) has its sockets elsewhere; the same port here is another service,
  // unless it is one of this machine's own addresses.
  const remote = !upstream.mustBeLoopback && !(host === null ? target.host === 'localhost' : isLoopback(host));
  if (!remote && blind.length === 0) {
    listening = atPort.some((socket) => isLoopback(socket.address) || isUnspecified(socket.address));
  }
  const beyond = atPort.filter((socket) =>
    remote ? host !== null && sameAddress(socket.address, host) : !isLoopback(socket.address),
  );
  if (beyond.length > 0) {
    const addresses = [...new Set(beyond.map((socket) => formatAddressAndPort(socket.address, socket.port)))];
    const hosts = [...new Set(beyond.map((socket) => formatAddress(socket.address)))];
    return says('exposed', `${port} listens on ${hosts.join(' and ')}, not on loopback alone`, addresses);
  }
  if (remote) return says('unknown', 'the upstream is not on loopback; only its own machine could tell');
  if (blind.length > 0) return says('unknown', `${blind.join(' and ')} could not be read (only Linux has them)`);
  if (atPort.length === 0) {
    return says('unknown', `${port}: not listening now, or in another network namespace`);
  }
  return says(
    'private',
    last === target.port
      ? `${port} listens on loopback alone`
      : `ports ${target.port}-${last}: those that listen do so on loopback alone`,
  );
}

export interface ExposureWatchOptions {
  readonly upstreams: readonly Upstream[];
  readonly ownBinds: readonly OwnBind[];
  /** Called after a check that found something else than the one before, never for the first. Must not throw. */
  readonly onChange: (current: readonly Exposure[], before: readonly Exposure[]) => void;
  /** Between the end of a check and the next one; 10 s when left out. */
  readonly intervalMs?: number;
  /** For tests; the kernel's files when left out. */
  readonly readProc?: ReadProc;
}

/**
 * Looks again and again. The first check is made at once, before `start` returns, so that a start can still be
 * refused; the later ones read in the background, because with many connections the kernel takes milliseconds to write
 * the files out. The timer keeps no process alive. Never throws.
 */
export class ExposureWatch {
  readonly #options: ExposureWatchOptions;
  readonly #intervalMs: number;
  #current: readonly Exposure[];
  #timer: NodeJS.Timeout | null = null;
  /** Counts starts and stops: a check that began before the last one of them has nothing to say any more. */
  #turn = 0;

  constructor(options: ExposureWatchOptions) {
    this.#options = options;
    this.#intervalMs = options.intervalMs ?? 10_000;
    this.#current = options.upstreams.map((upstream) =>
      Object.freeze({
        upstream: upstream.name,
        state: 'unknown',
        addresses: [],
        why: 'not checked yet',
        listening: null,
      }),
    );
  }

  /** What the last check found; every upstream `unknown` before the first. */
  get current(): readonly Exposure[] {
    return this.#current;
  }

  /** Checks once and returns what it found, then again at each interval. A second start does nothing. */
  start(): readonly Exposure[] {
    if (this.#timer === null) {
      const { upstreams, ownBinds, readProc } = this.#options;
      this.#current = checkExposure(upstreams, ownBinds, readProc);
      this.#schedule(++this.#turn);
    }
    return this.#current;
  }

  /** No callback comes after this. */
  stop(): void {
    this.#turn++;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #schedule(turn: number): void {
    this.#timer = setTimeout(() => void this.#checkAgain(turn), this.#intervalMs).unref();
  }

  async #checkAgain(turn: number): Promise<void> {
    const { upstreams, ownBinds, readProc, onChange } = this.#options;
    const found =
      readProc === undefined
        ? judge(upstreams, ownBinds, await readInBackground())
        : checkExposure(upstreams, ownBinds, readProc);
    if (turn !== this.#turn) return;
    this.#schedule(turn);
    const before = this.#current;
    this.#current = found;
    if (JSON.stringify(found) !== JSON.stringify(before)) onChange(found, before);
  }
}

async function readInBackground(): Promise<Seen> {
  const read = async (file: ProcFile): Promise<string | null> => {
    try {
      return await readProcSoon(file);
    } catch (error) {
      return isMissing(error) && file === '/proc/net/tcp6' ? '' : null;
    }
  };
  const [tcp, tcp6] = await Promise.all([read('/proc/net/tcp'), read('/proc/net/tcp6')]);
  return { '/proc/net/tcp': tcp, '/proc/net/tcp6': tcp6 };
}
