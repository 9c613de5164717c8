import { type IncomingMessage, type Server, ServerResponse, createServer } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { DenialReason } from '../denial.js';
import type { RawHead } from '../http/message.js';
import type { ListenerLimits, ListenerTimeouts } from '../policy/policy.js';
import type { UpgradingClient } from '../proxy/tunnel.js';
import type { Caller } from '../identity/caller.js';
import { handle } from './handle.js';
import { Http1Answer } from './http1-answer.js';
import { denialAnswer } from './respond.js';
import type { HttpTerms } from './terms.js';

/** Requests a client may send ahead of the answers on one connection (RFC 9112 §9.3.2). */
const MOST_PIPELINED = 32;
/** What a client may send after its handshake and before the 101. */
const MOST_EARLY_BYTES = 64 * 1024;

export interface Http1Hooks {
  peerOf(socket: Duplex): Caller | null;
  /** A head that could not be read as HTTP: there is no request, but there is something to say of it. */
  unreadable(
    peer: Caller | null,
    scheme: 'http' | 'https',
    reason: DenialReason,
    requestId: string,
    send: () => void,
  ): void;
}

/** Limits and timeouts of an HTTP/1 server, for every listener that has one. */
export function bareHttp1Server(limits: ListenerLimits, timeouts: ListenerTimeouts): Server {
  const options = {
    // Ours counts exactly and answers; Node's own limit is a little wider, so that ours is the one that speaks.
    maxHeaderSize: limits.headBytes + 4096,
    requireHostHeader: false,
    insecureHTTPParser: false,
    keepAlive: true,
    keepAliveInitialDelay: 60_000,
    noDelay: true,
    headersTimeout: timeouts.headMs,
    // Bodies have their own idle limit; a total one would cut long uploads.
    requestTimeout: 0,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: Math.max(100, Math.min(1_000, timeouts.headMs / 4)),
    // Node 24.12 on: a request without a body is no stream that has yet to end. Others do not know it.
    optimizeEmptyRequests: true,
  };
  const server = createServer(options);
  // Node drops fields beyond its own count without a word, and the rest would still frame the body. We count.
  server.maxHeadersCount = 0;
  server.timeout = 0;
  // Never listens itself: connections are handed to it. This is what starts its check for slow heads.
  server.emit('listening');
  return server;
}

/** Whose turn it is on a connection. */
interface Turn {
  /** Null: nobody's. */
  answer: Http1Answer | null;
  readonly waiting: { readonly request: IncomingMessage; readonly response: ServerResponse }[];
}

export interface Http1Server {
  readonly server: Server;
  /** A request is being answered on this connection, or it carries a WebSocket. */
  busy(socket: Duplex): boolean;
}

/**
 * HTTP/1.1 and 1.0 for one listener. Connections are handed to it with `emit('connection', socket)`; limits and timeouts
 * are those of the listener as it is now.
 */
