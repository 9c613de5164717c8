import type { ServerHttp2Session } from 'node:http2';
import type { Socket } from 'node:net';
import type { Caller } from '../identity/caller.js';
import type { RedirectListener } from '../policy/policy.js';
import type { Surroundings } from './handle.js';
import { type Http1Hooks, http1Server } from './http1.js';
import { http2Server } from './http2.js';
import { redirectServer } from './redirect.js';
import type { HttpTerms } from './terms.js';

/** What takes connections over once they are let in (and their TLS is up). */
export interface Speaker {
  /** @param nth of the listener's ports, from 0 */
  accept(socket: Socket, peer: Caller, nth: number): void;
  drain(): void;
  /** Has had its last connection: ends its timers with those that it has. */
  retire(ended: () => void): void;
  /**
   * Another policy is in force. Connections whose certificates were judged by authorities of before are let go of, at once
   * or after their answer: they may come again, and be judged by these.
   */
  termsChanged(): void;
  /** Ends its timers. */
  stop(): void;
}

export function speakHttp(terms: HttpTerms, scheme: 'http' | 'https', hooks: Http1Hooks): Speaker {
  const sessions = new Set<ServerHttp2Session>();
  const plain = new Set<Socket>();
  const outdated = new WeakMap<ServerHttp2Session, () => boolean>();
  let arriving: Caller | null = null;
  let retired: (() => void) | null = null;
  const http1 = http1Server(terms, scheme, hooks);
  const checkLast = (): void => {
    if (retired === null || sessions.size > 0 || plain.size > 0) return;
    http1.server.close();
    retired();
    retired = null;
  };
  const http2 = http2Server(terms, {
    sessionOpened: (session) => {
      sessions.add(session);
      const caller = arriving;
      if (caller !== null) outdated.set(session, () => terms.outdated(caller));
      session.once('close', () => {
        sessions.delete(session);
        checkLast();
      });
    },
  });
  return {
    accept: (socket, peer) => {
      if ('alpnProtocol' in socket && socket.alpnProtocol === 'h2') {
        // A connection of many streams has no use for a half-close; left half open, it would outlive its client.
        socket.allowHalfOpen = false;
        arriving = peer;
        http2.accept(socket, peer);
        arriving = null;
        return;
      }
      plain.add(socket);
      socket.once('close', () => {
        plain.delete(socket);
        checkLast();
      });
      http1.server.emit('connection', socket);
    },
    drain: () => {
      // GOAWAY: streams in flight end, new ones go elsewhere (RFC 9113 §6.8).
      for (const session of sessions) session.close();
      for (const socket of plain) if (!http1.busy(socket)) socket.destroy();
      http1.server.close();
    },
    retire: (ended) => {
      retired = ended;
      checkLast();
    },
    termsChanged: () => {
      for (const session of sessions) if (outdated.get(session)?.() === true) session.close();
      for (const socket of plain) {
        const caller = hooks.peerOf(socket);
        if (caller !== null && terms.outdated(caller) && !http1.busy(socket)) socket.destroy();
      }
    },
    stop: () => {
      for (const session of sessions) session.destroy();
      http1.server.close();
    },
  };
}

export function speakRedirect(listener: RedirectListener, around: Surroundings, hooks: Http1Hooks): Speaker {
  const server = redirectServer(listener, around, hooks);
  const open = new Set<Socket>();
  let retired: (() => void) | null = null;
  const checkLast = (): void => {
    if (retired === null || open.size > 0) return;
    server.close();
    retired();
    retired = null;
  };
  return {
    accept: (socket) => {
      open.add(socket);
      socket.once('close', () => {
        open.delete(socket);
        checkLast();
      });
      server.emit('connection', socket);
    },
    retire: (ended) => {
      retired = ended;
      checkLast();
    },
    termsChanged: () => undefined,
    drain: () => {
      for (const socket of open) socket.destroySoon();
      server.close();
    },
    stop: () => {
      server.close();
    },
  };
}
