/**
 * Reading files whose mode matters. What is judged is the file that was opened (fstat on the descriptor), so nobody can
 * swap it between the look and the read; and it is opened without blocking, so a FIFO in its place does not hang us.
 * The way to a private file is walked link by link, and each folder on it judged too: whoever may write to one of them
 * can put another file there.
 */
import { hash } from 'node:crypto';
import { constants } from 'node:fs';
import type { Stats } from 'node:fs';
import { lstat, open, readlink, realpath, stat, statfs } from 'node:fs/promises';
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
  /** Absolute paths of mounts that an orchestrator keeps secrets in (the policy's `secret_mounts`). */
  readonly secretMounts: readonly string[];
}

/**
 * How much may be open. `private`: nobody but the owner reads it (with the exceptions of `judgePrivate`), and nobody
 * else can put another in its place. `trusted`: nobody but the owner writes it. `any`: not asked.
 */
export type Demand = 'private' | 'trusted' | 'any';

export type FileFault =
  | { readonly kind: 'missing' }
  | { readonly kind: 'unreadable'; readonly why: string; readonly fix: string }
  | { readonly kind: 'not_a_file'; readonly what: string }
  | { readonly kind: 'too_large'; readonly limit: number }
  /** Others may read it, write it, or exchange it. `mode` is that of what is too open: the file, or a folder above. */
  | {
      readonly kind: 'too_open';
      readonly mode: string;
      readonly why: string;
      /** The modes that would be fine; fits behind "allowed is". */
      readonly allowed: string;
      /** A command to paste. */
      readonly fix: string;
    };

export interface ReadFile {
  /** Null when there is nothing to read. A file that is too open is read all the same, so that its content is checked too. */
  readonly bytes: Buffer | null;
  readonly fault: FileFault | null;
}

/** What was found where a file was looked for, without holding it. */
export interface FileRead {
  /** The longest that it may be. */
  readonly limit: number;
  /** The same for the same content, or for the same reason that there is none. */
  readonly content: string;
}

/** By absolute path, as the file was named: links are followed anew each time. */
export type FilesRead = ReadonlyMap<string, FileRead>;

export function contentOf({ bytes, fault }: ReadFile): string {
  return bytes === null ? (fault?.kind ?? 'missing') : hash('sha256', bytes, 'hex');
}

/** @param secretMounts Absolute paths. */
export function currentReader(env: NodeJS.ProcessEnv, secretMounts: readonly string[] = []): Reader {
  const groups = new Set(process.getgroups?.() ?? []);
  const own = process.getegid?.();
  if (own !== undefined) groups.add(own);
  const credentials = env['CREDENTIALS_DIRECTORY'];
  return {
    groups,
    credentialsDirectory: credentials === undefined || credentials === '' ? null : credentials,
    secretMounts,
  };
}

const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

// Windows has no such modes; Node makes some up.
const HAS_MODES = process.platform !== 'win32';

export async function readFile(file: string, demand: Demand, limit: number, reader: Reader): Promise<ReadFile> {
  let way: Way;
  let handle: FileHandle;
  try {
    const walks = demand === 'private' && HAS_MODES;
    way = walks ? await walk(file) : { real: file, fault: null };
    handle = await open(way.real, walks ? OPEN_FLAGS | constants.O_NOFOLLOW : OPEN_FLAGS);
  } catch (error) {
    return { bytes: null, fault: faultOf(error) };
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) {
      const what = found.isDirectory() ? 'a folder' : found.isFIFO() ? 'a FIFO' : 'a device or socket';
      return { bytes: null, fault: { kind: 'not_a_file', what } };
    }
    const fault = (await judge(file, way.real, found, demand, reader)) ?? way.fault;
    const bytes = await readBounded(handle, limit);
    if (bytes === null) return { bytes: null, fault: { kind: 'too_large', limit } };
    return { bytes, fault };
  } catch (error) {
    return { bytes: null, fault: faultOf(error) };
  } finally {
    await handle.close();
  }
}

