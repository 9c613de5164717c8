/** What the owner and its workers say to each other. Both are of one build, and of one process tree. */
import type { Count, Counted } from '../gate/limit.js';
import type { Revocable } from '../identity/identity.js';
import type { LogStream } from '../observe/log.js';
import type { Figures } from '../observe/metrics.js';
import type { Entry } from '../observe/audit/record.js';
import type { OwnsSettings, ThrottleSettings } from '../policy/policy.js';
import type { SlotRule } from '../policy/limit-rules.js';
import type { PolicyReading } from '../server/together.js';
import type { Thing } from '../state/ownership.js';
import type { Revocation } from '../state/store.js';

/** What the owner keeps and workers know too. */
export interface Known {
  /** Null: the policy needs no embedded store. */
  readonly revocations: { readonly entries: readonly Revocation[]; readonly lost: boolean } | null;
  readonly things: readonly Thing[];
}

export type Taken =
  | { readonly ok: true }
  /** The message is a sentence for people. */
  | { readonly ok: false; readonly exitCode: number; readonly message: string };

/** What the owner says. */
export interface ToWorker extends Record<string, (said: never) => unknown> {
  /** Comes first. Answered when all is ready for connections. */
  start(said: {
    readonly policy: PolicyReading;
    readonly known: Known;
    /** Of the log that lines end up in. */
    readonly log: Pick<LogStream, 'terminal' | 'colours'>;
    readonly auditTrouble: string | null;
  }): Taken;
  prepare(said: PolicyReading): Taken;
  /** Goes over to what was prepared. Answered with how many exchanges were refused by it. */
  commit(said: Known): number;
  abandon(said: null): null;
  /** @param said null: what was lost stays lost */
  revoked(said: Revocation | null): null;
  made(said: Thing): null;
  /** Whether records can be written. */
  audit(trouble: string | null): null;
  /** Counted since it was last asked. */
  figures(said: null): Figures;
  drain(said: null): null;
  stop(said: null): null;
}

/** What a worker says. */
export interface ToOwner extends Record<string, (said: never) => unknown> {
  /** Rules by their ids; `refusedBy` is the index of one. */
  count(said: {
    readonly rules: readonly string[];
    readonly counted: Counted;
    readonly nowMs: number;
  }): Omit<Count, 'refusedBy'> & { readonly refusedBy: number | null };
  take(said: { readonly rule: SlotRule; readonly key: string }): boolean;
  giveBack(said: { readonly rule: SlotRule; readonly key: string }): null;
  /** Milliseconds for which the answer waits. */
  failed(said: {
    readonly settings: ThrottleSettings;
    readonly address: string;
    readonly claimed: string | null;
  }): number;
  /** Null: it is kept; else why not. */
  revoke(said: Revocable): string | null;
  make(said: {
    readonly upstream: string;
    readonly id: string;
    readonly who: { readonly authenticator: string; readonly name: string };
    readonly settings: OwnsSettings;
    readonly route: string;
  }): null;
  /** For the audit trail. Answered when it is on the disk, or cannot be. */
  record(said: Entry): boolean;
  /** The same of what nobody waits for. */
  note(said: Entry): null;
  /** Connections that are over, by the numbers that they came with. */
  closed(said: number): null;
  /** Lines of the log, the last line end left out. */
  log(lines: string): null;
  figures(said: Figures): null;
}

/** What comes with a connection. */
export interface Passed {
  readonly number: number;
  readonly door: string;
  /** Of the listener's ports, from 0. */
  readonly nth: number;
}

/** Names the sockets of a listener: the same for all that are served from them. */
export function doorOf(listener: {
  readonly name: string;
  readonly type: string;
  readonly bind: { readonly host: string; readonly port: number; readonly socket: string | null };
  readonly lastPort?: number;
}): string {
  const { host, port, socket } = listener.bind;
  if (socket !== null) return `inherited ${socket}`;
  return port === 0 ? `any ${listener.name}` : `${host} ${String(port)} ${String(listener.lastPort ?? port)}`;
}
