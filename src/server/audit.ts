import type { AuditFigures } from '../observe/audit/audit-metrics.js';
import { COLLECTOR_FAULTS } from '../observe/audit/collector.js';
import { Delivery, type DeliveryFault } from '../observe/audit/delivery.js';
import { Evidence } from '../observe/audit/evidence.js';
import { headText } from '../observe/audit/record.js';
import { AuditTrail } from '../observe/audit/trail.js';
import { WitnessedTrail } from '../observe/audit/witnessed-trail.js';
import type { Log } from '../observe/log.js';
import type { ReadinessCheck } from '../observe/readiness.js';
import { type Redactor, constant } from '../observe/redact.js';
import { authorityDigest } from '../policy/client-authority.js';
import type { AuditSettings, DeliverySettings, Policy } from '../policy/policy.js';
import { sha256Hex } from '../secret/digest.js';
import { ensureStateDirectory } from '../state/state-directory.js';

/** The audit trail, as the running program has it. */
export class Audit {
  readonly evidence: Evidence;
  readonly #trail: AuditTrail;
  /** Null: the trail stays here. */
  readonly #delivery: Delivery | null;
  readonly #settings: AuditSettings;
  #credentials: string | null;
  readonly #log: Log;

  private constructor(
    trail: AuditTrail,
    evidence: Evidence,
    delivery: Delivery | null,
    settings: AuditSettings,
    log: Log,
  ) {
    this.#trail = trail;
    this.evidence = evidence;
    this.#delivery = delivery;
    this.#settings = settings;
    this.#credentials = settings.deliver === null ? null : digestOfCredentials(settings.deliver);
    this.#log = log;
  }

  /** @throws StateInUseError when another process writes there; StateError */
  static async open(settings: AuditSettings, policy: Policy, log: Log, redactor: Redactor): Promise<Audit> {
    const outcome =
      settings.onFailure === 'deny'
        ? 'requests are refused until they can'
        : 'requests go on without it, as the policy says';
    await ensureStateDirectory(policy.stateDir);
    let delivery: Delivery | null = null;
    const trail = await AuditTrail.open({
      settings,
      stateDir: policy.stateDir,
      policy: policy.version,
      notices: {
        checkpoint: (head) => {
          log.evidence('audit.checkpoint', 'the audit trail was signed', {
            'guardbee.audit.head': constant(headText(head)),
          });
        },
        synced: (bytes) => {
          delivery?.synced(bytes);
        },
        failing: (code) => {
          log.error('audit.failing', `audit records cannot be written (${sayTrouble(code)}); ${outcome}`, {
            'error.type': constant(code),
          });
        },
        recovered: () => {
          log.info('audit.recovered', 'audit records are written again');
        },
        found: (what, message) => {
          log[what === 'torn' ? 'warn' : 'error'](`audit.${what}`, message);
        },
        removed: (segments, through) => {
          log.info('audit.removed', `${segments} audit segments were older than audit.keep and are gone`, {
            'guardbee.audit.through': through,
          });
        },
      },
    });
    if (settings.deliver !== null) delivery = startDelivery(settings.deliver, settings, trail, policy.stateDir, log);
    const recording =
      delivery !== null && settings.deliver?.wait === true ? new WitnessedTrail(trail, delivery) : trail;
    return new Audit(trail, new Evidence(recording, redactor, settings.onFailure), delivery, settings, log);
  }

  /** Records are made under another policy from here on. */
  policyExchanged(version: string): void {
    this.#trail.policy = version;
  }

