import {
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  constants,
  createServer,
} from 'node:http2';
import type { Socket } from 'node:net';
import type { RawHead } from '../http/message.js';
import type { Caller } from '../identity/caller.js';
import { handle } from './handle.js';
import { Http2Answer } from './http2-answer.js';
import { Http2Pulse } from './http2-pulse.js';
import type { HttpTerms } from './terms.js';

/** Streams one client may have open at once on a connection (RFC 9113 §5.1.2 asks for at least 100). */
const MOST_STREAMS = 100;
/**
 * Streams that may break off on one connection, at once and in each second after that (CVE-2023-44487): three pages of
 * a browser that are left while everything on them loads. nghttp2 has a limit of its own, but it is wider, and after it
 * the connection lingers.
 */
const MOST_RESETS = 300;
const RESETS_PER_SECOND = 30;

export interface Http2Hooks {
  sessionOpened(session: ServerHttp2Session): void;
}

export interface Http2Speaker {
  /** Takes over a connection whose TLS is up. */
  accept(socket: Socket, peer: Caller): void;
}

/** HTTP/2 for one listener. */
export function http2Server(terms: HttpTerms, hooks: Http2Hooks): Http2Speaker {
  const { limits, timeouts } = terms.listener;
  const server = createServer({
    maxHeaderListPairs: limits.headFields * 2 + 32,
    maxSendHeaderBlockLength: 1024 * 1024,
    settings: {
      enablePush: false,
      maxConcurrentStreams: MOST_STREAMS,
      // RFC 9113 counts 32 bytes more for each field; ours is the limit that answers, this one resets.
      maxHeaderListSize: limits.headBytes + 32 * (limits.headFields + 32) + 4096,
    },
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
  });
  // A session shows its socket only through a proxy object, so the peer is kept by session.
  const peers = new WeakMap<object, Caller>();
  /** Whose connection is being handed over: its session is made before that returns. */
  let arriving: Caller | null = null;
  server.on('session', (session: ServerHttp2Session) => {
    if (arriving !== null) peers.set(session, arriving);
    superviseSession(session, timeouts.keepAliveMs);
    hooks.sessionOpened(session);
  });
  server.on('sessionError', () => undefined);
  server.on(
    'stream',
    (stream: ServerHttp2Stream, _headers: IncomingHttpHeaders, flags: number, raw?: readonly string[]) => {
      const { session } = stream;
      const peer = session === undefined ? undefined : peers.get(session);
      const head = rawHead(raw ?? [], (flags & constants.NGHTTP2_FLAG_END_STREAM) === 0);
      const answer = new Http2Answer(stream, head.method);
      if (peer === undefined) {
        answer.abort();
        return;
      }
      handle(terms.listener, head, peer, answer, null, terms.around);
    },
  );
  return {
    accept: (socket, peer) => {
      arriving = peer;
      server.emit('connection', socket);
      arriving = null;
    },
  };
}

/** An idle connection is closed after the keep-alive time; one with open streams never is, however silent they are. */
function superviseSession(session: ServerHttp2Session, keepAliveMs: number): void {
  let open = 0;
  let resets = 0;
  let countedAt = performance.now();
  const pulse = new Http2Pulse(session);
  const arm = (): void => {
    session.setTimeout(keepAliveMs);
  };
  session.on('error', () => undefined);
  session.on('stream', (stream: ServerHttp2Stream) => {
    open += 1;
    if (open === 1) session.setTimeout(0);
    pulse.start();
    // By the client's own word, or because it broke a rule on purpose (CVE-2025-8671): the work was begun either way.
    stream.once('aborted', () => {
      const now = performance.now();
      resets = Math.max(0, resets - ((now - countedAt) / 1_000) * RESETS_PER_SECOND) + 1;
      countedAt = now;
      if (resets <= MOST_RESETS || session.destroyed) return;
      session.destroy(new Error('too many streams were reset'), constants.NGHTTP2_ENHANCE_YOUR_CALM);
    });
    stream.once('close', () => {
      open -= 1;
      if (open === 0 && !session.destroyed) arm();
      if (open === 0) pulse.stop();
    });
  });
  session.on('timeout', () => {
    if (open === 0) session.destroy();
  });
  arm();
}

function rawHead(raw: readonly string[], moreFollows: boolean): RawHead {
  let method = '';
  let target = '';
  let authority: string | null = null;
  const fields: string[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] ?? '';
    const value = raw[i + 1] ?? '';
    if (!name.startsWith(':')) fields.push(name, value);
    else if (name === ':method') method = value;
    else if (name === ':path') target = value;
    else if (name === ':authority') authority = value;
    // `:scheme` is what the client believes; what counts is that TLS ended here.
  }
  return { protocol: '2', scheme: 'https', method, target, authority, fields, moreFollows };
}
