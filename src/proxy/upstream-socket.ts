import { Socket } from 'node:net';

type Written = (error?: NodeJS.ErrnoException | null) => void;

/** The other side is gone altogether: an end or an error follows what is still to be read. */
const GONE: ReadonlySet<string | undefined> = new Set(['EPIPE', 'ECONNRESET']);

/**
 * A socket that may still be read after it can't be written. A service that says 413 and closes makes the system refuse
 * the rest of the body while its answer lies here unread; Node would drop that with the socket.
 */
export class UpstreamSocket extends Socket {
  /** Told instead of the socket being destroyed; nothing more can be written then. Null: errors end it as they end any. */
  onUnwritable: (() => void) | null = null;

  override _write(chunk: unknown, encoding: BufferEncoding, written: Written): void {
    super._write(chunk, encoding, this.#unless(written));
  }

  override _writev(chunks: { chunk: unknown; encoding: BufferEncoding }[], written: Written): void {
    // Node gives its sockets one; the type says that streams need not have it.
    super._writev?.(chunks, this.#unless(written));
  }

  #unless(written: Written): Written {
    return (error) => {
      if (error == null || !GONE.has(error.code) || this.onUnwritable === null || this.destroyed) written(error);
      else this.onUnwritable();
    };
  }
}
