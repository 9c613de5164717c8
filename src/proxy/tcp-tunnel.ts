import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { FailureReason } from '../failure.js';
import { type ConnectionPermit, assertConnectionPermit } from '../gate/admit-connection.js';
import { carry } from './carry.js';
import { openSocket } from './connect.js';
import { upstreamFailure } from './upstream-failure.js';
import type { ConnectedSocket } from './upstream-socket.js';

/** For a client that goes on talking to an upstream that no longer listens. */
const LINGER_MS = 1_000;

export interface TcpTunnelEvents {
  connected(): void;
  /** From the client. */
  bytesIn(count: number): void;
  /** To the client. */
  bytesOut(count: number): void;
  /** Told once. Null: both sides said that they were done. */
  ended(reason: FailureReason | null): void;
}

/**
 * Passes a permitted connection on, byte for byte, whichever side speaks first. Each direction has its own back pressure
 * and its own end: a half that was closed on one side is closed on the other, and the other half goes on. A side that
 * breaks breaks the other at once. Nothing is looked at, and nothing is said by us, but a PROXY header.
 */
export class TcpTunnel {
  readonly #client: Socket;
  readonly #events: TcpTunnelEvents;
  readonly #connecting: { readonly cancel: () => void };
  #upstream: ConnectedSocket | null = null;
  #lingering: NodeJS.Timeout | null = null;
  #over = false;

  /** @param preface what the upstream is told before all else; empty: nothing */
  constructor(permit: ConnectionPermit, client: Socket, preface: Buffer, events: TcpTunnelEvents) {
    assertConnectionPermit(permit);
    this.#client = client;
    this.#events = events;
    client.on('error', () => undefined);
    client.once('close', (hadError: boolean) => {
      this.#closed(client, hadError);
    });
    this.#connecting = openSocket(permit.target, 'stream', (result) => {
      if ('error' in result) this.end(upstreamFailure(result.error));
      else this.#join(result, preface);
    });
    if (client.destroyed) this.end('client_gone');
  }

  /** Ends both sides at once, for a reason of ours. */
  end(reason: FailureReason): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#lingering !== null) clearTimeout(this.#lingering);
    if (this.#upstream === null) this.#connecting.cancel();
    else abort(this.#upstream);
    abort(this.#client);
    this.#events.ended(reason);
  }

  #join(upstream: ConnectedSocket, preface: Buffer): void {
    this.#upstream = upstream;
    const client = this.#client;
    let unwritable = false;
    let stop: (() => void) | null = null;
    // Who says its last word and closes while the client still talks: that word is passed on all the same.
    upstream.onUnwritable = () => {
      unwritable = true;
      stop?.();
      if (upstream.readableEnded) this.#linger();
    };
    upstream.on('error', () => undefined);
    upstream.once('end', () => {
      if (unwritable) this.#linger();
    });
    upstream.once('close', (hadError: boolean) => {
      this.#closed(upstream, hadError);
    });
    this.#events.connected();
    if (preface.length > 0) upstream.write(preface);
    stop = carry(client, upstream, (chunk) => {
      this.#events.bytesIn(chunk.length);
    });
    carry(upstream, client, (chunk) => {
      this.#events.bytesOut(chunk.length);
    });
  }

  /** Waits until the client has heard it all: closing while it talks would reset the connection, and lose that. */
  #linger(): void {
    this.#lingering = setTimeout(() => {
      this.end('upstream_gone');
    }, LINGER_MS);
  }

  #closed(side: Socket, hadError: boolean): void {
    if (this.#over) return;
    const clean = !hadError && side.readableEnded && side.writableFinished;
    if (!clean || this.#lingering !== null) {
      this.end(side === this.#client && this.#lingering === null ? 'client_gone' : 'upstream_gone');
      return;
    }
    if (!this.#client.destroyed || this.#upstream?.destroyed !== true) return;
    this.#over = true;
    this.#events.ended(null);
  }
}

/** Ends a connection so that its other end cannot take what came for all there was. */
export function abort(socket: Socket): void {
  if (socket.destroyed) return;
  socket.on('error', () => undefined);
  // Only TCP itself knows resets. TLS says by a missing close_notify that something is missing (RFC 8446 §6.1).
  if (socket instanceof TLSSocket || socket.remoteFamily === undefined) socket.destroy();
  else socket.resetAndDestroy();
}