export function http1Server(terms: HttpTerms, scheme: 'http' | 'https', hooks: Http1Hooks): Http1Server {
  const server = bareHttp1Server(terms.listener.limits, terms.listener.timeouts);
  const turns = new WeakMap<Duplex, Turn>();
  const upgraded = new WeakSet<Duplex>();

  const ask = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    // It was told that its head came too late, and will be told nothing else.
    if (refused.has(socket)) return;
    let turn = turns.get(socket);
    if (turn === undefined) {
      turn = { waiting: [], answer: null };
      turns.set(socket, turn);
    } else if (turn.answer !== null) {
      // Pipelined: one at a time, in order, so that nothing later overtakes an earlier write.
      if (turn.waiting.length >= MOST_PIPELINED) socket.destroy();
      else turn.waiting.push({ request, response });
      return;
    }
    take(turn, request, response);
  };
  const take = (turn: Turn, request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    const peer = hooks.peerOf(socket);
    if (peer === null || socket.destroyed) {
      socket.destroy();
      return;
    }
    const answer = new Http1Answer(request, response, () => {
      turn.answer = null;
      const next = turn.waiting.shift();
      if (next !== undefined) take(turn, next.request, next.response);
      // This answer may have begun before the drain did, and then promised to keep the connection.
      else if (terms.around.draining()) socket.destroySoon();
    });
    turn.answer = answer;
    if (terms.around.draining() || terms.outdated(peer)) response.shouldKeepAlive = false;
    handle(terms.listener, rawHead(request, scheme), peer, answer, null, terms.around);
  };

  const isBusy = (socket: Duplex): boolean => (turns.get(socket)?.answer ?? null) !== null;

  server.on('request', ask);
  // Without listeners Node would answer these two itself: 100 before anything was judged, and 417.
  server.on('checkContinue', ask);
  server.on('checkExpectation', ask);
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const peer = hooks.peerOf(socket);
    if (peer === null || isBusy(socket) || refused.has(socket)) {
      socket.destroy();
      return;
    }
    upgraded.add(socket);
    const client = new Http1Upgrade(request, socket, head);
    handle(terms.listener, rawHead(request, scheme), peer, client.answer, client, terms.around);
  });
  server.on('connect', (request: IncomingMessage, socket: Duplex) => {
    // Refused by the same reading as everything else: CONNECT is not among the methods.
    const peer = hooks.peerOf(socket);
    if (peer === null || isBusy(socket) || refused.has(socket)) {
      socket.destroy();
      return;
    }
    const client = new Http1Upgrade(request, socket, Buffer.alloc(0));
    handle(terms.listener, rawHead(request, scheme), peer, client.answer, client, terms.around);
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    const answer = turns.get(socket)?.answer ?? null;
    // A head was read and judged, what follows can't be: that is for its answer to say. A client that ended in the
    // middle of a body is gone (decision 6).
    const left = hasLeft(error) || error.code === 'HPE_INVALID_EOF_STATE' || socket.destroyed;
    if (!left && answer?.cutOff() === true) return;
    refuseUnreadable(error, socket, answer !== null, scheme, hooks);
  });
  return { server, busy: (socket) => isBusy(socket) || upgraded.has(socket) };
}

function rawHead(request: IncomingMessage, scheme: 'http' | 'https'): RawHead {
  const { httpVersion } = request;
  return {
    protocol: httpVersion === '1.1' || httpVersion === '1.0' ? httpVersion : 'unknown',
    scheme,
    method: request.method ?? '',
    target: request.url ?? '',
    authority: null,
    fields: request.rawHeaders,
    moreFollows: false,
  };
}

/** The parser's word for what is wrong, as one of our reasons. */
function unreadableReason(code: string | undefined): DenialReason {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return 'head_too_large';
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return 'head_timeout';
    case 'HPE_INVALID_VERSION':
      return 'version_unsupported';
    case 'HPE_INVALID_METHOD':
      return 'method_unsupported';
    case 'HPE_INVALID_URL':
      return 'malformed_target';
    case 'HPE_INVALID_TRANSFER_ENCODING':
    case 'HPE_UNEXPECTED_CONTENT_LENGTH':
    case 'HPE_INVALID_CONTENT_LENGTH':
      return 'ambiguous_framing';
    case 'HPE_INVALID_HEADER_TOKEN':
    case 'HPE_CR_EXPECTED':
    case 'HPE_LF_EXPECTED':
    case 'HPE_UNEXPECTED_SPACE':
      return 'malformed_head';
    default:
      return 'malformed_request';
  }
}

/** Not what the client said, but that it is gone. */
function hasLeft(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' || error.code === 'EPIPE';
}

/** What a client may go on sending, and for how long, after bytes that can't be read. */
const LINGER_BYTES = 1024 * 1024;
const LINGER_MS = 1_000;
/** Sockets that were told so, and how much more of theirs is thrown away. */
const lingering = new WeakMap<Duplex, number>();
/** Sockets whose refusal is on its way, or waits until it is recorded. */
const refused = new WeakSet<Duplex>();

/** The parser fails again on each further piece; a client in the middle of sending gets to see its answer all the same. */
function linger(socket: Duplex, left: number, error: NodeJS.ErrnoException): void {
  const more = 'rawPacket' in error && Buffer.isBuffer(error.rawPacket) ? error.rawPacket.length : 0;
  lingering.set(socket, left - more);
  if (hasLeft(error) || more > left) socket.destroy();
}

