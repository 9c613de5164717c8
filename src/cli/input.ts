import type { ReadStream } from 'node:tty';
import type { Voice } from './voice.js';

/**
 * All of stdin, up to `limit` bytes and one more: whoever asks can tell that there was too much. The pieces it came in
 * are wiped.
 */
export async function readStdin(limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length > limit) break;
  }
  const whole = Buffer.concat(chunks, length).subarray(0, limit + 1);
  for (const chunk of chunks) chunk.fill(0);
  return whole;
}

/** Where somebody sits at stdin, the terminal; null for a pipe or a file. */
export function terminal(): ReadStream | null {
  return process.stdin.isTTY ? process.stdin : null;
}

const ENTER: ReadonlySet<number> = new Set([0x0a, 0x0d]);
const END_OF_INPUT = 0x04;
const ERASE: ReadonlySet<number> = new Set([0x08, 0x7f]);
const INTERRUPT = 0x03;

/** One line that is typed and not shown; null when it was given up with Ctrl-C. Bytes beyond `limit` are not kept. */
export async function readHiddenLine(
  tty: ReadStream,
  prompt: string,
  voice: Voice,
  limit: number,
): Promise<Buffer | null> {
  voice.err(prompt);
  const line = Buffer.alloc(limit + 1);
  let length = 0;
  return await new Promise((resolve) => {
    const end = (result: Buffer | null): void => {
      tty.off('data', take);
      tty.off('end', finish);
      tty.setRawMode(false);
      tty.pause();
      resolve(result);
    };
    const finish = (): void => end(line.subarray(0, length));
    const take = (chunk: Buffer): void => {
      for (const byte of chunk) {
        if (byte === INTERRUPT) {
          line.fill(0);
          end(null);
          return;
        }
        if (ENTER.has(byte) || byte === END_OF_INPUT) {
          finish();
          return;
        }
        if (ERASE.has(byte)) length = Math.max(0, length - 1);
        else if (length <= limit) line[length++] = byte;
      }
      chunk.fill(0);
    };
    tty.setRawMode(true);
    tty.on('data', take);
    tty.on('end', finish);
    tty.resume();
  });
}
