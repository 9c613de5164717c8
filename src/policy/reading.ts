/** What was read for a policy, kept as it was: so that another process makes the same policy of the same bytes. */
import type { ReadFile } from '../secret/files.js';
import { type Outside, SYSTEM } from './load.js';

/** Can be sent to another process as it is. Holds secrets: it goes through a pipe, never to a disk. */
export interface Reading {
  /** By path, and by how it was asked for. */
  readonly files: Map<string, ReadFile>;
  readonly secrets: Map<string, string>;
  /** Addresses, or the system's code for why there are none. */
  readonly hosts: Map<string, readonly string[] | { readonly code: string }>;
}

function keyOf(file: string, demand: string, limit: number): string {
  return `${demand} ${String(limit)} ${file}`;
}

/** Reads, and keeps all of it in `reading`. */
export function keeping(reading: Reading, outside: Outside = SYSTEM): Outside {
  return {
    file: async (file, demand, limit, reader) => {
      const read = await outside.file(file, demand, limit, reader);
      // Whoever asked wipes some of the bytes after use.
      reading.files.set(keyOf(file, demand, limit), {
        ...read,
        bytes: read.bytes === null ? null : Buffer.from(read.bytes),
      });
      return read;
    },
    secret: (env, name) => {
      const value = outside.secret(env, name);
      if (value !== undefined) reading.secrets.set(name, value);
      return value;
    },
    lookup: async (host) => {
      try {
        const found = await outside.lookup(host);
        reading.hosts.set(
          host,
          found.map(({ address }) => address),
        );
        return found;
      } catch (error) {
        reading.hosts.set(host, { code: codeOf(error) });
        throw error;
      }
    },
  };
}

/** Gives again what was kept, and reads nothing. What was not kept is not there. */
export function keptOutside({ files, secrets, hosts }: Reading): Outside {
  return {
    file: (file, demand, limit) => {
      const read = files.get(keyOf(file, demand, limit));
      if (read === undefined) return Promise.resolve({ bytes: null, fault: { kind: 'missing' } });
      return Promise.resolve({ ...read, bytes: read.bytes === null ? null : Buffer.from(read.bytes) });
    },
    secret: (_env, name) => secrets.get(name),
    lookup: (host) => {
      const found = hosts.get(host);
      if (found === undefined || 'code' in found)
        return Promise.reject(Object.assign(new Error('no address'), { code: found?.code ?? 'ENOTFOUND' }));
      return Promise.resolve(found.map((address) => ({ address })));
    },
  };
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown error';
}
