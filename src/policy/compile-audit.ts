import * as path from 'node:path';
import type { AuditSettings } from './policy.js';
import type { AuditEntry } from './schema-audit.js';

const DAY_MS = 86_400_000;
const MIB = 1024 * 1024;

/** @param baseDir absolute; a relative directory starts there */
export function compileAudit(entry: AuditEntry | undefined, baseDir: string): AuditSettings | null {
  if (entry === undefined) return null;
  return {
    dir: path.resolve(baseDir, entry.dir),
    onFailure: entry.on_failure ?? 'deny',
    checkpointRecords: entry.checkpoint?.records ?? 1000,
    checkpointMs: entry.checkpoint?.interval ?? 60_000,
    segmentBytes: entry.rotate?.size ?? 64 * MIB,
    // Seven years, what SOC 2 asks for at most.
    keepMs: entry.keep ?? 2555 * DAY_MS,
    minFreeBytes: entry.min_free ?? 64 * MIB,
  };
}
