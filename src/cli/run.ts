import type { Command } from 'commander';
import { AddressError, App, type ReloadWatcher } from '../app.js';
import { type Demo, startDemo } from '../demo/demo.js';
import { type Log, createLog } from '../observe/log.js';
import { Redactor, constant } from '../observe/redact.js';
import type { Issue } from '../policy/issue.js';
import { knownDigests } from '../policy/known-digests.js';
import { type Loaded, loadPolicyText } from '../policy/load.js';
import { exitCodeFor, renderIssues, sortIssues } from '../policy/render-issues.js';
import type { Policy } from '../policy/policy.js';
import { CertificateError } from '../server/certificate.js';
import { StateError, StateInUseError } from '../server/state.js';
import { exposureIssues } from '../server/exposure-issues.js';
import type { InheritedSockets } from '../server/inherited-sockets.js';
import { type ReadAgain, logWarnings } from '../server/reloading.js';
import { SessionKeyError } from '../server/session-key.js';
import { failedTests } from './check.js';
import { EXIT, ending } from './exit-code.js';
import {
  type PolicyOptions,
  type PolicySource,
  fileSource,
  namedPolicy,
  openPolicy,
  positionOf,
  takesPolicy,
} from './policy-source.js';
import { judgeNode } from './node-line.js';
import { type Quickstart, QuickstartError, defaultStateDir, prepareQuickstart } from './quickstart.js';
import type { ServiceNotices } from './service-notices.js';
import type { Voice } from './voice.js';

export interface RunOptions {
  /** Null: the quick start. */
  readonly file: string | null;
  /** Policy that is tried beside it. */
  readonly shadow?: string;
  readonly upstream?: string;
  readonly listen?: string;
  readonly admin?: string;
  readonly stateDir?: string;
}

/** Serves until a signal ends it. Resolves to the exit code. */
export async function run(options: RunOptions, voice: Voice): Promise<number> {
  const file = options.file;
  const { shadow } = options;
  if (file === null) {
    if (shadow === undefined) return runQuickstart(options, voice);
    voice.err('--shadow tries a policy beside another: name the one in force with --policy');
    return EXIT.usage;
  }
  const misplaced = (['upstream', 'listen', 'admin', 'stateDir'] as const).filter(
    (name) => options[name] !== undefined,
  );
  if (misplaced.length > 0) {
    const flags = misplaced.map((name) => `--${name === 'stateDir' ? 'state-dir' : name}`).join(' and ');
    voice.err(`${flags} belong to a run without a policy; ${file} says these things itself`);
    return EXIT.usage;
  }
  if (shadow === '-' || shadow === '') {
    voice.err('--shadow is the name of a file');
    return EXIT.usage;
  }
  const source = await openPolicy(file, {});
  return serve(source, shadow === undefined ? null : await fileSource(shadow).load(), voice, null);
}

async function runQuickstart(options: RunOptions, voice: Voice): Promise<number> {
  let demo: Demo | null = null;
  try {
    if (options.upstream === undefined) demo = await startDemo({ host: '127.0.0.1', port: 0 });
    const quickstart = await prepareQuickstart({
      listen: options.listen ?? '127.0.0.1:8443',
      admin: options.admin ?? '127.0.0.1:9180',
      upstream: options.upstream ?? demo?.url ?? '',
      stateDir: options.stateDir ?? defaultStateDir(process.env),
    });
    const { text, policyFile } = quickstart;
    const source = {
      load: async () => await loadPolicyText(text, policyFile, { env: process.env, now: Date.now() }),
      text: () => Promise.resolve(text),
    };
    return await serve(source, null, voice, { quickstart, demo: demo !== null });
  } catch (error) {
    if (!(error instanceof QuickstartError)) throw error;
    voice.err(error.message);
    return EXIT.secret;
  } finally {
    await demo?.close();
  }
}

/** What `check` looks at too: the other half of the bind policy, and the policy's own tests. Nothing is listened on for it. */
async function judged(loaded: Loaded, inherited: InheritedSockets | null): Promise<Loaded> {
  if (!loaded.ok) return loaded;
  const { policy } = loaded;
  const found = [
    ...exposureIssues(policy),
    ...failedTests(policy, Date.now()),
    ...(await socketIssues(policy, inherited)),
  ];
  const issues: Issue[] = sortIssues(found, policy.file);
  return issues.length === 0 ? loaded : { ok: false, issues, files: loaded.files };
}

