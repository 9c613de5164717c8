/** How processes work together: the owner has what there is once, and workers serve what it accepts. */
import type { CountsFailures } from './slow-denials.js';
import type { InheritedSockets } from './inherited-sockets.js';
import type { ConnectionEvents } from './connection-events.js';
import type { FedListener, OpenListener, feedListener } from './listener.js';
import type { Audit } from './audit.js';
import type { Limiter } from '../gate/limit.js';
import type { Owners } from '../gate/owners.js';
import type { Revocations } from '../identity/revocation.js';
import type { Evidence } from '../observe/audit/evidence.js';
import type { Metrics, Workers } from '../observe/metrics.js';
import type { ReadinessCheck } from '../observe/readiness.js';
import type { Listener, Policy } from '../policy/policy.js';
import type { Reading } from '../policy/reading.js';
import type { SharedLimitsStatus } from '../state/limits.js';
import type { Ownership } from '../state/ownership.js';
import type { Prepared } from '../state/prepared.js';
import type { StoreName } from '../state/revocations.js';
import type { StoreStatus } from '../state/store.js';
import type { State } from './state.js';

/** A policy as the owner has read it, with all that it names. */
export interface PolicyReading {
  /** How messages call it, and where relative paths begin. */
  readonly file: string;
  /** Null: it stands in `reading` under the name of the file. */
  readonly text: string | null;
  /** Epoch milliseconds. */
  readonly now: number;
  readonly reading: Reading;
}

/** What outlives a request, wherever it is kept. */
export interface Kept {
  readonly state: {
    readonly revocations: Revocations & { readonly status: ReadonlyMap<StoreName, StoreStatus> };
    readonly limits: Limiter & { readonly shared: SharedLimitsStatus | null };
    prepare(policy: Policy, owners: Kept['owners']): Promise<Prepared>;
    readiness(): ReadinessCheck[];
    close(): Promise<void>;
  };
  readonly owners: Owners & Pick<Ownership, 'keeps' | 'prepare' | 'close'>;
  readonly audit:
    | (Pick<Audit, 'figures' | 'policyExchanged' | 'exchangeCredentials' | 'readiness' | 'close'> & {
        readonly evidence: Evidence;
      })
    | null;
}

/** What the owner does for a worker. */
export interface Served extends Kept {
  readonly failures: CountsFailures;
  /** Connections of it come from the owner. */
  open(...asked: Parameters<typeof feedListener>): FedListener;
}

/** The owner's own, which it asks and tells for its workers. */
export interface Owned {
  readonly state: Pick<State, 'revocations' | 'limits'>;
  readonly owners: Ownership;
  readonly audit: Kept['audit'];
  readonly metrics: Metrics;
}

/** The workers, as the owner has them. */
export interface Crew {
  readonly workers: Workers;
  /** Resolves when all are ready for connections. @throws Error with a sentence for people when one can't be */
  start(owned: Owned, policy: Policy): Promise<void>;
  /** Accepts connections for the workers. */
  open(listener: Listener, events: ConnectionEvents, inherited: InheritedSockets | null): Promise<OpenListener>;
  /** @throws ReloadError when one of them can't */
  prepare(policy: Policy, reading: PolicyReading): Promise<{ commit(): Promise<number>; abandon(): Promise<void> }>;
  /** Has them tell what they have counted. */
  gather(): Promise<void>;
  /** They take nothing new, and end what they have. */
  drain(): void;
  /** Ends them; resolves when they are gone, and all that they had to say was heard. */
  stop(): Promise<void>;
}