/** Answers bytes that are not a request, and closes; in the middle of an exchange it can only close. */
export function refuseUnreadable(
  error: NodeJS.ErrnoException,
  socket: Duplex,
  busy: boolean,
  scheme: 'http' | 'https',
  hooks: Http1Hooks,
): void {
  const left = lingering.get(socket);
  if (left !== undefined) {
    linger(socket, left, error);
    return;
  }
  if (refused.has(socket)) {
    if (hasLeft(error)) socket.destroy();
    return;
  }
  if (busy || hasLeft(error) || !socket.writable || socket.destroyed) {
    socket.destroy();
    return;
  }
  const reason = unreadableReason(error.code);
  const requestId = crypto.randomUUID();
  const answer = denialAnswer(reason, requestId);
  const head = [`HTTP/1.1 ${String(answer.status)} Refused`];
  for (let i = 0; i < answer.fields.length; i += 2)
    head.push(`${answer.fields[i] ?? ''}: ${answer.fields[i + 1] ?? ''}`);
  head.push('connection: close', '', '');
  socket.on('error', () => undefined);
  refused.add(socket);
  // A parser that failed stays failed. One that did not, because the head was late, might yet read a request.
  const isBroken = error.code?.startsWith('HPE_') === true;
  if (isBroken) lingering.set(socket, LINGER_BYTES);
  hooks.unreadable(hooks.peerOf(socket), scheme, reason, requestId, () => {
    socket.end(Buffer.concat([Buffer.from(head.join('\r\n'), 'latin1'), answer.body]));
    if (!isBroken) {
      socket.once('finish', () => {
        socket.destroy();
      });
      return;
    }
    // Closing now could reset the connection before the client has read the answer (RFC 9112 §9.6).
    const timer = setTimeout(() => {
      socket.destroy();
    }, LINGER_MS);
    socket.once('close', () => {
      clearTimeout(timer);
    });
  });
}

/** An upgrade request: an ordinary answer on the raw socket until the 101, a pair of pipes after it. */
class Http1Upgrade implements UpgradingClient {
  readonly socket: Duplex;
  readonly answer: Http1Answer;
  readonly #response: ServerResponse;
  readonly #connection: Socket;
  #early: Buffer[];
  #earlyBytes: number;
  #switched = false;

  constructor(request: IncomingMessage, socket: Duplex, head: Buffer) {
    this.socket = socket;
    this.#early = head.length > 0 ? [head] : [];
    this.#earlyBytes = head.length;
    const response = new ServerResponse(request);
    response.shouldKeepAlive = false;
    // The same writer as for every other answer; it takes any socket that http takes.
    response.assignSocket(request.socket);
    response.once('finish', () => {
      if (!this.#switched) request.socket.destroySoon();
    });
    this.#response = response;
    this.#connection = request.socket;
    this.answer = new Http1Answer(request, response, null);
    socket.on('error', () => undefined);
    // The socket must be read for its end to be seen; what comes early is held, up to a bound.
    socket.on('data', this.#onEarly);
    socket.on('end', this.#onEnd);
    socket.resume();
  }

  get early(): Buffer {
    return Buffer.concat(this.#early);
  }

  switchProtocols(fields: readonly string[]): void {
    this.#switched = true;
    this.answer.onClose = null;
    this.answer.onDrain = null;
    this.socket.off('data', this.#onEarly);
    this.socket.off('end', this.#onEnd);
    const lines = ['HTTP/1.1 101 Switching Protocols'];
    for (let i = 0; i < fields.length; i += 2) lines.push(`${fields[i] ?? ''}: ${fields[i + 1] ?? ''}`);
    lines.push('', '');
    this.#response.detachSocket(this.#connection);
    this.socket.write(Buffer.from(lines.join('\r\n'), 'latin1'));
  }

  readonly #onEarly = (chunk: Buffer): void => {
    this.#early.push(chunk);
    this.#earlyBytes += chunk.length;
    if (this.#earlyBytes > MOST_EARLY_BYTES) this.socket.destroy();
  };

  readonly #onEnd = (): void => {
    // A handshake whose sender has stopped talking has nobody to talk to.
    if (!this.#switched) this.socket.destroy();
  };
}
