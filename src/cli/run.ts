import { type Command, InvalidArgumentError } from 'commander';
import { App } from '../app.js';
import { AddressError } from '../server/address-error.js';
import type { ReloadWatcher } from '../server/reloads.js';
import { type Demo, startDemo } from '../demo/demo.js';
import { type Log, createLog } from '../observe/log.js';
import { Redactor, constant } from '../observe/redact.js';
import type { Issue } from '../policy/issue.js';
import { type Loaded, loadPolicyText } from '../policy/load.js';
import { MOST_PROCESSES, unfitForMany } from '../policy/processes.js';
import type { Reading } from '../policy/reading.js';
import { exitCodeFor, renderIssues, sortIssues } from '../policy/render-issues.js';
import type { Policy } from '../policy/policy.js';
import { CertificateError } from '../server/certificate.js';
import { StateError, StateInUseError } from '../server/state.js';
import { exposureIssues } from '../server/exposure-issues.js';
import type { InheritedSockets } from '../server/inherited-sockets.js';
import { type ReadAgain, logWarnings } from '../server/reloading.js';
import { SessionKeyError } from '../server/session-key.js';
import type { PolicyReading } from '../server/together.js';
import type { Workforce } from '../workers/crew.js';
import type { FilesRead } from '../secret/files.js';
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
import { KnownCredentials } from './known-credentials.js';
import { judgeNode } from './node-line.js';
import { collectWhenQuiet } from './quiet-collection.js';
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
  /** In place of what the policy says. */
  readonly processes?: number | 'auto';
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
  return serve(source, shadow === undefined ? null : await fileSource(shadow).load(), options.processes, voice, null);
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
    const source: Source = {
      file: policyFile,
      given: text,
      load: async (asked = {}) =>
        await loadPolicyText(text, policyFile, { env: process.env, now: Date.now(), ...asked }),
      text: () => Promise.resolve(text),
    };
    return await serve(source, null, options.processes, voice, { quickstart, demo: demo !== null });
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

/** @param keeps what is read is kept, for the workers */
async function readAgain(source: Source, inherited: InheritedSockets | null, keeps: boolean): Promise<ReadAgain> {
  const { loaded, reading } = keeps ? await readForWorkers(source) : { loaded: await source.load(), reading: null };
  const read = await judged(loaded, inherited);
  const { files } = read;
  if (!read.ok) return { ok: false, exitCode: exitCodeFor(read.issues), issues: read.issues, files };
  const text = await source.text();
  return {
    ok: true,
    policy: read.policy,
    files,
    locate: (path) => (text === null ? null : positionOf(text, path)),
    ...(reading === null ? {} : { reading }),
  };
}

type Source = Pick<PolicySource, 'file' | 'given' | 'load' | 'text'>;

/** The policy, and all that it was made of: the workers make theirs of the same bytes. */
async function readForWorkers(source: Source): Promise<{ readonly loaded: Loaded; readonly reading: PolicyReading }> {
  const { keeping } = await import('../policy/reading.js');
  const reading: Reading = { files: new Map(), secrets: new Map(), hosts: new Map() };
  const now = Date.now();
  const loaded = await source.load({ outside: keeping(reading), now });
  return { loaded, reading: { file: source.file, text: source.given, now, reading } };
}

/** One that serves by itself: then there is no owner. */
async function wantedProcesses(asked: number | 'auto'): Promise<number> {
  if (asked !== 'auto') return asked;
  const { coresFor } = await import('../workers/cores.js');
  return await coresFor('self');
}

interface Crewed {
  readonly policy: Policy;
  readonly files: FilesRead;
  readonly crew: Workforce;
}

/** What is served by several processes, or the exit code; then what is wrong has been said. */
async function crewFor(
  source: Source,
  inherited: InheritedSockets | null,
  wanted: number,
  log: Log,
  voice: Voice,
): Promise<Crewed | number> {
  // Read again, this time to be kept: whoever has one process has nothing kept.
  const { loaded, reading } = await readForWorkers(source);
  const policy = await sound(loaded, inherited, voice);
  if (typeof policy === 'number') return policy;
  const { Workforce } = await import('../workers/crew.js');
  return { policy, files: loaded.files, crew: new Workforce(wanted, reading, log) };
}

