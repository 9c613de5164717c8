import assert from 'node:assert/strict';
import { testCertificates, writeKeyPair } from './certificates.js';
import {
  simplePolicy,
  tokenPair,
  writePolicy,
  type PolicyValue,
  type SimplePolicyOptions,
  type TokenLine,
} from './policy-builder.js';
import { startGuardbee, type LogLine, type WatchedProcess } from './process.js';
import type { Target } from './raw-client.js';
import type { RecordingUpstream } from './recording-upstream.js';
import { TemporaryDirectory } from './temporary-directory.js';

export type PolicyObject = Readonly<Record<string, PolicyValue>>;

export interface GuardOptions extends Omit<Partial<SimplePolicyOptions>, 'stateDir' | 'tokens' | 'bind'> {
  /** As a policy's `upstream:` wants it. */
  readonly upstream: string;
  /** More tokens than the one that `Guard.token` holds. */
  readonly tokens?: readonly TokenLine[];
  /** More listeners, each with the keys it adds to those of `main`; `tls: true` stands for the test certificate. */
  readonly listeners?: Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>;
  /** Keys to add to the authenticator `keys`, and other authenticators. */
  readonly authenticators?: Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>;
  readonly env?: Readonly<Record<string, string>>;
  readonly nodeArgs?: readonly string[];
  /** A policy to be tried beside it (`run --shadow`), made of the one in force; written to `shadow.yaml`. */
  readonly shadow?: (policy: PolicyObject) => PolicyObject;
  /** Writes files that the policy names; given the folder the policy stands in. */
  readonly prepare?: (directory: TemporaryDirectory) => void;
}

/**
 * guardbee as a process of its own in front of an upstream: listener `main` speaks plain HTTP, `secure` TLS, both of
 * the same routes; one token of an operator.
 *
 *     await using guard = await startGuard({ upstream: upstream.url });
 *     await request(guard.plain, { token: guard.token });
 */
export class Guard implements AsyncDisposable {
  readonly process: WatchedProcess;
  /** Of an operator: `read` and `write`. */
  readonly token: string;
  readonly ca: string;
  readonly policyFile: string;
  readonly directory: TemporaryDirectory;
  readonly #targets: ReadonlyMap<string, Target>;
  readonly #records = new Map<string, LogLine>();
  #looked = 0;

  constructor(parts: {
    readonly process: WatchedProcess;
    readonly token: string;
    readonly ca: string;
    readonly policyFile: string;
    readonly directory: TemporaryDirectory;
    readonly targets: ReadonlyMap<string, Target>;
  }) {
    this.process = parts.process;
    this.token = parts.token;
    this.ca = parts.ca;
    this.policyFile = parts.policyFile;
    this.directory = parts.directory;
    this.#targets = parts.targets;
  }

  get pid(): number {
    return this.process.pid;
  }

  get plain(): Target {
    return this.target('main');
  }

  /** TLS; ALPN is left to the client. */
  get secure(): Target {
    return this.target('secure');
  }

  target(listener: string): Target {
    const target = this.#targets.get(listener);
    assert.ok(target !== undefined, `no listener ${listener}`);
    return target;
  }

  /** The access log's line of an exchange. */
  async record(requestId: string, timeoutMs?: number): Promise<LogLine> {
    return await this.#find(() => this.#records.get(requestId) ?? null, timeoutMs);
  }

  /** The first line of the access log that matches, past or future. */
  async recordWhere(match: (line: LogLine) => boolean, timeoutMs?: number): Promise<LogLine> {
    return await this.#find(() => [...this.#records.values()].find(match) ?? null, timeoutMs);
  }