/**
 * Can others put another file in the place of this one: a folder on the way to it that they may write to. Null where
 * they can't, and where there is no such file.
 */
export async function judgeWay(file: string): Promise<TooOpen | null> {
  if (!HAS_MODES) return null;
  try {
    return (await walk(file)).fault;
  } catch {
    // Whoever reads it says why it can't be.
    return null;
  }
}

export type TooOpen = Extract<FileFault, { kind: 'too_open' }>;

interface Way {
  /** The path without links. */
  readonly real: string;
  /** A folder on the way that others may write to. */
  readonly fault: TooOpen | null;
}

/** As many links as Linux follows (path_resolution(7)). */
const MOST_LINKS = 40;

/** Follows a path as the kernel would, and looks at each folder that it leads through. */
async function walk(file: string): Promise<Way> {
  const { root } = path.parse(path.resolve(file));
  const left = path.resolve(file).slice(root.length).split(path.sep);
  let fault: TooOpen | null = null;
  let at = root;
  let folder = await lstat(root);
  for (let name = left.shift(), links = 0; name !== undefined; name = left.shift()) {
    if (name === '' || name === '.') continue;
    if (name === '..') {
      at = path.dirname(at);
      folder = await lstat(at);
      continue;
    }
    fault ??= judgeFolder(at, folder);
    const next = path.join(at, name);
    const found = await lstat(next);
    // /tmp and its like: nobody takes away what is another's, but anybody may have put this there. The kernel refuses
    // to follow such links too (fs.protected_symlinks), which it can't when we do it ourselves.
    if ((folder.mode & 0o002) !== 0 && !isOurs(found)) fault ??= strangers(next, found);
    if (found.isSymbolicLink()) {
      if (++links > MOST_LINKS) throw Object.assign(new Error('too many links'), { code: 'ELOOP' });
      const target = await readlink(next);
      left.unshift(...target.split(path.sep));
      if (!path.isAbsolute(target)) continue;
      at = root;
      folder = await lstat(root);
    } else {
      at = next;
      folder = found;
    }
  }
  return { real: at, fault };
}

/** Root's or our own. */
function isOurs({ uid }: Stats): boolean {
  return uid === 0 || uid === process.geteuid?.();
}

function judgeFolder(folder: string, found: Stats): TooOpen | null {
  const open = found.mode & 0o022;
  if (open === 0 || !found.isDirectory()) return null;
  const sticky = (found.mode & 0o1000) !== 0;
  if (sticky && isOurs(found)) return null;
  // Where each user has a group of his own, of the same number, umask 002 is usual; nobody else is in it.
  if (open === 0o020 && found.gid === found.uid) return null;
  const who = (open & 0o002) === 0 ? 'the group' : 'everyone';
  return {
    kind: 'too_open',
    mode: octal(found.mode),
    why: `${who} may write to the folder ${folder}, and so put another file in its place`,
    allowed: 'a folder that only its owner writes to',
    fix: `chmod go-w ${shellWord(folder)}`,
  };
}

function strangers(file: string, found: Stats): TooOpen {
  return {
    kind: 'too_open',
    mode: octal(found.mode),
    why: `${file} stands in a folder that everyone writes to, and is neither root's nor guardbee's own (user ${found.uid})`,
    allowed: 'what root or guardbee itself put there',
    fix: `chown -h ${process.geteuid?.() ?? 0} ${shellWord(file)}`,
  };
}

async function judge(
  file: string,
  real: string,
  found: Stats,
  demand: Demand,
  reader: Reader,
): Promise<FileFault | null> {
  if (demand === 'any' || !HAS_MODES) return null;
  if (demand === 'private') return await judgePrivate(file, real, found, reader);
  if ((found.mode & 0o022) === 0) return null;
  const who = (found.mode & 0o002) === 0 ? 'its group' : 'everyone';
  return {
    kind: 'too_open',
    mode: octal(found.mode),
    why: `${who} may change it`,
    allowed: 'a file that only its owner writes to',
    fix: `chmod go-w ${shellWord(file)}`,
  };
}

