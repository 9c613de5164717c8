/**
 * A process that serves the connections that another one, the owner, has accepted (decision 28). It keeps nothing that
 * another needs to know, reads no file that the owner has read, and ends with the owner.
 */
import { Socket } from 'node:net';
import { App, type Ready } from '../app.js';
import { type Log, createLog } from '../observe/log.js';
import { Redactor, constant } from '../observe/redact.js';
import { loadPolicy, loadPolicyText } from '../policy/load.js';
import type { Policy } from '../policy/policy.js';
import { keptOutside } from '../policy/reading.js';
import { exitCodeFor, renderIssues } from '../policy/render-issues.js';
import type { PolicyReading } from '../server/together.js';
import { Link } from '../workers/link.js';
import type { Passed, Taken, ToOwner, ToWorker } from '../workers/protocol.js';
import { ServedByOwner } from '../workers/served.js';
import { EXIT, Ending } from './exit-code.js';
import { KnownCredentials } from './known-credentials.js';
import { collectWhenQuiet } from './quiet-collection.js';
import { unexpected } from './unexpected.js';

/** The descriptor at which the owner has put our end of the pair of sockets, beside the channel that Node uses. */
const LINK_FD = 4;

interface Working {
  readonly app: App;
  readonly served: ServedByOwner;
  readonly log: Log;
}

/** Serves until the owner says that it is over, or is gone. */
export async function work(): Promise<number> {
  // Signals to all processes of a group, as from a terminal or systemd, are the owner's to understand.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => undefined);
  const worker = new Worker();
  return await worker.over;
}

class Worker {
  readonly over: Promise<number>;
  readonly #link: Link<ToOwner, ToWorker>;
  #end: (code: number) => void = () => undefined;
  /** What it is told while it starts waits for this. */
  readonly #served: Promise<ServedByOwner>;
  #serve: (served: ServedByOwner) => void = () => undefined;
  #working: Working | null = null;
  #next: { readonly policy: Policy; readonly ready: Ready } | null = null;
  #listening: ServedByOwner | null = null;

  constructor() {
    this.over = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#served = new Promise((resolve) => {
      this.#serve = resolve;
    });
    this.#link = new Link<ToOwner, ToWorker>(
      new Socket({ fd: LINK_FD, readable: true, writable: true }),
      {
        start: async (said) => await this.#start(said),
        prepare: async (said) => await this.#prepare(said),
        commit: async (known) => {
          const next = this.#next;
          const served = await this.#served;
          this.#next = null;
          if (next === null) throw new TypeError('nothing is ready to be gone over to');
          served.take(next.policy, known);
          return await next.ready.commit();
        },
        abandon: async () => {
          await this.#next?.ready.abandon();
          this.#next = null;
          return null;
        },
        revoked: async (revocation) => {
          (await this.#served).revoked(revocation);
          return null;
        },
        made: async (thing) => {
          (await this.#served).owners.learn(thing);
          return null;
        },
        audit: async (trouble) => {
          (await this.#served).auditTrouble = trouble;
          return null;
        },
        figures: () => {
          if (this.#working === null) throw new TypeError('nothing is counted before the start');
          return this.#working.app.takeFigures();
        },
        drain: () => {
          this.#working?.app.drain().catch((error: unknown) => {
            this.#broke(error);
          });
          return null;
        },
        stop: async () => {
          await this.#stop();
          return null;
        },
      },
      {
        // Nobody would take what it serves, record it, or know of it.
        closed: () => process.exit(EXIT.policy),
        late: () => undefined,
        broke: (error) => {
          this.#broke(error);
        },
      },
    );
    process.on('disconnect', () => {
      this.#link.close();
    });
    process.on('message', (said, socket) => {
      this.#connected(said as Passed, socket);
    });
  }

  async #start(said: Parameters<ToWorker['start']>[0]): Promise<Taken> {
    try {
      const policy = await load(said.policy);
      const known = new KnownCredentials([policy]);
      const redactor = new Redactor({ knowsDigest: (digest) => known.has(digest) });
      const log = createLog(policy.log, redactor, {
        fd: 1,
        ...said.log,
        elsewhere: {
          send: (lines) => {
            if (this.#link.congested) return false;
            this.#link.tell('log', lines);
            return true;
          },
        },
      });
      const served = new ServedByOwner(this.#link, {
        policy,
        known: said.known,
        auditTrouble: said.auditTrouble,
        redactor,
        ownership: {
          now: () => Date.now(),
          unnamed: (route, why) => {
            log.warn(
              'ownership.unnamed',
              `an answer of route "${route}" named nothing that is then somebody's: ${why}`,
              { 'guardbee.route': constant(route), 'guardbee.reason': constant(why) },
            );
          },
          notKept: (message) => {
            log.error('ownership.not_kept', message);
          },
        },
      });
      const app = await App.start({
        policy,
        shadow: null,
        log,
        redactor,
        served,
        files: new Map(),
        inherited: null,
        readAgain: () => Promise.reject(new TypeError('a worker reads nothing')),
        installing: (next) => {
          known.add(next);
          redactor.digestsChanged();
        },
      });
      this.#working = { app, served, log };
      this.#listening = served;
      this.#serve(served);
      collectWhenQuiet();
      return { ok: true };
    } catch (error) {
      return refusalOf(error);
    }
  }

  async #prepare(reading: PolicyReading): Promise<Taken> {
    if (this.#working === null) throw new TypeError('there is nothing to go over from');
    try {
      const policy = await load(reading);
      this.#next = { policy, ready: await this.#working.app.prepare(policy) };
      return { ok: true };
    } catch (error) {
      return refusalOf(error);
    }
  }

  #connected({ number, door, nth }: Passed, socket: unknown): void {
    const over = (): void => {
      this.#link.tell('closed', number);
    };
    // It was reset on its way here.
    if (!(socket instanceof Socket)) {
      over();
      return;
    }
    socket.once('close', over);
    // As the sockets of a server of ours are.
    socket.allowHalfOpen = true;
    const listener = this.#listening?.listenerAt(door) ?? null;
    if (listener === null) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    listener.connected(socket, nth);
  }

  async #stop(): Promise<void> {
    const working = this.#working;
    if (working !== null) {
      await working.app.stop();
      this.#link.tell('figures', working.app.takeFigures());
      await working.log.close();
    }
    await this.#link.flush();
    this.#end(EXIT.ok);
    process.exit(EXIT.ok);
  }

  #broke(error: unknown): void {
    const log = this.#working?.log;
    if (log === undefined) process.stderr.write(`${unexpected(error)}\n`);
    else log.error('worker.broke', 'something failed inside guardbee', log.errorFields(error));
  }
}

/** @throws Ending with what is wrong with it, which the owner has found to be nothing */
async function load({ file, text, now, reading }: PolicyReading): Promise<Policy> {
  const options = { env: process.env, now, outside: keptOutside(reading) };
  const loaded = text === null ? await loadPolicy(file, options) : await loadPolicyText(text, file, options);
  if (loaded.ok) return loaded.policy;
  throw new Ending(exitCodeFor(loaded.issues), renderIssues(loaded.issues));
}

function refusalOf(error: unknown): Taken {
  if (error instanceof Ending) return { ok: false, exitCode: error.code, message: error.message };
  return { ok: false, exitCode: EXIT.policy, message: unexpected(error) };
}