  /** The lines of the access log so far. */
  get records(): readonly LogLine[] {
    this.#look();
    return [...this.#records.values()];
  }

  #look(): void {
    const lines = this.process.logLines;
    for (; this.#looked < lines.length; this.#looked += 1) {
      const line = lines[this.#looked];
      const id = line?.['guardbee.request_id'];
      const isRecord = line?.['guardbee.decision'] !== undefined;
      if (line !== undefined && isRecord && typeof id === 'string') this.#records.set(id, line);
    }
  }

  async #find(look: () => LogLine | null, timeoutMs?: number): Promise<LogLine> {
    // The process asks of each of its lines again whenever there is a new one: the newest stands for all of them.
    await this.process.waitForLog((line) => {
      if (line !== this.process.logLines.at(-1)) return false;
      this.#look();
      return look() !== null;
    }, timeoutMs);
    const found = look();
    assert.ok(found !== null);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.process.stop();
    } finally {
      this.directory.remove();
    }
  }
}

/** `GUARD_PROCESSES=2` has tests try a guard of so many processes that were written of one. */
export async function startGuard(options: GuardOptions): Promise<Guard> {
  const { authorityPem, server } = await certificates();
  const directory = new TemporaryDirectory();
  const { token, sha256 } = tokenPair();
  writeKeyPair(directory, server);
  options.prepare?.(directory);
  const simple = simplePolicy({
    ...options,
    tokens: [{ name: 'keeper', sha256, roles: ['operator'] }, ...(options.tokens ?? [])],
    stateDir: directory.file('state'),
  });
  const main = (simple['listeners'] as Readonly<Record<string, Readonly<Record<string, PolicyValue>>>>)['main'];
  const tls: PolicyValue = { cert: 'server.crt', key: 'server.key' };
  const listeners: Record<string, PolicyValue> = { main: main ?? {}, secure: { ...main, tls } };
  for (const [name, keys] of Object.entries(options.listeners ?? {})) {
    listeners[name] = { ...main, ...keys, ...(keys['tls'] === true ? { tls } : {}) };
  }
  const authenticators: Record<string, PolicyValue> = {};
  const made = simple['authenticators'] as typeof options.authenticators;
  for (const given of [made ?? {}, options.authenticators ?? {}]) {
    for (const [name, keys] of Object.entries(given)) authenticators[name] = { ...made?.[name], ...keys };
  }
  const processes = process.env['GUARD_PROCESSES'];
  const policy = {
    ...simple,
    ...(processes === undefined ? {} : { processes: Number(processes) }),
    listeners,
    authenticators,
  };
  const policyFile = writePolicy(directory, policy);
  const shadow = options.shadow === undefined ? null : writePolicy(directory, options.shadow(policy), 'shadow.yaml');
  const child = startGuardbee({
    args: ['run', '--policy', policyFile, ...(shadow === null ? [] : ['--shadow', shadow])],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.nodeArgs === undefined ? {} : { nodeArgs: options.nodeArgs }),
  });
  try {
    const targets = new Map<string, Target>();
    for (const name of Object.keys(listeners)) {
      const line = await child.waitForLog(
        (one) => String(one['msg']).startsWith('listening on ') && one['guardbee.listener'] === name,
      );
      const url = new URL(String(line['url.full']));
      const port = Number(url.port);
      targets.set(name, url.protocol === 'https:' ? { port, tls: { ca: authorityPem } } : { port });
    }
    return new Guard({ process: child, token, ca: authorityPem, policyFile, directory, targets });
  } catch (error) {
    await child.stop();
    directory.remove();
    throw error;
  }
}

async function certificates(): Promise<{
  readonly authorityPem: string;
  readonly server: { readonly cert: string; readonly key: string };
}> {
  const { ca, server } = await testCertificates();
  return { authorityPem: ca, server };
}

/**
 * Not a byte reached the upstream. That somebody connected says nothing: guardbee looks every few seconds whether the
 * upstream is there, and says nothing to it.
 */
export function assertUntouched(upstream: RecordingUpstream): void {
  assert.deepEqual(
    upstream.connections.filter((connection) => connection.bytesSeen > 0).map((connection) => connection.text),
    [],
    'the upstream saw something',
  );
}
