import { type ServerHttp2Session, constants } from 'node:http2';

const LOOK_MS = 1_000;
/** RFC 9113 §6.7: nine bytes of frame head and eight of anything. */
const PING_BYTES = 17;

/**
 * nghttp2 ends a session that broke the protocol by itself: it says GOAWAY, and from then on neither sends nor reads.
 * Node does not tell, and does not even see the client close the connection any more, so streams that were open would
 * stay open, here and at the service, for ever. What shows it is a PING that does not go out. One is tried while
 * streams are open and the client has said something since the last one; silent streams cost nothing.
 */
export class Http2Pulse {
  readonly #session: ServerHttp2Session;
  #timer: NodeJS.Timeout | null = null;
  /** Bytes that had come in when the last PING was tried, and its answer. */
  #heard = 0;
  /** Bytes that had gone out then; null where there was none since the timer began. */
  #written: number | null = null;

  constructor(session: ServerHttp2Session) {
    this.#session = session;
    session.once('close', () => {
      this.stop();
    });
  }

  start(): void {
    this.#timer ??= setInterval(this.#look, LOOK_MS).unref();
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#written = null;
  }

  readonly #look = (): void => {
    const session = this.#session;
    if (session.destroyed) {
      this.stop();
      return;
    }
    const { bytesRead, bytesWritten } = session.socket;
    // A client that reads slowly holds a PING up as well, which is no fault of it.
    if (isBlocked(session.socket)) return;
    if (this.#written === bytesWritten) {
      this.#end('the session has ended without a word');
      return;
    }
    if (bytesRead === this.#heard) return;
    this.#heard = bytesRead;
    this.#written = bytesWritten;
    if (session.closed) {
      // Node sends no PING while a session is being closed (a drain, a reload). To say GOAWAY again is allowed (RFC 9113
      // §6.8), changes nothing, and goes out or does not.
      session.goaway();
      return;
    }
    const tried = session.ping((error) => {
      if (error === null) this.#heard += PING_BYTES;
    });
    if (!tried) this.#end('PING after PING was not answered');
  };

  #end(why: string): void {
    this.stop();
    this.#session.destroy(new Error(why), constants.NGHTTP2_PROTOCOL_ERROR);
  }
}

/** Whether bytes wait for the socket. Only its handle knows; one that does not say counts as blocked, and is left alone. */
function isBlocked(socket: object): boolean {
  const handle: unknown = Reflect.get(socket, '_handle');
  if (typeof handle !== 'object' || handle === null) return true;
  return Reflect.get(handle, 'writeQueueSize') !== 0;
}