/** The rest of the bind policy, which depends on what this process was started with. */
async function socketIssues(policy: Policy, inherited: InheritedSockets | null): Promise<readonly Issue[]> {
  if (policy.listeners.every(({ bind }) => bind.socket === null)) return [];
  const { InheritedSockets } = await import('../server/inherited-sockets.js');
  return (inherited ?? InheritedSockets.NONE).issues(policy);
}

/** Null where systemd hands over none: then not even the code for it is read. */
async function inheritedSockets(): Promise<InheritedSockets | null> {
  if (process.env['LISTEN_FDS'] === undefined) return null;
  const { InheritedSockets } = await import('../server/inherited-sockets.js');
  return InheritedSockets.take(process.env, process.pid);
}

/** A policy that may be served or tried, or the exit code; then what is wrong has been said. */
async function sound(loaded: Loaded, inherited: InheritedSockets | null, voice: Voice): Promise<Policy | number> {
  const read = await judged(loaded, inherited);
  if (read.ok) return read.policy;
  voice.err(renderIssues(read.issues));
  return exitCodeFor(read.issues);
}

async function readAgain(source: Source, inherited: InheritedSockets | null): Promise<ReadAgain> {
  const read = await judged(await source.load(), inherited);
  const { files } = read;
  if (!read.ok) return { ok: false, exitCode: exitCodeFor(read.issues), issues: read.issues, files };
  const text = await source.text();
  return { ok: true, policy: read.policy, files, locate: (path) => (text === null ? null : positionOf(text, path)) };
}

type Source = Pick<PolicySource, 'load' | 'text'>;

/** Digests of credentials that are no longer in the policy, and that somebody may still show. */
const MOST_FORMER = 100_000;

/** What the log never shows. */
class KnownCredentials {
  readonly #digests = new Set<string>();

  constructor(policies: readonly Policy[]) {
    for (const policy of policies) this.add(policy);
  }

  has(digest: string): boolean {
    return this.#digests.has(digest);
  }

