import { parsed, refused } from './parsed.js';
import type { Parsed } from './parsed.js';

/** Linux: sun_path is 108 bytes with the NUL (unix(7)). */
const LONGEST_SOCKET_PATH = 107;

/** Reads what stands behind `unix:`. */
export function parseSocketPath(path: string): Parsed<string> {
  if (path.startsWith('//')) return refused('a unix socket has one slash', `write unix:${path.replace(/^\/+/, '/')}`);
  if (!path.startsWith('/')) return refused('the path of a unix socket is absolute', 'write unix:/run/NAME.sock');
  if (Buffer.byteLength(path) > LONGEST_SOCKET_PATH) {
    return refused(`the path of a unix socket is at most ${LONGEST_SOCKET_PATH} bytes long`);
  }
  return path.endsWith('/') ? refused('this is a folder, not a socket') : parsed(path);
}
