/**
 * The control socket: `control.sock` in the state directory, 0600. Live commands speak to the running program through
 * it, and that somebody answers there is what keeps a second program out of the same directory.
 *
 * One request a connection: a line of JSON, answered by a line of JSON.
 */
import { type Socket, connect } from 'node:net';
import * as path from 'node:path';
import { HeldSocket, SocketDirectory } from '../state/held-socket.js';
import { codeOf, why } from '../state/state-directory.js';
import { StateError } from '../state/store.js';

export const CONTROL_SOCKET = 'control.sock';
const LONGEST_REQUEST = 64 * 1024;
const LONGEST_ANSWER = 4 * 1024 * 1024;
const PATIENCE_MS = 5000;
/** Reads a policy and all that it names, and runs its tests. */
export const RELOAD_PATIENCE_MS = 120_000;

export type ControlAnswer = { readonly ok: true; readonly [key: string]: unknown } | ControlFailure;

export interface ControlFailure {
  readonly ok: false;
  /** A sentence for people. */
  readonly error: string;
}

/** What a request asks for; its members are not checked yet. */
export type ControlRequest = Readonly<Record<string, unknown>>;

/** Never rejects but for a bug of ours. */
export type ControlHandler = (request: ControlRequest) => Promise<ControlAnswer>;

export class ControlServer {
  readonly #held: HeldSocket;

  private constructor(held: HeldSocket) {
    this.#held = held;
  }

  /**
   * @param dir is there already
   * @throws StateInUseError when another process answers there; StateError when there can be no socket
   */
  static async open(dir: string, handler: ControlHandler): Promise<ControlServer> {
    const inUse = `another guardbee runs with the state directory ${dir}; give each its own with state: { dir: PATH }`;
    const held = await HeldSocket.open(dir, CONTROL_SOCKET, inUse, (socket) => {
      serve(socket, handler);
    });
    return new ControlServer(held);
  }

  /** Ends all connections; the socket is gone when it resolves. */
  async close(): Promise<void> {
    await this.#held.close();
  }
}

function serve(socket: Socket, handler: ControlHandler): void {
  socket.setTimeout(PATIENCE_MS, () => socket.destroy());
  readLine(socket, LONGEST_REQUEST)
    .then(async (line) => {
      const request = line === null ? null : parseObject(line);
      // Whoever has asked waits for as long as it takes, and no longer than that.
      socket.setTimeout(RELOAD_PATIENCE_MS);
      const answer: ControlAnswer =
        request === null ? { ok: false, error: 'this is no request' } : await handler(request);
      socket.end(`${JSON.stringify(answer)}\n`);
    })
    .catch(() => socket.destroy());
}

/**
 * Asks the program that runs with this state directory. Null: none does. @throws StateError when it cannot be asked
 * @param patienceMs unless said, longer than any answer takes that is under way over there
 */
export async function askControl(
  dir: string,
  request: ControlRequest,
  patienceMs = 4 * PATIENCE_MS,
): Promise<ControlAnswer | null> {
  let directory: SocketDirectory;
  try {
    directory = await SocketDirectory.open(dir, CONTROL_SOCKET);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw new StateError(`the state directory ${dir} cannot be opened: ${why(error)}`);
  }
  try {
    return await ask(directory.path(CONTROL_SOCKET), request, patienceMs);
  } catch (error) {
    const code = codeOf(error);
    if (code === 'ENOENT' || code === 'ECONNREFUSED') return null;
    if (error instanceof StateError) throw error;
    const hint = code === 'EACCES' || code === 'EPERM' ? '; run this as the user that guardbee runs as' : '';
    throw new StateError(`guardbee cannot be asked through ${path.join(dir, CONTROL_SOCKET)}: ${why(error)}${hint}`);
  } finally {
    await directory.close();
  }
}

async function ask(socketPath: string, request: ControlRequest, patienceMs: number): Promise<ControlAnswer> {
  const socket = connect(socketPath);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.on('error', () => socket.destroy());
    socket.setTimeout(patienceMs, () => socket.destroy());
    socket.write(`${JSON.stringify(request)}\n`);
    const line = await readLine(socket, LONGEST_ANSWER);
    const answer = line === null ? null : parseObject(line);
    if (answer?.['ok'] === true) return { ...answer, ok: true };
    if (answer?.['ok'] === false && typeof answer['error'] === 'string') return { ok: false, error: answer['error'] };
    throw new StateError('guardbee runs, and did not answer');
  } finally {
    socket.destroy();
  }
}

/** Text up to the first line end; null: it ended or grew too long before one. */
async function readLine(socket: Socket, most: number): Promise<string | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  return await new Promise((resolve) => {
    const end = (line: string | null): void => {
      socket.off('data', take);
      resolve(line);
    };
    const take = (chunk: Buffer): void => {
      const at = chunk.indexOf(0x0a);
      chunks.push(at === -1 ? chunk : chunk.subarray(0, at));
      length += chunk.length;
      if (at !== -1) end(Buffer.concat(chunks).toString('utf8'));
      else if (length > most) end(null);
    };
    socket.on('data', take);
    socket.once('end', () => {
      end(null);
    });
    socket.once('close', () => {
      end(null);
    });
  });
}

function parseObject(line: string): ControlRequest | null {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as ControlRequest) : null;
  } catch {
    return null;
  }
}
