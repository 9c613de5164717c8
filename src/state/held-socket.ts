/**
 * A unix socket in a directory, 0600, that says whose the directory is: that somebody answers there is what keeps a
 * second program out, also one in another container that shares the directory, and nothing stale is left by a process
 * that was killed.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, chmod, open, rename, unlink } from 'node:fs/promises';
import { type Server, type Socket, connect, createServer } from 'node:net';
import * as path from 'node:path';
import { codeOf, why } from './state-directory.js';
import { StateError } from './store.js';

const MOST_CONNECTIONS = 8;
/** `sun_path` of unix(7) holds 108 bytes with its end. */
const LONGEST_SOCKET_PATH = 107;

/** Another process lives in the directory. */
export class StateInUseError extends Error {
  override readonly name = 'StateInUseError';
}

export class HeldSocket {
  readonly #server: Server;
  readonly #directory: SocketDirectory;
  readonly #connections = new Set<Socket>();

  private constructor(server: Server, directory: SocketDirectory) {
    this.#server = server;
    this.#directory = directory;
  }

  /**
   * @param dir is there already
   * @param inUse what is said when another process answers there
   * @throws StateInUseError; StateError when there can be no socket
   */
  static async open(dir: string, name: string, inUse: string, serve: (socket: Socket) => void): Promise<HeldSocket> {
    const directory = await SocketDirectory.open(dir, name);
    try {
      for (let attempt = 0; attempt < 5; attempt += 1) {
        const made = await listen(directory.path(name));
        if (made !== null) {
          const held = new HeldSocket(made, directory);
          made.on('connection', (socket) => {
            held.#connections.add(socket);
            socket.once('close', () => held.#connections.delete(socket));
            socket.on('error', () => socket.destroy());
            serve(socket);
          });
          // The descriptor of the directory is in its path.
          await chmod(directory.path(name), 0o600);
          return held;
        }
        await clearAway(directory, name, inUse);
      }
      throw new StateInUseError(inUse);
    } catch (error) {
      await directory.close();
      if (error instanceof StateInUseError || error instanceof StateError) throw error;
      throw new StateError(`the socket ${path.join(dir, name)} cannot be made: ${why(error)}`);
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
}

/** Whether somebody answers on that socket. @throws the system's error where it can't be asked */
export async function isHeld(dir: string, name: string): Promise<boolean> {
  const directory = await SocketDirectory.open(dir, name);
  try {
    return await answers(directory.path(name));
  } finally {
    await directory.close();
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
export async function clearAway(directory: SocketDirectory, name: string, inUse: string): Promise<void> {
  if (await answers(directory.path(name))) throw new StateInUseError(inUse);
  const aside = `${name}.${randomBytes(6).toString('hex')}`;
  try {
    await rename(directory.path(name), directory.path(aside));
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return;
    throw error;
  }
  // Another start may have replaced the dead one in between: then it was a live one that was moved.
  if (await answers(directory.path(aside))) {
    await rename(directory.path(aside), directory.path(name));
    throw new StateInUseError(inUse);
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

/**
 * A directory whose sockets can be named however long its path is: by a descriptor of it, where the path would not fit
 * into a socket's address (Linux).
 */
export class SocketDirectory {
  readonly #name: string;
  readonly #handle: FileHandle | null;

  private constructor(name: string, handle: FileHandle | null) {
    this.#name = name;
    this.#handle = handle;
  }

  /** @param socket name of the socket that will be asked for */
  static async open(name: string, socket: string): Promise<SocketDirectory> {
    // The name that a dead socket is moved to is longer than that of the living.
    const longest = Buffer.byteLength(path.join(name, `${socket}.${'0'.repeat(12)}`));
    if (longest <= LONGEST_SOCKET_PATH) return new SocketDirectory(name, null);
    if (process.platform !== 'linux') {
      throw new StateError(`the path of the directory is too long for a socket: ${name}`);
    }
    return new SocketDirectory(name, await open(name, 'r'));
  }

  path(file: string): string {
    return path.join(this.#handle === null ? this.#name : `/proc/self/fd/${String(this.#handle.fd)}`, file);
  }

  async close(): Promise<void> {
    await this.#handle?.close();
  }
}
