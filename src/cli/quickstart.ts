import { randomBytes } from 'node:crypto';
import { chmod, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { sha256Hex } from '../secret/digest.js';

/** What `guardbee run` serves when it is given no policy: the preset `quickstart`, filled in. */
export interface Quickstart {
  /** The policy's text, also written to `policyFile` for the reader's own use. */
  readonly text: string;
  readonly policyFile: string;
  readonly tokenFile: string;
  readonly stateDir: string;
  readonly certFile: string;
}

export interface QuickstartOptions {
  /** `HOST:PORT`. */
  readonly listen: string;
  /** `HOST:PORT`, or `off`. */
  readonly admin: string;
  readonly upstream: string;
  readonly stateDir: string;
}

/** A problem that the user can mend; printed as it is. */
export class QuickstartError extends Error {}

/** `$STATE_DIRECTORY` (systemd), else the XDG base directory for state. */
export function defaultStateDir(env: NodeJS.ProcessEnv): string {
  const systemd = (env['STATE_DIRECTORY'] ?? '').split(':')[0] ?? '';
  if (systemd !== '') return systemd;
  const xdg = env['XDG_STATE_HOME'] ?? '';
  return join(xdg.startsWith('/') ? xdg : join(homedir(), '.local', 'state'), 'guardbee');
}

/** Makes the private state directory and the API token in it, and fills the preset in. Safe to do again and again. */
export async function prepareQuickstart(options: QuickstartOptions): Promise<Quickstart> {
  const dir = join(options.stateDir, 'quickstart');
  await privateDirectory(options.stateDir);
  await privateDirectory(dir);
  const tokenFile = join(dir, 'token');
  const token = await readOrMakeToken(tokenFile);
  await writePrivate(
    join(dir, 'tokens.yaml'),
    `# Written by guardbee run; holds the hash of the token in ./token.\ntokens:\n  - { name: quickstart, roles: [user], sha256: ${sha256Hex(token)} }\n`,
  );
  const policyFile = join(dir, 'policy.yaml');
  const preset = await readFile(fileURLToPath(new URL('../../../policies/quickstart.yaml', import.meta.url)), 'utf8');
  const text = fillIn(preset, options);
  await writePrivate(policyFile, text);
  return {
    text,
    policyFile,
    tokenFile,
    stateDir: options.stateDir,
    certFile: join(options.stateDir, 'tls', 'main', 'self-signed.crt'),
  };
}

/** Replaces the preset's own lines; whatever is not found is a mistake in the preset, not in the user's command. */
function fillIn(preset: string, options: QuickstartOptions): string {
  let text = preset.replace(/^(?:#.*\n)+/, '');
  const put = (pattern: RegExp, line: string): void => {
    if (!pattern.test(text)) throw new QuickstartError(`the quickstart preset has no line for ${String(pattern)}`);
    text = text.replace(pattern, line);
  };
  put(/^ {4}bind: .*$/m, `    bind: ${JSON.stringify(options.listen)}`);
  put(/^ {4}upstream: .*$/m, `    upstream: ${JSON.stringify(options.upstream)}`);
  put(/^admin: .*$\n/m, options.admin === 'off' ? '' : `admin: { bind: ${JSON.stringify(options.admin)} }\n`);
  return (
    '# Written by guardbee run at every start without a policy. To keep changes, copy it and run\n' +
    '#   guardbee run --policy COPY\n' +
    `${text}state: { dir: ${JSON.stringify(options.stateDir)} }\n`
  );
}

async function privateDirectory(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const { mode, uid } = await stat(dir);
  if (process.getuid !== undefined && uid !== process.getuid()) {
    throw new QuickstartError(`${dir} belongs to another user; name another place with --state-dir`);
  }
  if ((mode & 0o077) !== 0) await chmod(dir, 0o700);
}

async function readOrMakeToken(file: string): Promise<string> {
  try {
    const { mode } = await stat(file);
    if ((mode & 0o077) !== 0) {
      throw new QuickstartError(
        `${file} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${file}`,
      );
    }
    const token = (await readFile(file, 'utf8')).trim();
    if (token.length >= 16) return token;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
  }
  const token = `gbee_${randomBytes(32).toString('base64url')}`;
  await writePrivate(file, `${token}\n`);
  return token;
}

async function writePrivate(file: string, text: string): Promise<void> {
  const temporary = `${file}.${String(process.pid)}.tmp`;
  await writeFile(temporary, text, { mode: 0o600 });
  await rename(temporary, file);
}
