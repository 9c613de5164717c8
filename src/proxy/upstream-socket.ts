import { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';

type Written = (error?: NodeJS.ErrnoException | null) => void;

/** The other side is gone altogether: an end or an error follows what is still to be read. */
const GONE: ReadonlySet<string | undefined> = new Set(['EPIPE', 'ECONNRESET']);

const READ_INTO = Buffer.allocUnsafeSlow(64 * 1024);

/** Events of a stream, or answers, are often as long as the one before. */
let latest = READ_INTO.subarray(0, 0);

function firstBytes(length: number): Buffer {
  if (latest.length !== length) latest = READ_INTO.subarray(0, length);
  return latest;
}

/** A socket to an upstream. */
export type ConnectedSocket = Socket & {
  /** Told instead of the socket being destroyed; nothing more can be written then. Null: errors end it as they end any. */
  onUnwritable: (() => void) | null;
};

/**
 * A socket that may still be read after it can't be written. A service that says 413 and closes makes the system refuse
 * the rest of the body while its answer lies here unread; Node would drop that with the socket.
 */
export class UpstreamSocket extends Socket {
  onUnwritable: (() => void) | null = null;
  /**
   * Hears of what comes instead of readers of a stream. The bytes are good during the call alone: all sockets of this kind
   * are read into one buffer, where Node would make one of 64 KiB for each read, and take a tenth of a request's CPU time
   * for that and for the stream. Null: it is a stream like any.
   */
  onBytes: ((bytes: Buffer) => void) | null = null;

  constructor(reading: 'shared buffer' | 'stream') {
    super({
      // A WebSocket's directions end one by one; without it Node closes the other for us.
      allowHalfOpen: true,
      ...(reading === 'stream'
        ? {}
        : {
            onread: {
              buffer: READ_INTO,
              callback: (length: number): boolean => {
                const bytes = firstBytes(length);
                if (this.onBytes === null) return this.push(Buffer.from(bytes));
                this.onBytes(bytes);
                return true;
              },
            },
          }),
    });
  }

  override _write(chunk: unknown, encoding: BufferEncoding, written: Written): void {
    super._write(chunk, encoding, unless(this, written));
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], written: Written): void {
    // Node gives its sockets one; the type says that streams need not have it.
    super._writev?.(chunks, unless(this, written));
  }
}

/** Makes the same of a socket of TLS, which only Node itself can make. */
export function stayReadable(socket: TLSSocket): ConnectedSocket {
  const connected = Object.assign(socket, { onUnwritable: null as (() => void) | null });
  const write = socket._write.bind(socket);
  const writev = socket._writev?.bind(socket);
  connected._write = (chunk, encoding, written) => {
    write(chunk, encoding, unless(connected, written));
  };
  connected._writev = (chunks, written) => {
    writev?.(chunks, unless(connected, written));
  };
  return connected;
}

function unless(socket: ConnectedSocket, written: Written): Written {
  return (error) => {
    if (error == null || !GONE.has(error.code) || socket.onUnwritable === null || socket.destroyed) written(error);
    else socket.onUnwritable();
  };
}
