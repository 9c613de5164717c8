/**
 * The control socket: `control.sock` in the state directory, 0600. Live commands speak to the running program through
 * it, and that somebody answers there is what keeps a second program out of the same directory.
 *
 * One request a connection: a line of JSON, answered by a line of JSON.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, chmod, open, rename, unlink } from 'node:fs/promises';
import { type Server, type Socket, connect, createServer } from 'node:net';
import * as path from 'node:path';
import { StateError } from '../state/store.js';
import { codeOf, why } from '../state/state-directory.js';

export const CONTROL_SOCKET = 'control.sock';
const LONGEST_REQUEST = 64 * 1024;
const LONGEST_ANSWER = 4 * 1024 * 1024;
const MOST_CONNECTIONS = 8;
const PATIENCE_MS = 5000;
/** `sun_path` of unix(7) holds 108 bytes with its end. */
const LONGEST_SOCKET_PATH = 107;

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

/** Another process lives in the state directory. */
export class StateInUseError extends Error {
  override readonly name = 'StateInUseError';
}

export class ControlServer {
  readonly #server: Server;
  readonly #directory: SocketDirectory;
  readonly #connections = new Set<Socket>();

  private constructor(server: Server, directory: SocketDirectory) {
    this.#server = server;
    this.#directory = directory;
  }

  /**
   * @param dir is there already
   * @throws StateInUseError when another process answers there; StateError when there can be no socket
   */
  static async open(dir: string, handler: ControlHandler): Promise<ControlServer> {
    const directory = await SocketDirectory.open(dir);
    try {
      for (let attempt = 0; attempt < 5; attempt += 1) {
        const made = await listen(directory.path(CONTROL_SOCKET));
        if (made !== null) {
          const control = new ControlServer(made, directory);
          made.on('connection', (socket) => {
            control.#serve(socket, handler);
          });
          // The descriptor of the directory is in its path.
          await chmod(directory.path(CONTROL_SOCKET), 0o600);
          return control;
        }
        await clearAway(directory);
      }
      throw new StateInUseError(inUse(dir));
    } catch (error) {
      await directory.close();
      if (error instanceof StateInUseError || error instanceof StateError) throw error;
      throw new StateError(`the control socket in ${dir} cannot be made: ${why(error)}`);
    }
  }

  /** Ends all connections; the socket is gone when it resolves. */
  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#server.close(() => {
        resolve();
      });
      for (const socket of this.#connections) socket.destroy();
    });
    await this.#directory.close();
  }

  #serve(socket: Socket, handler: ControlHandler): void {
    this.#connections.add(socket);
    socket.once('close', () => this.#connections.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.setTimeout(PATIENCE_MS, () => socket.destroy());
    readLine(socket, LONGEST_REQUEST)
      .then(async (line) => {
        const request = line === null ? null : parseObject(line);
        const answer: ControlAnswer =
          request === null ? { ok: false, error: 'this is no request' } : await handler(request);
        socket.end(`${JSON.stringify(answer)}\n`);
      })
      .catch(() => socket.destroy());
  }
}

/**
 * Asks the program that runs with this state directory. Null: none does. @throws StateError when it cannot be asked
 */
export async function askControl(dir: string, request: ControlRequest): Promise<ControlAnswer | null> {
  let directory: SocketDirectory;
  try {
    directory = await SocketDirectory.open(dir);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw new StateError(`the state directory ${dir} cannot be opened: ${why(error)}`);
  }
  try {
    return await ask(directory.path(CONTROL_SOCKET), request);
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

async function ask(socketPath: string, request: ControlRequest): Promise<ControlAnswer> {
  const socket = connect(socketPath);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.on('error', () => socket.destroy());
    // Longer than any answer takes that is under way over there.
    socket.setTimeout(4 * PATIENCE_MS, () => socket.destroy());
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

/** Null: something is there already. Binding is what the kernel lets only one process do. */
async function listen(socketPath: string): Promise<Server | null> {
  const server = createServer({ pauseOnConnect: false });
  server.maxConnections = MOST_CONNECTIONS;
  return await new Promise((resolve, reject) => {
    server.once('error', (error) => {
      if (codeOf(error) === 'EADDRINUSE') resolve(null);
      else reject(error);
    });
    server.once('listening', () => {
      server.removeAllListeners('error');
      // A connection that could not be accepted is its caller's to repeat.
      server.on('error', () => undefined);
      resolve(server);
    });
    // Nobody else may connect, not even until the mode is set.
    const before = process.umask(0o177);
    try {
      server.listen({ path: socketPath });
    } finally {
      process.umask(before);
    }
  });
}

/** Takes a socket out of the way that nobody answers. @throws StateInUseError when somebody does */
async function clearAway(directory: SocketDirectory): Promise<void> {
  if (await answers(directory.path(CONTROL_SOCKET))) throw new StateInUseError(inUse(directory.name));
  const aside = `${CONTROL_SOCKET}.${randomBytes(6).toString('hex')}`;
  try {
    await rename(directory.path(CONTROL_SOCKET), directory.path(aside));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  // Another start may have replaced the dead one in between: then it was a live one that was moved.
  if (await answers(directory.path(aside))) {
    await rename(directory.path(aside), directory.path(CONTROL_SOCKET));
    throw new StateInUseError(inUse(directory.name));
  }
  await unlink(directory.path(aside));
}

async function answers(socketPath: string): Promise<boolean> {
  const socket = connect(socketPath);
  try {
    return await new Promise<boolean>((resolve, reject) => {
      socket.once('connect', () => {
        resolve(true);
      });
      socket.once('error', (error) => {
        const code = codeOf(error);
        if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve(false);
        // Its queue is full: somebody listens.
        else if (code === 'EAGAIN') resolve(true);
        else reject(error);
      });
    });
  } finally {
    socket.destroy();
  }
}

function inUse(dir: string): string {
  return `another guardbee runs with the state directory ${dir}; give each its own with state: { dir: PATH }`;
}

/**
 * A directory whose sockets can be named however long its path is: by a descriptor of it, where the path would not fit
 * into a socket's address (Linux).
 */
class SocketDirectory {
  readonly name: string;
  readonly #handle: FileHandle | null;

  private constructor(name: string, handle: FileHandle | null) {
    this.name = name;
    this.#handle = handle;
  }

  static async open(name: string): Promise<SocketDirectory> {
    // The name that a dead socket is moved to is longer than that of the living.
    const longest = Buffer.byteLength(path.join(name, `${CONTROL_SOCKET}.${'0'.repeat(12)}`));
    if (longest <= LONGEST_SOCKET_PATH) return new SocketDirectory(name, null);
    if (process.platform !== 'linux') {
      throw new StateError(`the path of the state directory is too long for a socket: ${name}`);
    }
    return new SocketDirectory(name, await open(name, 'r'));
  }

  path(file: string): string {
    return path.join(this.#handle === null ? this.name : `/proc/self/fd/${String(this.#handle.fd)}`, file);
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }
}
