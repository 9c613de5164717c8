import { type WatchedProcess, startGuardbee } from '../support/process.js';
import type { LogLine } from '../support/process.js';
import { type PolicyValue, simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { freePort } from '../support/free-port.js';

/** An authority, and where it looks. */
export interface AuthorityAt {
  readonly directoryUrl: string;
  readonly caFile: string;
  readonly httpPort: number;
  readonly tlsPort: number;
}

export interface AcmeGuardOptions {
  readonly hosts: readonly string[];
  /** Keys of `acme` to add or replace. */
  readonly acme?: Readonly<Record<string, PolicyValue>>;
  readonly upstream?: string;
  /** Writes files that the policy names; given the folder the policy stands in. */
  readonly prepare?: (directory: TemporaryDirectory) => void;
  /** Top-level keys to add or replace. */
  readonly top?: Readonly<Record<string, PolicyValue>>;
}

/** guardbee as a process of its own, at the ports that an authority looks at; its state outlives it. */
export class AcmeGuard implements AsyncDisposable {
  readonly directory = new TemporaryDirectory();
  readonly token = tokenPair();
  readonly adminPort: number;
  readonly authority: AuthorityAt;
  #options: AcmeGuardOptions;
  #process: WatchedProcess | null = null;

  constructor(authority: AuthorityAt, options: AcmeGuardOptions, adminPort: number) {
    this.authority = authority;
    this.#options = options;
    this.adminPort = adminPort;
  }

  get process(): WatchedProcess {
    if (this.#process === null) throw new Error('it was not started');
    return this.#process;
  }

  get stateDir(): string {
    return this.directory.file('state');
  }

  get policyFile(): string {
    return this.directory.file('policy.yaml');
  }

  writePolicy(options: AcmeGuardOptions = this.#options): void {
    this.#options = options;
    const { authority } = this;
    const { hosts } = options;
    const policy = simplePolicy({
      upstream: options.upstream ?? 'http://127.0.0.1:9',
      bind: `127.0.0.1:${String(authority.tlsPort)}`,
      stateDir: this.stateDir,
      tokens: [{ name: 'operator', roles: ['operator'], sha256: this.token.sha256 }],
      listener: { hosts: [...hosts], tls: { acme: true } },
      top: {
        acme: {
          directory: authority.directoryUrl,
          ca: authority.caFile,
          terms_agreed: true,
          email: 'ops@example.com',
          ...options.acme,
        },
        admin: { bind: `127.0.0.1:${String(this.adminPort)}` },
        ...options.top,
      },
    });
    const listeners = policy['listeners'] as Readonly<Record<string, PolicyValue>>;
    writePolicy(this.directory, {
      ...policy,
      listeners: {
        ...listeners,
        plain: { type: 'redirect', bind: `127.0.0.1:${String(authority.httpPort)}`, hosts: [...hosts] },
      },
    });
  }

  async start(): Promise<void> {
    const running = startGuardbee({ args: ['run', '--policy', this.policyFile] });
    this.#process = running;
    await running.waitForLog((line) => line['event.name'] === 'ready');
  }

  /** The n-th time that this run got a certificate for the host, from 1. */
  async issued(host: string, nth = 1, timeoutMs = 30_000): Promise<LogLine> {
    return await this.said('acme.issued', host, nth, timeoutMs);
  }

  async said(event: string, host: string, nth = 1, timeoutMs = 30_000): Promise<LogLine> {
    const all = (): readonly LogLine[] =>
      this.process.logLines.filter((line) => line['event.name'] === event && line['guardbee.host'] === host);
    return await this.process.waitForLog((line) => line === all()[nth - 1], timeoutMs);
  }

  async kill(): Promise<void> {
    await this.#process?.stop();
    this.#process = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.directory[Symbol.dispose]();
  }
}

export async function startAcmeGuard(authority: AuthorityAt, options: AcmeGuardOptions): Promise<AcmeGuard> {
  const guard = new AcmeGuard(authority, options, await freePort());
  options.prepare?.(guard.directory);
  guard.writePolicy();
  await guard.start();
  return guard;
}
