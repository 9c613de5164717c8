import { once } from 'node:events';
import { type AddressInfo, BlockList, type Server, type Socket, type SocketAddress, createServer } from 'node:net';
import type { Bind, Listener } from '../policy/policy.js';
import type { InheritedSockets } from './inherited-sockets.js';
import { listenAt } from './socket-file.js';

/** The sockets that a listener accepts connections on. */
export interface Fronts {
  /** Of the first port. */
  readonly address: AddressInfo;
  /** Connections are accepted, on all ports. */
  readonly listening: boolean;
  /** Resolves when no more is accepted, and the last connection that was accepted here is gone. */
  readonly ended: Promise<void>;
  /** Accepts as many as that listener may have. */
  limit(listener: Listener): void;
  /** Accepts nothing more. */
  close(): void;
}

/**
 * @param inherited where its sockets come from, if the listener is to open none of its own
 * @param turnsAway asked of each connection by the address of its peer, where Node can: true ends it before there is more than that.
 * Where Node can't, `connected` is told of it.
 * @param connected told of each connection, and of which of the ports it came to, from 0
 * @param dropped told of a connection that the system has dropped, since there were too many
 * @param passedOn connections are not read from here, but given to another process
 */
export async function openFronts(
  listener: Listener,
  inherited: InheritedSockets | null,
  turnsAway: (peer: string) => boolean,
  connected: (socket: Socket, nth: number) => void,
  dropped: (peer: string | null) => void,
  passedOn = false,
): Promise<Fronts> {
  const fronts: Server[] = [];
  const doorkeeper = new Doorkeeper(turnsAway);
  const close = (): void => {
    for (const front of fronts) front.close();
  };
  const { bind } = listener;
  const { host, port, path } = bind;
  const count = listener.type === 'tcp' ? listener.lastPort - port + 1 : 1;
  for (let nth = 0; nth < count; nth += 1) {
    const front = createServer({ allowHalfOpen: true, pauseOnConnect: passedOn, ...doorkeeper.option });
    if (!passedOn) front.maxConnections = listener.limits.connections;
    front.on('drop', (data) => {
      dropped(data?.remoteAddress ?? null);
    });
    front.on('connection', (socket: Socket) => {
      connected(socket, nth);
    });
    try {
      if (path !== undefined) await listenAt(front, path);
      else await listen(front, bind.socket === null ? { host, port: port + nth } : claimed(inherited, bind, nth));
    } catch (error) {
      close();
      throw error;
    }
    fronts.push(front);
  }
  return {
    address: path === undefined ? (fronts[0]?.address() as AddressInfo) : { address: path, port: 0, family: 'unix' },
    get listening() {
      return fronts.every((front) => front.listening);
    },
    ended: Promise.all(fronts.map((front) => once(front, 'close'))).then(() => undefined),
    limit: ({ limits }) => {
      if (!passedOn) for (const front of fronts) front.maxConnections = limits.connections;
    },
    close,
  };
}

/** How connections are kept that may stay. Those that may not are not worth the system calls. */
export function keepOpen(socket: Socket): void {
  socket.setNoDelay(true);
  socket.setKeepAlive(true, 60_000);
}

/**
 * What Node asks of each address before it makes a socket of the connection, from 22.13 on (`blockList`): half of what a
 * refusal costs is that socket. The answer is ours.
 */
class Doorkeeper extends BlockList {
  readonly #turnsAway: (peer: string) => boolean;

  constructor(turnsAway: (peer: string) => boolean) {
    super();
    this.#turnsAway = turnsAway;
  }

  /** An option that the types of Node 20 do not know. */
  get option(): object {
    return { blockList: this };
  }

  override check(address: string | SocketAddress): boolean {
    return this.#turnsAway(typeof address === 'string' ? address : address.address);
  }
}

/** The policy was refused where a socket that it names was not handed over. */
function claimed(inherited: InheritedSockets | null, bind: Bind, nth: number): Socket {
  if (inherited === null) throw new TypeError('a listener was to take a socket, and there are none');
  return inherited.claim(bind, nth);
}

/** Connections that wait to be accepted, as nginx has it. */
const BACKLOG = 511;

/** Of sockets that systemd opened: as many as the system allows (net.core.somaxconn), as is systemd's own default. */
const LARGEST_BACKLOG = 2 ** 31 - 1;

/** @param at an address of ours, or a socket that is there already */
function listen(server: Server, at: { readonly host: string; readonly port: number } | Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const listening = (): void => {
      server.off('error', reject);
      // EMFILE and the like while accepting: the connection is lost, the listener is not.
      server.on('error', () => undefined);
      resolve();
    };
    if ('host' in at) server.listen({ ...at, backlog: BACKLOG }, listening);
    else server.listen(at, LARGEST_BACKLOG, listening);
  });
}
