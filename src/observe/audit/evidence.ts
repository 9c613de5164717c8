/** What is recorded of an exchange, and of the program's own life. */
import type { DenialReason } from '../../denial.js';
import type { ExchangeRecord } from '../../exchange-record.js';
import type { Identity } from '../../identity/identity.js';
import { addressGroup } from '../../net/address-group.js';
import { BoundedCache } from '../bounded-cache.js';
import { isKnownMethod } from '../method.js';
import { isUuid } from '../../http/request-id.js';
import { type Redactor, constant } from '../redact.js';
import type { CanonicalValue } from './canonical-json.js';
import { ANSWERED_AS, type AuditEvent, REFUSED_AS, ROUTE_AS } from './events.js';
import type { Entry } from './record.js';
import { Repeats } from './repeats.js';
import type { AuditTrail } from './trail.js';

const LONGEST_RESOURCE = 512;
const LONGEST_NAME = 128;
const MOST_ROLES = 16;
const REMEMBERED = 512;

/** What records are given to. */
export type Recording = Pick<AuditTrail, 'add' | 'durable' | 'trouble'>;

export class Evidence {
  readonly #trail: Recording;
  readonly #redactor: Redactor;
  readonly #denies: boolean;
  readonly #counts = new Map<AuditEvent, number>();
  readonly #repeats: Repeats;
  readonly #resources: BoundedCache;
  readonly #names: BoundedCache;
  readonly #identities = new WeakMap<Identity, Pick<Entry, 'who' | 'authenticator' | 'roles'>>();
  #generation: number;