  /** What it shows the collector, and whom it believes to be the collector, is as this policy says from here on. */
  exchangeCredentials(settings: AuditSettings | null): void {
    if (settings?.deliver == null || this.#delivery === null) return;
    const credentials = digestOfCredentials(settings.deliver);
    if (credentials === this.#credentials) return;
    this.#credentials = credentials;
    this.#delivery.exchangeCredentials(settings.deliver);
  }

  get figures(): AuditFigures {
    const trail = this.#trail;
    const at = trail.head === null ? null : Date.parse(trail.head.time) / 1000;
    return {
      up: trail.trouble === null,
      sequence: trail.sequence,
      waiting: trail.waiting,
      lost: trail.lost,
      checkpointAt: at,
      records: this.evidence.counts,
      syncs: trail.syncs,
      delivery: this.#delivery?.figures ?? null,
    };
  }

  readiness(): ReadinessCheck {
    const { trouble, sequence } = this.#trail;
    // Where requests go on regardless, that is said, and no reason to send them elsewhere.
    const status = this.#settings.onFailure === 'deny' ? 'failed' : 'unknown';
    if (trouble !== null)
      return { name: 'audit', status, detail: constant(`cannot be written: ${sayTrouble(trouble)}`) };
    const detail = `record ${String(sequence)}`;
    if (this.#delivery === null) return { name: 'audit', status: 'ok', detail: constant(detail) };
    const { fault, behind, impatient } = this.#delivery;
    const more = fault === null ? '' : `: ${sayFault(fault)}`;
    const refuses = impatient && this.#settings.deliver?.wait === true;
    return {
      name: 'audit',
      status: refuses ? status : fault === null ? 'ok' : 'unknown',
      detail: constant(`${detail}, ${String(behind)} not delivered${more}`),
    };
  }

  /** The last record, and all of them on the disk. */
  async close(): Promise<void> {
    this.evidence.stop();
    const left = await this.#trail.close({ event: 'stopped', result: 'noted' }, async () => {
      const behind = (await this.#delivery?.close()) ?? 0;
      if (behind === 0) return;
      this.#log.info('audit.undelivered', `${String(behind)} audit records are delivered after the next start`);
    });
    if (left > 0) this.#log.error('audit.lost', `${String(left)} audit records were lost: the disk did not take them`);
  }
}

/** The same for all that show and believe the same. */
export function digestOfCredentials({ token, certificate, authority }: DeliverySettings): string {
  const parts = [
    token?.digests(),
    certificate?.certPem,
    certificate?.key.digests(),
    authority === null ? null : authorityDigest(authority),
  ];
  return sha256Hex(JSON.stringify(parts));
}

function startDelivery(
  settings: DeliverySettings,
  { dir }: AuditSettings,
  trail: AuditTrail,
  stateDir: string,
  log: Log,
): Delivery {
  const { host } = new URL(settings.url);
  const collector = { 'guardbee.audit.collector': constant(host) };
  const delivery = new Delivery({
    settings,
    dir,
    stateDir,
    chain: trail.chain,
    synced: () => trail.synced,
    notices: {
      failing: (fault, behind) => {
        const whose = fault === 'unread' ? sayFault(fault) : `the collector does not take them: ${sayFault(fault)}`;
        log.warn('audit.delivery_failing', `${String(behind)} audit records are not delivered: ${whose}`, {
          ...collector,
          'error.type': constant(fault),
        });
      },
      recovered: () => {
        log.info('audit.delivery_recovered', 'audit records are delivered again', collector);
      },
      undeliverable: ({ from, through, reason }) => {
        const which = from === through ? `record ${String(from)}` : `records ${String(from)} to ${String(through)}`;
        log.error('audit.not_delivered', `the collector is not given audit ${which}: ${NOT_GIVEN[reason]}`, collector);
        const detail = { from, through };
        trail.add({ event: 'records_undelivered', result: 'noted', reason, count: through - from + 1, detail });
      },
      again: (why) => {
        log.warn('audit.delivered_again', `all audit records are delivered again: ${AGAIN[why]}`, collector);
      },
      unkept: (message) => {
        log.warn('audit.delivery_unkept', `what was delivered cannot be written down: ${message}`);
      },
    },
  });
  delivery.start();
  return delivery;
}

const NOT_GIVEN = Object.freeze({
  removed: 'it is not in the segments any more',
  damaged: 'what stands in its place is no record',
  refused: 'the collector does not want it, and took the ones after it',
});

const AGAIN = Object.freeze({
  cursor_unreadable: 'audit/delivered.json in the state directory cannot be read',
  another_chain: 'what was delivered before is of another chain',
  another_record: 'the last record that was delivered is not the one that is here',
});

function sayFault(fault: DeliveryFault): string {
  return fault === 'unread' ? 'they cannot be read back from the segments' : COLLECTOR_FAULTS[fault].words;
}

function sayTrouble(code: string): string {
  switch (code) {
    case 'slow':
      return 'the disk does not answer';
    case 'low_space':
      return 'less is free than audit.min_free';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'no space is left';
    case 'EROFS':
      return 'the file system is read-only';
    default:
      return code;
  }
}
