/** Where a listener is a unix socket: 0600, in a directory that nobody else may change, and no remains in the way. */
import { type Stats, constants } from 'node:fs';
import { lstat, stat } from 'node:fs/promises';
import type { Server } from 'node:net';
import * as path from 'node:path';
import { StateInUseError, SocketDirectory, clearAway } from '../state/held-socket.js';
import { codeOf } from '../state/state-directory.js';

/** Why there can be no socket; `code` is the system's, or one of ours. */
export class SocketFileError extends Error {
  override readonly name = 'SocketFileError';
  readonly code: string;
  constructor(code: 'EADDRINUSE' | 'NOT_A_SOCKET' | 'DIRECTORY_TOO_OPEN') {
    super(code);
    this.code = code;
  }
}

const OF_OTHERS = constants.S_IWGRP | constants.S_IWOTH;

/** @throws SocketFileError, or the system's error */
export async function listenAt(server: Server, socketPath: string): Promise<void> {
  const folder = path.dirname(socketPath);
  const name = path.basename(socketPath);
  // Who may write there may put a socket of their own in its place, and be shown what programs say.
  const { mode, uid } = await stat(folder);
  const own = process.getuid?.();
  if ((mode & OF_OTHERS) !== 0 || (uid !== 0 && own !== undefined && uid !== own))
    throw new SocketFileError('DIRECTORY_TOO_OPEN');
  const directory = await SocketDirectory.open(folder, name);
  // A long path names the directory by its descriptor, which has to stay open until the socket is gone.
  server.once('close', () => {
    void directory.close();
  });
  try {
    for (let attempt = 0; attempt < 5; attempt += 1) {
      if (await tryToListen(server, directory.path(name))) return;
      const there = await look(socketPath);
      if (there !== null && !there.isSocket()) throw new SocketFileError('NOT_A_SOCKET');
      await clearAway(directory, name, '');
    }
    throw new SocketFileError('EADDRINUSE');
  } catch (error) {
    await directory.close();
    throw error instanceof StateInUseError ? new SocketFileError('EADDRINUSE') : error;
  }
}

async function look(socketPath: string): Promise<Stats | null> {
  try {
    return await lstat(socketPath);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw error;
  }
}

/** False: something is there already. */
function tryToListen(server: Server, socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      server.off('error', onError);
      server.off('listening', onListening);
    };
    const onError = (error: NodeJS.ErrnoException): void => {
      settle();
      if (error.code === 'EADDRINUSE') resolve(false);
      else reject(error);
    };
    const onListening = (): void => {
      settle();
      // EMFILE and the like while accepting: the connection is lost, the listener is not.
      server.on('error', () => undefined);
      resolve(true);
    };
    server.on('error', onError);
    server.on('listening', onListening);
    // Nobody else may connect, not for a moment.
    const before = process.umask(0o177);
    try {
      server.listen({ path: socketPath, backlog: 511 });
    } finally {
      process.umask(before);
    }
  });
}