  /** @param onFailure what becomes of requests while nothing can be recorded */
  constructor(trail: Recording, redactor: Redactor, onFailure: 'deny' | 'allow') {
    this.#trail = trail;
    this.#redactor = redactor;
    this.#denies = onFailure === 'deny';
    this.#generation = redactor.generation;
    this.#resources = new BoundedCache(REMEMBERED, (path) => whole(redactor.redactPath(path), LONGEST_RESOURCE));
    this.#names = new BoundedCache(REMEMBERED, (text) => whole(redactor.redactText(text, LONGEST_NAME), LONGEST_NAME));
    this.#repeats = new Repeats((entry) => {
      this.#add(entry, false);
    });
  }

  /** Records of each kind since the start. */
  get counts(): ReadonlyMap<AuditEvent, number> {
    return this.#counts;
  }

  /** Whether requests go on at present. */
  get accepts(): boolean {
    return !this.#denies || this.#trail.trouble === null;
  }

  /**
   * Of a request that may go on and may change something, or opens a stream whose end may be far away: whether it does, at
   * once or when what it is about to do is on the disk.
   */
  before(record: ExchangeRecord): boolean | Promise<boolean> {
    if (!this.accepts) return false;
    if (record.route?.audit === 'denials_only') return true;
    const seq = this.#add(this.#entry(record, 'authorization_granted', 'permitted', undefined), true);
    const written = this.#trail.durable(seq);
    if (!this.#denies) return written instanceof Promise ? written.then(() => true) : true;
    return written;
  }

  /** A permitted request has become an event stream. */
  opened(record: ExchangeRecord): void {
    if (record.granted || record.route?.audit === 'denials_only') return;
    this.#add(this.#entry(record, 'authorization_granted', 'permitted', record.stream), false);
  }

  /** It is over. What is returned is waited for before the answer leaves; null: nothing need be. */
  finished(record: ExchangeRecord): Promise<void> | null {
    const { outcome } = record;
    switch (outcome.kind) {
      case 'denied':
        return this.#urgently(this.#entry(record, REFUSED_AS[outcome.reason], 'denied', outcome.reason));
      case 'answered': {
        const event = ANSWERED_AS[outcome.by];
        return event === null ? null : this.#urgently(this.#entry(record, event, 'answered', outcome.by));
      }
      case 'permitted':
      case 'failed':
        this.#ended(record);
        return null;
    }
  }

  /** A connection was refused before anything was asked. */
  connectionRefused(listener: string, reason: DenialReason, peer: string | null): void {
    const entry = {
      event: REFUSED_AS[reason],
      result: 'denied' as const,
      reason,
      listener: constant(listener),
      ...addresses(peer),
    };
    this.#repeats.add(`${listener} ${reason}`, groupOf(peer), entry);
  }

  tlsFailed(listener: string, peer: string | null, code: string): void {
    const entry = {
      event: 'tls_failed' as const,
      result: 'failed' as const,
      reason: this.#names.get(code),
      listener: constant(listener),
      ...addresses(peer),
    };
    this.#repeats.add(`${listener} tls ${code}`, groupOf(peer), entry);
  }

  /** Something of our own life. Resolves when it is on the disk, or cannot be. */
  async note(
    event: AuditEvent,
    detail: Readonly<Record<string, CanonicalValue>> = {},
    more: Partial<Entry> = {},
  ): Promise<boolean> {
    const entry: Entry = { event, result: 'noted', ...(Object.keys(detail).length > 0 ? { detail } : {}), ...more };
    return await this.#trail.durable(this.#add(entry, true));
  }

  /** What another process saw. @param urgent somebody waits for it to be on the disk */
  relay(entry: Entry, urgent: boolean): boolean | Promise<boolean> {
    const seq = this.#add(entry, urgent);
    return urgent ? this.#trail.durable(seq) : true;
  }

  /** Why nothing can be recorded at present; null: it can. */
  get trouble(): string | null {
    return this.#trail.trouble;
  }

  stop(): void {
    this.#repeats.stop();
  }

  #urgently(entry: Entry): Promise<void> | null {
    const written = this.#trail.durable(this.#add(entry, true));
    return written instanceof Promise ? written.then(() => undefined) : null;
  }

  #ended(record: ExchangeRecord): void {
    const { outcome, route, granted } = record;
    if (route?.audit === 'denials_only' && outcome.kind === 'permitted') return;
    const named = ROUTE_AS[route?.audit ?? 'denials_only'];
    const event = named ?? (granted || outcome.kind === 'failed' ? 'exchange_ended' : 'authorization_granted');
    const failed = outcome.kind === 'failed';
    const stream = record.stream === 'none' ? undefined : record.stream;
    this.#add(this.#entry(record, event, failed ? 'failed' : 'permitted', failed ? outcome.reason : stream), false);
  }

  #add(entry: Entry, urgent: boolean): number | null {
    const seq = this.#trail.add(entry, urgent);
    if (seq !== null) this.#counts.set(entry.event, (this.#counts.get(entry.event) ?? 0) + 1);
    return seq;
  }

  #entry(record: ExchangeRecord, event: AuditEvent, result: Entry['result'], reason: string | undefined): Entry {
    this.#forgetWhatChanged();
    const { method, path, host, route, invalid, outcome } = record;
    const over = record.stage === 'over';
    const whose = record.identity === null ? null : this.#identity(record.identity);
    return {
      event,
      result,
      reason,
      who: whose?.who,
      authenticator: whose?.authenticator,
      roles: whose?.roles,
      credential: record.credentialFingerprint ?? undefined,
      client: record.client === null ? undefined : this.#names.get(record.client),
      peer: record.peer === '' ? undefined : this.#names.get(record.peer),
      listener: constant(record.listener),
      route: route === null ? undefined : constant(route.name),
      action: method === '' ? undefined : isKnownMethod(method) ? method : this.#names.get(method.slice(0, 32)),
      resource: path === '' ? undefined : this.#resource(path),
      query: record.query === null ? undefined : true,
      host: host === null ? undefined : this.#names.get(host),
      protocol: record.protocol === 'unknown' ? undefined : record.protocol,
      upgrade: record.upgrade ? true : undefined,
      request_id: isUuid(record.requestId) ? record.requestId : this.#names.get(record.requestId),
      upstream: record.upstream ?? undefined,
      status: over && record.status > 0 ? record.status : undefined,
      bytes_in: over && outcome.kind !== 'denied' ? record.bytesIn : undefined,
      bytes_out: over && outcome.kind !== 'denied' ? record.bytesOut : undefined,
      duration_ms: over ? Math.round(record.durationMs) : undefined,
      detail: invalid === null ? undefined : { in: invalid.place, name: constant(invalid.name), rule: invalid.rule },
    };
  }

  #resource(path: string): string {
    return (path.length > LONGEST_RESOURCE ? null : this.#redactor.ordinaryPath(path)) ?? this.#resources.get(path);
  }

  #identity(identity: Identity): Pick<Entry, 'who' | 'authenticator' | 'roles'> {
    let known = this.#identities.get(identity);
    if (known === undefined) {
      const clean = (text: string): string => whole(this.#redactor.redactText(text, LONGEST_NAME), LONGEST_NAME);
      known = {
        who: clean(identity.name),
        authenticator: constant(identity.authenticator),
        roles: identity.roles.slice(0, MOST_ROLES).map(clean),
      };
      this.#identities.set(identity, known);
    }
    return known;
  }

  #forgetWhatChanged(): void {
    if (this.#generation === this.#redactor.generation) return;
    this.#generation = this.#redactor.generation;
    this.#resources.clear();
    this.#names.clear();
  }
}

function addresses(peer: string | null): Pick<Entry, 'client' | 'peer'> {
  return peer === null ? {} : { peer: constant(peer) };
}

function groupOf(peer: string | null): string {
  return peer === null ? '' : addressGroup(peer);
}

/** Whatever was cut, and wherever: text that can be written as canonical JSON. */
function whole(text: string, most: number): string {
  const cut = text.length <= most ? text : `${text.slice(0, most - 1)}…`;
  return cut.toWellFormed();
}
