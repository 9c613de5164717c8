import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import * as path from 'node:path';
import type { PolicySource } from '../policy-source.js';
import { type Finding, failed, ok, warn } from './finding.js';

/** guardbee did not exist before, nor will this version be in use after. */
const EARLIEST_MS = Date.UTC(2026, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);
const TIMESYNC = '/run/systemd/timesync';

export async function lookAtClock(source: PolicySource | null, nowMs: number): Promise<Finding[]> {
  const fix =
    'set the clock, and keep it with NTP (timedatectl set-ntp true): tokens and certificates are judged by it';
  const time = new Date(nowMs).toISOString();
  if (nowMs < EARLIEST_MS || nowMs > LATEST_MS) return [failed('clock', `it says ${time}, which cannot be`, fix)];
  const written = source === null ? null : await stat(source.file).catch(() => null);
  if (written !== null && written.mtimeMs > nowMs + 300_000) {
    return [warn('clock', `it says ${time}, and the policy was written after that`, fix)];
  }
  if (existsSync(TIMESYNC) && !existsSync(path.join(TIMESYNC, 'synchronized'))) {
    return [warn('clock', `it says ${time}, and is not synchronized`, fix)];
  }
  return [ok('clock', `it says ${time}`)];
}
