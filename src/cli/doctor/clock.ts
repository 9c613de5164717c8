import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Policy } from '../../policy/policy.js';
import type { PolicySource } from '../policy-source.js';
import { type Finding, failed, ok, warn } from './finding.js';

/** guardbee did not exist before, nor will this version be in use after. */
const EARLIEST_MS = Date.UTC(2026, 0, 1);
const LATEST_MS = Date.UTC(2100, 0, 1);
/** Files of another machine's clock may be a little ahead. */
const AHEAD_MS = 300_000;
const FIX = 'set the clock, and keep it with NTP (timedatectl set-ntp true): tokens and certificates are judged by it';

/** @param policy null: there is none, or it cannot be used */
export async function lookAtClock(
  source: PolicySource | null,
  policy: Policy | null,
  nowMs: number,
): Promise<Finding[]> {
  const check = 'clock';
  const time = `it says ${isoTime(nowMs)}`;
  if (nowMs < EARLIEST_MS || nowMs > LATEST_MS) return [failed(check, `${time}, which cannot be`, FIX)];
  const newest = await newestOf(source, policy);
  if (newest !== null && newest.ms > nowMs + AHEAD_MS) {
    return [failed(check, `${time}, and ${newest.what} was written after that, at ${isoTime(newest.ms)}`, FIX)];
  }
  const synchronized = await isSynchronized();
  if (synchronized === false) return [warn(check, `${time}, and is not synchronized`, FIX)];
  return [ok(check, synchronized === true ? `${time}, and is synchronized` : time)];
}

/** A Date holds no more than 8.64e15 ms. */
function isoTime(ms: number): string {
  return Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : `${String(ms)} ms`;
}

/** The last thing that was written of the program, the policy and the state directory. */
async function newestOf(
  source: PolicySource | null,
  policy: Policy | null,
): Promise<{ readonly what: string; readonly ms: number } | null> {
  const names = policy === null ? [] : await readdir(policy.stateDir).catch(() => []);
  const files: readonly (readonly [what: string, file: string])[] = [
    ['this program', fileURLToPath(import.meta.url)],
    ...(source === null ? [] : [['the policy', source.file] as const]),
    ...(policy === null
      ? []
      : names.map((name) => [path.join(policy.stateDir, name), path.join(policy.stateDir, name)] as const)),
  ];
  const written = await Promise.all(
    files.map(async ([what, file]) => {
      const found = await stat(file).catch(() => null);
      return found === null ? [] : [{ what, ms: found.mtimeMs }];
    }),
  );
  return written
    .flat()
    .reduce<{ what: string; ms: number } | null>(
      (latest, one) => (latest === null || one.ms > latest.ms ? one : latest),
      null,
    );
}

const TIMESYNC = '/run/systemd/timesync';
const ASKING_MS = 2000;

/** Null where nobody says. The kernel knows (adjtimex(2)), and timedatectl asks it. */
async function isSynchronized(): Promise<boolean | null> {
  const said = await new Promise<string>((resolve) => {
    execFile(
      'timedatectl',
      ['show', '--property=NTPSynchronized', '--value'],
      { timeout: ASKING_MS, killSignal: 'SIGKILL' },
      // Not installed, or no bus to ask over, as in containers: then nobody says.
      (_error, stdout) => resolve(stdout.trim()),
    );
  });
  if (said === 'yes' || said === 'no') return said === 'yes';
  return existsSync(TIMESYNC) ? existsSync(path.join(TIMESYNC, 'synchronized')) : null;
}

/** A Date field has whole seconds, and took a while to come. */
const TOLERATED_MS = 30_000;

/**
 * What another clock says (RFC 9110 §6.6.1).
 *
 * @param date the field's value
 */
export function judgeElsewhere(date: string, whose: string, nowMs: number): Finding[] {
  const theirs = Date.parse(date);
  const apart = Math.abs(theirs - nowMs);
  if (Number.isNaN(theirs) || apart <= TOLERATED_MS) return [];
  const said = `${whose} is ${String(Math.round(apart / 1000))} s ${theirs > nowMs ? 'ahead' : 'behind'}`;
  return [warn('clock', said, FIX)];
}

/**
 * Did somebody set the clock while doctor looked.
 *
 * @param wallMs that went by on the clock
 * @param realMs that really went by
 */
export function judgeJump(wallMs: number, realMs: number): Finding[] {
  const jumped = wallMs - realMs;
  if (Math.abs(jumped) < 1000) return [];
  return [
    warn(
      'clock',
      `it went ${jumped > 0 ? 'forward' : 'back'} by ${String(Math.round(Math.abs(jumped) / 1000))} s while this looked`,
      FIX,
    ),
  ];
}
