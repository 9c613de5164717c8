import * as path from 'node:path';
import type { Draft } from './draft.js';
import type { Findings } from './findings.js';
import type { AuditSettings } from './policy.js';
import type { AuditEntry } from './schema-audit.js';

const DAY_MS = 86_400_000;
const MIB = 1024 * 1024;

/**
 * @param baseDir absolute; a relative directory starts there
 * @param stateDir absolute; where the trail is kept unless the policy says
 */
export function compileAudit(
  entry: AuditEntry | undefined,
  tree: Draft,
  baseDir: string,
  stateDir: string,
  findings: Findings,
): AuditSettings | null {
  if (entry === undefined) return null;
  const node = tree.get('audit');
  if (node !== null && Object.keys(entry).length === 0) {
    findings.missing(
      node,
      'on_failure',
      'missing, needed is one key at least',
      'write on_failure: deny, or remove audit',
    );
  }
  return {
    dir: entry.dir === undefined ? path.join(stateDir, 'audit', 'log') : path.resolve(baseDir, entry.dir),
    onFailure: entry.on_failure ?? 'deny',
    checkpointRecords: entry.checkpoint?.records ?? 1000,
    checkpointMs: entry.checkpoint?.interval ?? 60_000,
    segmentBytes: entry.rotate?.size ?? 64 * MIB,
    // Seven years, what SOC 2 asks for at most.
    keepMs: entry.keep ?? 2555 * DAY_MS,
    minFreeBytes: entry.min_free ?? 64 * MIB,
  };
}
