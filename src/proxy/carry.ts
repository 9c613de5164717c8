import type { Duplex } from 'node:stream';

/**
 * Passes on what one side says, its end included, no faster than the other takes it. What is returned stops that: what
 * else is said is read and thrown away.
 */
export function carry(from: Duplex, to: Duplex, seen: (bytes: Buffer) => void): () => void {
  const pass = (chunk: Buffer): void => {
    seen(chunk);
    if (!to.write(chunk)) from.pause();
  };
  from.on('data', pass);
  to.on('drain', () => {
    from.resume();
  });
  from.once('end', () => {
    to.end();
  });
  from.resume();
  return () => {
    from.off('data', pass);
    from.resume();
  };
}