/**
 * 0600 and 0400; and, read-only for others than the owner, who is root or we ourselves: 0640 and 0440 of a group of
 * ours (root:service), 0440 below systemd's folder, and what an orchestrator keeps in memory where the policy says.
 */
async function judgePrivate(file: string, real: string, found: Stats, reader: Reader): Promise<TooOpen | null> {
  if ((found.mode & 0o077) === 0) return null;
  let why = `${(found.mode & 0o007) === 0 ? 'its group' : 'everyone'} may ${(found.mode & 0o022) === 0 ? 'read' : 'change'} it`;
  if ((found.mode & 0o037) === 0 && isOurs(found)) {
    if (reader.groups.has(found.gid)) return null;
    // systemd grants the user of a service its credentials by an ACL, which a stat shows as 0440 (systemd issue 29435).
    // The group then is root's, and nobody but the service enters the folder.
    if ((found.mode & 0o200) === 0 && (await isCredential(real, reader))) return null;
    why += `, and is none of guardbee's (group ${found.gid})`;
  }
  const refusal = await refusalOfMounts(real, found, reader);
  if (refusal === null) return null;
  return {
    kind: 'too_open',
    mode: octal(found.mode),
    why: `${why}${refusal}`,
    allowed: '0600 or 0400',
    fix: `chmod 600 ${shellWord(file)}`,
  };
}

async function isCredential(real: string, reader: Reader): Promise<boolean> {
  const { credentialsDirectory } = reader;
  if (credentialsDirectory === null || !path.isAbsolute(credentialsDirectory)) return false;
  const folder = await realpath(credentialsDirectory).catch(() => null);
  return folder !== null && isBelow(real, folder);
}

/** `f_type` of statfs(2): tmpfs and ramfs. */
const IN_MEMORY: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);

/**
 * Swarm and Kubernetes mount secrets as files of mode 0444 or 0644, in memory, for one container alone. Null where this
 * is such a file; else what more there is to say (nothing where no mount was named for it).
 */
async function refusalOfMounts(real: string, found: Stats, reader: Reader): Promise<string | null> {
  for (const mount of reader.secretMounts) {
    const folder = await realpath(mount).catch(() => null);
    if (folder === null || !isBelow(real, folder)) continue;
    if (found.uid !== 0) return `; of secret_mounts only files of root are taken (this one is of user ${found.uid})`;
    if ((found.mode & 0o033) !== 0) return '; of secret_mounts only files are taken that nobody but root may change';
    const [at, above, system] = await Promise.all([stat(folder), stat(path.dirname(folder)), statfs(folder)]);
    if (at.dev === above.dev || at.dev !== found.dev) return `; ${mount} of secret_mounts is not where it is mounted`;
    if (at.uid !== 0) return `; ${mount} of secret_mounts is not root's`;
    if (!IN_MEMORY.has(system.type)) return `; ${mount} of secret_mounts is on a disk, not in memory (tmpfs)`;
    return null;
  }
  return '';
}

function isBelow(real: string, folder: string): boolean {
  const inside = path.relative(folder, real);
  return inside !== '' && inside !== '..' && !inside.startsWith(`..${path.sep}`) && !path.isAbsolute(inside);
}

function octal(mode: number): string {
  return `0${(mode & 0o7777).toString(8)}`;
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
      return {
        kind: 'unreadable',
        why: `user ${process.geteuid?.() ?? ''} has no permission`.replace('  ', ' '),
        fix: 'let the user that guardbee runs as read the file and enter each folder on the way to it, or ask as that user',
      };
    case 'ELOOP':
      return { kind: 'unreadable', why: 'its symbolic links go in a circle', fix: 'have the link lead to a file' };
    case 'ENXIO':
      return { kind: 'not_a_file', what: 'a device or socket' };
    default:
      return { kind: 'unreadable', why: code ?? 'unknown error', fix: 'see what keeps the system from reading it' };
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