/** @param tried the policy that is tried beside it; null: none is */
async function serve(
  source: Source,
  tried: Loaded | null,
  processes: number | 'auto' | undefined,
  voice: Voice,
  hints: { readonly quickstart: Quickstart; readonly demo: boolean } | null,
): Promise<number> {
  const inherited = await inheritedSockets();
  const loaded = await source.load();
  const read = await sound(loaded, inherited, voice);
  if (typeof read === 'number') return read;
  let policy = read;
  let { files } = loaded;
  const wanted = await wantedProcesses(processes ?? policy.processes);
  if (wanted > 1) {
    const unfit = [...unfitForMany(policy), ...(tried === null ? [] : ['--shadow tries a policy'])];
    if (unfit.length > 0) {
      for (const why of unfit) voice.err(`${policy.file}: processes: ${why}, which only one process can do`);
      return EXIT.policy;
    }
  }
  const shadow = tried === null ? null : await sound(tried, inherited, voice);
  if (typeof shadow === 'number') return shadow;
  const known = new KnownCredentials([policy, shadow].filter((one) => one !== null));
  const redactor = new Redactor({ knowsDigest: (digest) => known.has(digest) });
  const log = createLog(policy.log, redactor);
  const notices = await noticesTo(log);
  const ended = endOfProcess(log, notices);
  try {
    const crewed = wanted > 1 ? await crewFor(source, inherited, wanted, log, voice) : null;
    if (typeof crewed === 'number') return crewed;
    if (crewed !== null) {
      ({ policy, files } = crewed);
      known.add(policy);
    }
    const app = await App.start({
      policy,
      shadow,
      log,
      redactor,
      files,
      ...(crewed === null ? {} : { crew: crewed.crew }),
      readAgain: async () => await readAgain(source, inherited, crewed !== null),
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
    const stopCollecting = collectWhenQuiet();
    if (hints !== null) voice.err(hintLines(app, hints.quickstart, hints.demo));
    try {
      return await ended.drained(app, crewed?.crew.broken ?? null);
    } finally {
      stopCollecting();
    }
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
    // Of the workers: a class of a module that is not loaded where there are none.
    if (error instanceof Error && error.name === 'CrewError' && 'exitCode' in error) {
      voice.err(`${policy.file}: ${error.message}`);
      return typeof error.exitCode === 'number' ? error.exitCode : EXIT.policy;
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
  /** Resolves to the exit code when the process may end. @param broken why it cannot go on, if ever; null: it can */
  drained(app: App, broken: Promise<string> | null): Promise<number>;
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
    drained: async (app, broken) => {
      running = app;
      // Sent while it was starting, after a change that it may have read already or not.
      if (hungUp) reload(app);
      const why = await Promise.race([asked.then(() => null), ...(broken === null ? [] : [broken])]);
      if (why !== null) {
        log.error('workers.broken', `guardbee ends: ${why}`);
        notices?.stopping(app.longestEndMs);
        await app.stop();
        return EXIT.policy;
      }
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
  readonly processes?: number | 'auto';
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
    .option(
      '--processes <number>',
      'how many processes serve, or auto: one for each core; in place of what the policy says (1)',
      processesOption,
    )
    .addHelpText('after', '\nExample:\n  guardbee run --policy policy.yaml\n')
    .action(
      ending(
        async (
          positional: string | undefined,
          { shadow, upstream, listen, admin, stateDir, processes, ...named }: RunFlags,
        ) => {
          const file = namedPolicy(positional, named);
          return await run(
            {
              file,
              ...(shadow === undefined ? {} : { shadow }),
              ...(upstream === undefined ? {} : { upstream }),
              ...(listen === undefined ? {} : { listen }),
              ...(admin === undefined ? {} : { admin }),
              ...(stateDir === undefined ? {} : { stateDir }),
              ...(processes === undefined ? {} : { processes }),
            },
            voice,
          );
        },
      ),
    );
}

function processesOption(text: string): number | 'auto' {
  if (text === 'auto') return text;
  if (/^[1-9]\d?$/.test(text) && Number(text) <= MOST_PROCESSES) return Number(text);
  throw new InvalidArgumentError(`allowed is auto, or a number of 1 to ${String(MOST_PROCESSES)}`);
}
