import { constant } from '../observe/redact.js';
import type { Log } from '../observe/log.js';
import type { ReadinessCheck } from '../observe/readiness.js';
import type { Policy } from '../policy/policy.js';
import { perform, readCommand } from '../state/revocation-commands.js';
import type { Ownership } from '../state/ownership.js';
import { type Prepared, prepareAll } from '../state/prepared.js';
import { PolicyLimits, keepsQuotas } from '../state/limits.js';
import { PolicyRevocations, storesNeeded } from '../state/revocations.js';
import { ensureStateDirectory } from '../state/state-directory.js';
import { StateError, type StoreNotice, type Tell } from '../state/store.js';
import { StateInUseError } from '../state/held-socket.js';
import { type AuditAccess, readAuditAccess } from './audit-access.js';
import { type ControlAnswer, ControlServer } from './control.js';

/** What commands that come through the control socket ask of the running program. */
export interface LiveCommands {
  /** Notes in the audit trail that somebody read it; false where it could not, or there is none. */
  noteAccess(access: AuditAccess): Promise<boolean>;
  reload(): Promise<ControlAnswer>;
}

/**
 * What outlives a request, as the running program has it: the state directory, which is this process's alone while it
 * runs, the stores of revocations, and the socket through which live commands come.
 */
export class State {
  readonly revocations: PolicyRevocations;
  readonly limits: PolicyLimits;
  readonly #control: ControlServer | null;
  readonly #tell: Tell;
  #policy: Policy;

  private constructor(
    policy: Policy,
    parts: Pick<State, 'revocations' | 'limits'>,
    control: ControlServer | null,
    tell: Tell,
  ) {
    this.#policy = policy;
    this.revocations = parts.revocations;
    this.limits = parts.limits;
    this.#control = control;
    this.#tell = tell;
  }

  /**
   * A directory that can't be used ends the start where something must be kept in it, and is warned of elsewhere.
   * @throws StateInUseError when another process has the directory; StateError
   */
  static async open(policy: Policy, log: Log, live: LiveCommands): Promise<State> {
    let state: State | null = null;
    const tell = ({ store, level, event, message }: StoreNotice): void => {
      log[level](event, message, { 'guardbee.store': constant(store) });
    };
    let control: ControlServer | null = null;
    try {
      await ensureStateDirectory(policy.stateDir);
      control = await ControlServer.open(policy.stateDir, async (request) => {
        const access = readAuditAccess(request);
        if (access !== null) {
          return (await live.noteAccess(access))
            ? { ok: true }
            : { ok: false, error: 'the audit trail cannot be written now' };
        }
        if (request['cmd'] === 'reload') return await live.reload();
        const command = readCommand(request);
        if (command === null) return { ok: false, error: 'this guardbee does not know such a command' };
        if (state === null) return { ok: false, error: 'guardbee is just starting; try again' };
        const answer = await perform(command, state.#policy, state.revocations, Date.now());
        if (command.cmd === 'revoke' || command.cmd === 'accept_loss') {
          log[answer.ok ? 'info' : 'error'](
            `revocations.${command.cmd}`,
            answer.ok ? SAID[command.cmd] : `${command.cmd} failed: ${answer.error}`,
          );
        }
        return answer;
      });
    } catch (error) {
      if (!(error instanceof StateError) || isKeptIn(policy)) throw error;
      log.warn('state.unusable', `${error.message}; live commands cannot reach this process`);
    }
    let revocations: PolicyRevocations | null = null;
    try {
      revocations = await PolicyRevocations.open(policy, Date.now(), tell);
      const limits = await PolicyLimits.open(policy, tell);
      state = new State(policy, { revocations, limits }, control, tell);
      return state;
    } catch (error) {
      await control?.close();
      await revocations?.close();
      throw error;
    }
  }

  /**
   * Makes ready for another policy in the same state directory.
   *
   * @throws StateError
   */
  async prepare(policy: Policy, owners: Ownership): Promise<Prepared> {
    return await prepareAll([
      async () => await this.revocations.prepare(policy, Date.now(), this.#tell),
      async () => await this.limits.prepare(policy, this.#tell),
      async () => await owners.prepare(policy),
      () =>
        Promise.resolve({
          commit: () => {
            this.#policy = policy;
          },
          abandon: () => Promise.resolve(),
        }),
    ]);
  }

  /** For `/readyz`; empty where nothing is kept. */
  readiness(): ReadinessCheck[] {
    const checks: ReadinessCheck[] = [];
    const all = [...this.revocations.status];
    if (all.length > 0) {
      checks.push({
        name: 'revocations',
        status: all.every(([, { state }]) => state === 'up') ? 'ok' : 'failed',
        detail: constant(all.map(([name, { detail }]) => `${name}: ${detail}`).join('; ')),
      });
    }
    const { shared } = this.limits;
    if (shared !== null) {
      // Requests are still answered, if not counted together: that is said, and no reason to send them elsewhere.
      const status = shared.state === 'up' ? 'ok' : shared.refusing ? 'failed' : 'unknown';
      checks.push({ name: 'limits', status, detail: constant(shared.detail) });
    }
    return checks;
  }

  async close(): Promise<void> {
    await this.#control?.close();
    await this.limits.close();
    await this.revocations.close();
  }
}

/** Something must outlive the process there. */
function isKeptIn(policy: Policy): boolean {
  return storesNeeded(policy).has('embedded') || keepsQuotas(policy) || policy.acme !== null;
}

const SAID = Object.freeze({
  revoke: 'a credential was revoked',
  accept_loss: 'the loss of revocations was accepted by an operator',
});

export { StateError, StateInUseError };
