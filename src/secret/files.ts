/**
 * Reading files whose mode matters. What is judged is the file that was opened (fstat on the descriptor), so nobody can
 * swap it between the look and the read; and it is opened without blocking, so a FIFO in its place does not hang us.
 */
import { constants } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import * as path from 'node:path';

/** No secret is larger. */
export const LARGEST_SECRET = 1024 * 1024;

/** Who may read what: the process as the mode rules see it. */
export interface Reader {
  /** Own group and supplementary groups. */
  readonly groups: ReadonlySet<number>;
  /** `$CREDENTIALS_DIRECTORY` of systemd, or null. */
  readonly credentialsDirectory: string | null;
}

/**
 * How much may be open. `private`: nobody but the owner reads it (with the exceptions of `whoElseReads`).
 * `trusted`: nobody but the owner writes it. `any`: not asked.
 */
export type Demand = 'private' | 'trusted' | 'any';

export type FileFault =
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreadable'; readonly why: string }
  | { readonly kind: 'not_a_file'; readonly what: string }
  | { readonly kind: 'too_large'; readonly limit: number }
  /** Others may read it, or write it. */
  | { readonly kind: 'too_open'; readonly mode: string; readonly why: string; readonly fix: string };

export interface ReadFile {
  /** Null when there is nothing to read. A file that is too open is read all the same, so that its content is checked too. */
  readonly bytes: Buffer | null;
  readonly fault: FileFault | null;
}

export function currentReader(env: NodeJS.ProcessEnv): Reader {
  const groups = new Set(process.getgroups?.() ?? []);
  const own = process.getegid?.();
  if (own !== undefined) groups.add(own);
  const credentials = env['CREDENTIALS_DIRECTORY'];
  return { groups, credentialsDirectory: credentials === undefined || credentials === '' ? null : credentials };
}

export async function readFile(file: string, demand: Demand, limit: number, reader: Reader): Promise<ReadFile> {
  let handle: FileHandle;
  try {
    handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (error) {
    return { bytes: null, fault: faultOf(error) };
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) {
      const what = found.isDirectory() ? 'a folder' : found.isFIFO() ? 'a FIFO' : 'a device or socket';
      return { bytes: null, fault: { kind: 'not_a_file', what } };
    }
    const fault = await judge(file, found, demand, reader);
    const bytes = await readBounded(handle, limit);
    if (bytes === null) return { bytes: null, fault: { kind: 'too_large', limit } };
    return { bytes, fault };
  } catch (error) {
    return { bytes: null, fault: faultOf(error) };
  } finally {
    await handle.close();
  }
}

interface Found {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly dev: number;
  readonly ino: number;
}

async function judge(file: string, found: Found, demand: Demand, reader: Reader): Promise<FileFault | null> {
  // Windows has no such modes; Node makes some up.
  if (demand === 'any' || process.platform === 'win32') return null;
  const mode = `0${(found.mode & 0o7777).toString(8)}`;
  if (demand === 'trusted') {
    if ((found.mode & 0o022) === 0) return null;
    const who = (found.mode & 0o002) === 0 ? 'its group' : 'everyone';
    return { kind: 'too_open', mode, why: `${who} may change it`, fix: `chmod go-w ${shellWord(file)}` };
  }
  if ((found.mode & 0o077) === 0) return null;
  const who = (found.mode & 0o007) === 0 ? 'its group' : 'everyone';
  const can = (found.mode & 0o022) === 0 ? 'read' : 'change';
  // Only reading by the group can be right: 0640 and 0440.
  if ((found.mode & 0o037) === 0) {
    // root:service, where the service is us.
    if (found.uid === 0 && reader.groups.has(found.gid)) return null;
    // How systemd hands over LoadCredential: 0440 below a folder that only we can enter.
    if ((found.mode & 0o200) === 0 && (await isCredential(file, found, reader))) return null;
  }
  return { kind: 'too_open', mode, why: `${who} may ${can} it`, fix: `chmod 600 ${shellWord(file)}` };
}

async function isCredential(file: string, found: Found, reader: Reader): Promise<boolean> {
  if (reader.credentialsDirectory === null) return false;
  try {
    const real = await realpath(file);
    const folder = await realpath(reader.credentialsDirectory);
    const again = await stat(real);
    const inside = path.relative(folder, real);
    return (
      again.dev === found.dev &&
      again.ino === found.ino &&
      inside !== '' &&
      !inside.startsWith('..') &&
      !path.isAbsolute(inside)
    );
  } catch {
    return false;
  }
}

/** Null when there is more than `limit`. What `stat` said of the size is not believed: it may grow. */
async function readBounded(handle: FileHandle, limit: number): Promise<Buffer | null> {
  const chunks: Buffer[] = [];
  let length = 0;
  for (;;) {
    const chunk = Buffer.alloc(Math.min(64 * 1024, limit + 1 - length));
    const { bytesRead } = await handle.read(chunk, 0, chunk.length, null);
    if (bytesRead === 0) {
      const whole = Buffer.concat(chunks, length);
      for (const one of chunks) one.fill(0);
      return whole;
    }
    chunks.push(chunk.subarray(0, bytesRead));
    length += bytesRead;
    if (length > limit) return null;
  }
}

function faultOf(error: unknown): FileFault {
  const code = (error as NodeJS.ErrnoException).code;
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return { kind: 'missing' };
    case 'EACCES':
    case 'EPERM':
      return { kind: 'unreadable', why: `user ${process.geteuid?.() ?? ''} has no permission`.replace('  ', ' ') };
    case 'ELOOP':
      return { kind: 'unreadable', why: 'its symbolic links go in a circle' };
    case 'ENXIO':
      return { kind: 'not_a_file', what: 'a device or socket' };
    default:
      return { kind: 'unreadable', why: code ?? 'unknown error' };
  }
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replace(/'/g, `'\\''`)}'`;
}

/** What is wrong with the content of a secret. */
export type SecretFault = 'empty' | 'placeholder' | 'assignment' | 'several_lines' | 'control_character' | 'blank';

/** The bytes of a secret without the line end that editors and `echo` leave, or what is wrong with them. */
export function secretFrom(bytes: Buffer): { readonly bytes: Buffer } | { readonly fault: SecretFault } {
  let end = bytes.length;
  if (bytes[end - 1] === 0x0a) end--;
  if (bytes[end - 1] === 0x0d) end--;
  const kept = bytes.subarray(0, end);
  const text = kept.toString('latin1');
  if (text.trim() === '') return { fault: 'empty' };
  if (/CHANGE[_-]?ME|REPLACE[_-]?ME/i.test(text) || /^(?:<[^<>]*>|your[-_].*)$/i.test(text.trim())) {
    return { fault: 'placeholder' };
  }
  // `=` at the end is the padding of base64, not an assignment.
  if (/^\s*(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=(?!=*\s*$)/.test(text)) return { fault: 'assignment' };
  if (/[\r\n]/.test(text)) return { fault: 'several_lines' };
  // eslint-disable-next-line no-control-regex -- that is what is looked for
  if (/[\x00-\x1f\x7f]/.test(text)) return { fault: 'control_character' };
  if (text.trim() !== text) return { fault: 'blank' };
  return { bytes: Buffer.from(kept) };
}