  add(policy: Policy): void {
    const now = knownDigests(policy);
    for (const digest of now) {
      // The last ones are those that there are.
      this.#digests.delete(digest);
      this.#digests.add(digest);
    }
    for (const digest of this.#digests) {
      if (this.#digests.size <= now.size + MOST_FORMER) break;
      this.#digests.delete(digest);
    }
  }
}

/** @param tried the policy that is tried beside it; null: none is */
async function serve(
  source: Source,
  tried: Loaded | null,
  voice: Voice,
  hints: { readonly quickstart: Quickstart; readonly demo: boolean } | null,
): Promise<number> {
  const inherited = await inheritedSockets();
  const loaded = await source.load();
  const policy = await sound(loaded, inherited, voice);
  if (typeof policy === 'number') return policy;
  const shadow = tried === null ? null : await sound(tried, inherited, voice);
  if (typeof shadow === 'number') return shadow;
  const known = new KnownCredentials([policy, shadow].filter((one) => one !== null));
  const redactor = new Redactor({ knowsDigest: (digest) => known.has(digest) });
  const log = createLog(policy.log, redactor);
  const notices = await noticesTo(log);
  const ended = endOfProcess(log, notices);
  try {
    const app = await App.start({
      policy,
      shadow,
      log,
      redactor,
      files: loaded.files,
      readAgain: async () => await readAgain(source, inherited),
      inherited,
      installing: (next) => {
        known.add(next);
        // A former credential of the shadow's is one of its still.
        if (shadow !== null) known.add(shadow);
        redactor.digestsChanged();
      },
      ...(notices === null ? {} : { reloads: reloadsTold(notices) }),
    });
    announce(app, policy, shadow, log);
    for (const unused of inherited?.unused ?? []) {
      log.warn('socket.unused', `systemd handed over a socket that no listener takes: ${unused}`);
    }
    notices?.ready(servingStatus(policy.version), { listening: () => app.listening });
    if (hints !== null) voice.err(hintLines(app, hints.quickstart, hints.demo));
    return await ended.drained(app);
  } catch (error) {
    if (error instanceof AddressError) {
      const hint = error.code === 'EADDRINUSE' ? addressHint(hints !== null) : '';
      voice.err(`${policy.file}: listener "${error.listener}": ${error.message}${hint}`);
      return EXIT.addressInUse;
    }
    if (error instanceof StateInUseError) {
      voice.err(`${policy.file}: ${error.message}`);
      return EXIT.addressInUse;
    }
    if (error instanceof StateError) {
      voice.err(`${policy.file}: ${error.message}`);
      return EXIT.policy;
    }
    if (error instanceof CertificateError) {
      voice.err(`${policy.file}: ${error.message}`);
      return error.code === 'key_too_open' || error.code === 'dir_too_open' ? EXIT.secret : EXIT.policy;
    }
    if (error instanceof SessionKeyError) {
      voice.err(`${policy.file}: ${error.message}`);
      return EXIT.secret;
    }
    throw error;
  } finally {
    ended.forget();
    await notices?.close();
    await log.close();
  }
}

/** Null where nobody wants to be told: then not even the code for it is read. */
async function noticesTo(log: Log): Promise<ServiceNotices | null> {
  if (process.env['NOTIFY_SOCKET'] === undefined) return null;
  const { ServiceNotices, takeNoticeSettings } = await import('./service-notices.js');
  const settings = takeNoticeSettings(process.env, process.pid);
  return settings === null ? null : new ServiceNotices(settings, log);
}

function reloadsTold(notices: ServiceNotices): ReloadWatcher {
  return {
    began: () => {
      notices.reloading();
    },
    ended: (outcome) => {
      notices.reloaded(
        outcome?.ok === true
          ? servingStatus(outcome.after)
          : `The last reload failed, as the log says; policy ${outcome?.before ?? 'of before'} stays in force`,
      );
    },
  };
}

function servingStatus(version: string): string {
  return `Serving by policy ${version}`;
}

function addressHint(quickstart: boolean): string {
  return quickstart
    ? '\n  fix: stop what listens there, or choose others: --listen 127.0.0.1:8444 --admin 127.0.0.1:9181'
    : '\n  fix: stop what listens there (ss -ltnp shows it), or change `bind`';
}

/** Said once at every start: what is served, and everything about the policy that somebody should see again. */
function announce(app: App, policy: Policy, shadow: Policy | null, log: Log): void {
  logWarnings([...policy.warnings, ...(shadow?.warnings ?? [])], log);
  if (shadow !== null) announceShadow(shadow, policy, log);
  const node = judgeNode(process.versions.node, Date.now());
  if (node.status !== 'ok')
    log.warn('node.end_of_life', node.fix === null ? node.detail : `${node.detail}: ${node.fix}`);
  for (const at of app.serving) {
    log.info('listener.open', `listening on ${at.url}`, {
      'guardbee.listener': constant(at.listener),
      'url.full': constant(at.url),
    });
  }
  if (app.admin !== null) {
    const { address, port } = app.admin;
    log.info('admin.open', 'admin pages are up', {
      'url.full': constant(`http://${address.includes(':') ? `[${address}]` : address}:${String(port)}`),
    });
  }
  log.info('ready', 'ready', {
    'guardbee.policy': constant(policy.file),
    'guardbee.policy_version': constant(policy.version),
  });
  log.flush();
}

function announceShadow(shadow: Policy, policy: Policy, log: Log): void {
  log.info('shadow.on', `${shadow.file} is tried beside ${policy.file}: it decides every request too, to no effect`, {
    'guardbee.shadow.policy': constant(shadow.file),
    'guardbee.shadow.policy_version': constant(shadow.version),
  });
  const missing = (name: string, from: Policy, what: string): void => {
    log.warn('shadow.listener_missing', `${from.file} has no http listener "${name}": ${what}`, {
      'guardbee.listener': constant(name),
    });
  };
  const [inForce, tried] = [policy, shadow].map(
    ({ listeners }) => new Set(listeners.flatMap(({ type, name }) => (type === 'http' ? [name] : []))),
  );
  for (const name of inForce ?? []) {
    if (tried?.has(name) === false) missing(name, shadow, 'its requests are decided once, and counted as undecided');
  }
  for (const name of tried ?? [])
    if (inForce?.has(name) === false) missing(name, policy, 'the shadow policy gets none');
}

/** What to try, for somebody who has just started it. On stderr: stdout is the log. */
function hintLines(app: App, quickstart: Quickstart, demo: boolean): string {
  const url = app.serving[0]?.url ?? '';
  const curl = `curl --cacert ${shellWord(quickstart.certFile)}`;
  const token = `-H "Authorization: Bearer $(cat ${shellWord(quickstart.tokenFile)})"`;
  const lines = [
    '',
    demo ? `guardbee guards a demo service at ${url}. Try:` : `guardbee guards your service at ${url}. Try:`,
    '',
    `  ${curl} ${url}/${demo ? 'api/hello' : ''}`,
    '      refused: no token',
    `  ${curl} ${token} ${url}/${demo ? 'api/hello' : ''}`,
    '      answered',
  ];
  if (demo) lines.push(`  ${curl} -N ${token} ${url}/api/stream`, '      streamed, token by token');
  lines.push('', `The policy is ${quickstart.policyFile}. Ctrl-C ends it.`, '');
  return lines.join('\n');
}

function shellWord(text: string): string {
  return /^[A-Za-z0-9_./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

interface End {
  /** Resolves to the exit code when the process may end. */
  drained(app: App): Promise<number>;
  forget(): void;
}

/** SIGTERM and SIGINT drain; the second one ends at once; SIGHUP reloads; SIGUSR1 reopens the log file. */
function endOfProcess(log: Log, notices: ServiceNotices | null): End {
  let signals = 0;
  let first = (): void => undefined;
  let second = (): void => undefined;
  const asked = new Promise<void>((resolve) => {
    first = resolve;
  });
  const askedAgain = new Promise<void>((resolve) => {
    second = resolve;
  });
  const onSignal = (signal: NodeJS.Signals): void => {
    signals += 1;
    log.info('signal', signals === 1 ? `draining on ${signal}` : `ending at once on a second ${signal}`);
    if (signals === 1) first();
    else second();
  };
  const onReopen = (): void => {
    log.reopen();
    log.info('log.reopened', 'log reopened');
  };
  let running: App | null = null;
  let hungUp = false;
  const reload = (app: App): void => {
    app.reload().catch((error: unknown) => {
      log.error('policy.reload_broke', 'a reload failed inside guardbee', log.errorFields(error));
    });
  };
  const onHangup = (): void => {
    if (signals > 0) return;
    if (running === null) hungUp = true;
    else reload(running);
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  process.on('SIGUSR1', onReopen);
  // Its default would end the process, which is not what somebody who sends it after a change has in mind.
  process.on('SIGHUP', onHangup);
  return {
    drained: async (app) => {
      running = app;
      // Sent while it was starting, after a change that it may have read already or not.
      if (hungUp) reload(app);
      await asked;
      notices?.stopping(app.longestEndMs);
      const drained = await Promise.race([app.drain(), askedAgain.then(() => null)]);
      if (drained !== true) await app.stop();
      log.info('stopped', drained === true ? 'stopped; every exchange had ended' : 'stopped; open exchanges were cut');
      return drained === true ? EXIT.ok : EXIT.drainTimedOut;
    },
    forget: () => {
      process.off('SIGTERM', onSignal);
      process.off('SIGINT', onSignal);
      process.off('SIGUSR1', onReopen);
      process.off('SIGHUP', onHangup);
    },
  };
}

interface RunFlags extends PolicyOptions {
  readonly shadow?: string;
  readonly upstream?: string;
  readonly listen?: string;
  readonly admin?: string;
  readonly stateDir?: string;
}

export function registerRun(program: Command, voice: Voice): void {
  takesPolicy(program.command('run'))
    .description('Serves. Without a policy: guards a built-in demo, or the service given by --upstream.')
    .option(
      '--shadow <file>',
      'another policy that decides every request too, to no effect: where they differ is logged',
    )
    .option('--upstream <url>', 'without a policy: the service to guard, e.g. http://127.0.0.1:7833')
    .option('--listen <address>', 'without a policy: where to listen (127.0.0.1:8443)')
    .option('--admin <address>', 'without a policy: the admin pages (127.0.0.1:9180), or "off"')
    .option('--state-dir <dir>', 'without a policy: where the certificate and the token are kept')
    .addHelpText('after', '\nExample:\n  guardbee run --policy policy.yaml\n')
    .action(
      ending(
        async (positional: string | undefined, { shadow, upstream, listen, admin, stateDir, ...named }: RunFlags) => {
          const file = namedPolicy(positional, named);
          return await run(
            {
              file,
              ...(shadow === undefined ? {} : { shadow }),
              ...(upstream === undefined ? {} : { upstream }),
              ...(listen === undefined ? {} : { listen }),
              ...(admin === undefined ? {} : { admin }),
              ...(stateDir === undefined ? {} : { stateDir }),
            },
            voice,
          );
        },
      ),
    );
}
