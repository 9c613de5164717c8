import type { AddressInfo, Socket } from 'node:net';
import { peerAllowed } from '../gate/admit.js';
import { formatAddress, parsePeerAddress } from '../net/address.js';
import type { Listener } from '../policy/policy.js';
import { type ConnectionEvents, turnsAway } from '../server/connection-events.js';
import { ConnectionsPerAddress } from '../server/connections-per-address.js';
import { type Fronts, keepOpen, openFronts } from '../server/fronts.js';
import type { InheritedSockets } from '../server/inherited-sockets.js';
import type { OpenListener } from '../server/listener.js';
import { doorOf } from './protocol.js';

/** What a connection has here until it is over. */
export interface Place {
  /** As it was called when the connection came. */
  readonly listener: string;
  /** Among those of its address. */
  readonly address: string;
}

type Pass = (door: Door, nth: number, place: Place, socket: Socket) => void;

/**
 * A listener of the owner: it accepts connections, judges where they come from and how many there are, and passes them
 * on. Not a byte is read from them here.
 */
export class Door implements OpenListener {
  listener: Listener;
  /** The same in all processes, whatever policy is in force. */
  readonly name: string;
  readonly ended: Promise<void>;
  readonly #events: ConnectionEvents;
  readonly #pass: Pass;
  readonly #perAddress: ConnectionsPerAddress;
  #fronts: Fronts | null = null;
  #size = 0;
  #accepting = true;
  #end: () => void = () => undefined;

  private constructor(listener: Listener, events: ConnectionEvents, pass: Pass) {
    this.listener = listener;
    this.name = doorOf(listener);
    this.#events = events;
    this.#pass = pass;
    this.#perAddress = new ConnectionsPerAddress(listener);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  /** Rejects with the system's error when an address can't be had. */
  static async open(
    listener: Listener,
    events: ConnectionEvents,
    inherited: InheritedSockets | null,
    pass: Pass,
  ): Promise<Door> {
    const door = new Door(listener, events, pass);
    door.#fronts = await openFronts(
      listener,
      inherited,
      (peer) => turnsAway(door.listener, peer, events),
      (socket, nth) => {
        door.#connected(socket, nth);
      },
      () => undefined,
      true,
    );
    return door;
  }

  get address(): AddressInfo {
    if (this.#fronts === null) throw new TypeError('it is not open yet');
    return this.#fronts.address;
  }

  get listening(): boolean {
    return this.#fronts?.listening ?? false;
  }

  /** One that was passed on is over. */
  closed(place: Place): void {
    this.#size -= 1;
    this.#perAddress.giveBack(place.address);
    this.#events.closed(place.listener);
    this.#checkLast();
  }

  swap(listener: Listener): void {
    this.listener = listener;
    this.#perAddress.listener = listener;
  }

  drain(): void {
    this.#accepting = false;
    this.#fronts?.close();
    this.#checkLast();
  }

  leave(): void {
    this.drain();
  }

  /** Those that were passed on end where they are. */
  destroy(): void {
    this.drain();
    this.#end();
  }

  #checkLast(): void {
    if (!this.#accepting && this.#size === 0) this.#end();
  }

  #connected(socket: Socket, nth: number): void {
    const { listener } = this;
    const address = parsePeerAddress(socket.remoteAddress);
    // It has left already, as those do who only look whether we are there.
    if (address === null || !this.#accepting) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    const text = formatAddress(address);
    if (!peerAllowed(listener, address)) {
      this.#refuse(socket, 'address_denied', text);
      return;
    }
    if (this.#size >= listener.limits.connections) {
      this.#refuse(socket, 'connections_exhausted', text);
      return;
    }
    const place = this.#perAddress.take({ address, text });
    if (place === null) {
      this.#refuse(socket, 'connections_per_address_exhausted', text);
      return;
    }
    keepOpen(socket);
    this.#size += 1;
    this.#events.opened(listener.name);
    this.#pass(this, nth, { listener: listener.name, address: place }, socket);
  }

  #refuse(socket: Socket, reason: Parameters<ConnectionEvents['refused']>[1], peer: string): void {
    this.#events.refused(this.listener.name, reason, peer);
    socket.on('error', () => undefined);
    socket.resetAndDestroy();
  }
}
