import type { AuditFigures } from '../observe/audit/audit-metrics.js';
import { Evidence } from '../observe/audit/evidence.js';
import { headText } from '../observe/audit/record.js';
import { AuditTrail } from '../observe/audit/trail.js';
import type { Log } from '../observe/log.js';
import type { ReadinessCheck } from '../observe/readiness.js';
import { type Redactor, constant } from '../observe/redact.js';
import type { AuditSettings, Policy } from '../policy/policy.js';
import { ensureStateDirectory } from '../state/state-directory.js';

/** The audit trail, as the running program has it. */
export class Audit {
  readonly evidence: Evidence;
  readonly #trail: AuditTrail;
  readonly #settings: AuditSettings;
  readonly #log: Log;

  private constructor(trail: AuditTrail, evidence: Evidence, settings: AuditSettings, log: Log) {
    this.#trail = trail;
    this.evidence = evidence;
    this.#settings = settings;
    this.#log = log;
  }

  /** @throws StateInUseError when another process writes there; StateError */
  static async open(settings: AuditSettings, policy: Policy, log: Log, redactor: Redactor): Promise<Audit> {
    const outcome =
      settings.onFailure === 'deny'
        ? 'requests are refused until they can'
        : 'requests go on without it, as the policy says';
    await ensureStateDirectory(policy.stateDir);
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
    return new Audit(trail, new Evidence(trail, redactor, settings.onFailure), settings, log);
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
    };
  }

  readiness(): ReadinessCheck {
    const { trouble, sequence } = this.#trail;
    if (trouble === null) return { name: 'audit', status: 'ok', detail: constant(`record ${String(sequence)}`) };
    // Where requests go on regardless, that is said, and no reason to send them elsewhere.
    const status = this.#settings.onFailure === 'deny' ? 'failed' : 'unknown';
    return { name: 'audit', status, detail: constant(`cannot be written: ${sayTrouble(trouble)}`) };
  }

  /** The last record, and all of them on the disk. */
  async close(): Promise<void> {
    this.evidence.stop();
    const left = await this.#trail.close({ event: 'stopped', result: 'noted' });
    if (left > 0) this.#log.error('audit.lost', `${String(left)} audit records were lost: the disk did not take them`);
  }
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
