/** The audit trail: who may reach it, is there room, is it whole. */
import { constants } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import * as path from 'node:path';
import { publicKeyBeside, readOwnHead, readOwnKey, readPublicKey } from '../../observe/audit/public-key.js';
import { WRITER_SOCKET } from '../../observe/audit/segments.js';
import { type VerifyReport, verifyTrail } from '../../observe/audit/verify.js';
import type { AuditSettings, Policy } from '../../policy/policy.js';
import { judgeWay } from '../../secret/files.js';
import { isHeld } from '../../state/held-socket.js';
import { codeOf } from '../../state/state-directory.js';
import { StateError } from '../../state/store.js';
import { sentence } from '../audit-verify.js';
import { count } from '../check.js';
import { judgeEntries, octal } from './files.js';
import { type Finding, failed, ok, skipped, warn } from './finding.js';
import { PROBE_MS } from './probe.js';
import type { Running } from './running.js';

const DIRECTORY = 'audit directory';
const DISK = 'audit disk';
const CHAIN = 'audit chain';

export async function lookAtAudit(
  policy: Policy,
  audit: AuditSettings,
  running: Running | null,
  nowMs: number,
): Promise<readonly Finding[]> {
  const found = await stat(audit.dir).catch(() => null);
  if (found === null) {
    return [
      ok(DIRECTORY, `${audit.dir} is made at the first start`),
      ...(await lookAtDisk(audit, path.dirname(audit.dir))),
    ];
  }
  if (!found.isDirectory()) return [failed(DIRECTORY, `${audit.dir} is not a folder`, 'move it away')];
  const way = await judgeWay(audit.dir);
  const open = [
    ...((found.mode & 0o077) === 0
      ? []
      : [failed(DIRECTORY, `others may enter ${audit.dir} (mode ${octal(found.mode)})`, `chmod 700 ${audit.dir}`)]),
    ...(way === null ? [] : [failed(DIRECTORY, `${audit.dir}: ${way.why} (mode ${way.mode})`, way.fix)]),
    ...(await judgeEntries(DIRECTORY, audit.dir, found)),
  ];
  return [
    ...(open.length === 0
      ? [ok(DIRECTORY, `${audit.dir} has mode ${octal(found.mode)}, and so has what is in it`)]
      : open),
    ...(await judgeWriter(audit, running)),
    ...(await lookAtDisk(audit, audit.dir)),
    ...(await verify(policy, audit, nowMs)),
  ];
}

async function judgeWriter({ dir }: AuditSettings, running: Running | null): Promise<Finding[]> {
  let held: boolean;
  try {
    held = await isHeld(dir, WRITER_SOCKET);
  } catch (error) {
    return [
      skipped(
        DIRECTORY,
        `who writes there is not known (${codeOf(error)})`,
        'run doctor as the user that guardbee runs as',
      ),
    ];
  }
  if (running !== null && !held) {
    return [
      failed(
        DIRECTORY,
        'guardbee runs, and does not write there',
        'restart guardbee, so that it runs with what the file says',
      ),
    ];
  }
  if (running === null && held) {
    return [
      warn(
        DIRECTORY,
        'somebody writes there, and no guardbee answers that has this state directory',
        'see in its log what keeps it; another guardbee needs an audit.dir of its own',
      ),
    ];
  }
  return held ? [ok(DIRECTORY, 'the guardbee that runs writes there')] : [];
}

const MIB = 1024 * 1024;

/** @param where the directory, or the nearest one above it that there is */
async function lookAtDisk(audit: Pick<AuditSettings, 'minFreeBytes'>, where: string): Promise<Finding[]> {
  if ((await stat(where).catch(() => null)) === null) {
    return path.dirname(where) === where ? [] : await lookAtDisk(audit, path.dirname(where));
  }
  const refused = await access(where, constants.W_OK).then(
    () => null,
    (error: unknown) => codeOf(error),
  );
  if (refused !== null) {
    return [
      failed(
        DISK,
        `${where} cannot be written to (${refused})`,
        'mount it for writing, and let the user of guardbee have it (doctor asks as the user who runs it)',
      ),
    ];
  }
  const { minFreeBytes } = audit;
  const { bavail, bsize, files, ffree } = await statfs(where);
  const free = bavail * bsize;
  const said = `${String(Math.floor(free / MIB))} MiB free, ${String(Math.ceil(minFreeBytes / MIB))} MiB of them are kept free (audit.min_free)`;
  const fix = 'make room, keep less (audit.keep), or give audit.dir a disk of its own';
  if (files > 0 && ffree === 0) return [failed(DISK, 'no more files can be made there', fix)];
  if (free < minFreeBytes) return [failed(DISK, said, fix)];
  return [free < 4 * minFreeBytes ? warn(DISK, said, fix) : ok(DISK, said)];
}

/** Leaves time for what comes before it. */
const VERIFY_MS = PROBE_MS - 800;

/** Thrown out of the reading when its time is over. */
class TimeOver extends Error {
  readonly read: number;
  readonly total: number;

  constructor(read: number, total: number) {
    super('the time is over');
    this.read = read;
    this.total = total;
  }
}

async function verify(policy: Policy, audit: AuditSettings, nowMs: number): Promise<Finding[]> {
  const until = performance.now() + VERIFY_MS;
  try {
    const [own, head] = await Promise.all([
      readOwnKey(policy.stateDir).catch(() => null),
      readOwnHead(policy.stateDir).catch(() => null),
    ]);
    const report = await verifyTrail(
      { kind: 'dir', dir: audit.dir },
      {
        // Without the key only the chain itself is looked at, which is better than nothing.
        keys: own ?? (await readPublicKey(publicKeyBeside(audit.dir))),
        heads: head === null ? [] : [head],
        checkpointRecords: audit.checkpointRecords,
        pause: (read, total) => {
          if (performance.now() > until) throw new TimeOver(read, total);
        },
      },
    );
    return judgeReport(report, audit, nowMs);
  } catch (error) {
    if (error instanceof TimeOver) {
      return [
        skipped(
          CHAIN,
          `whole as far as was read: ${String(Math.floor(error.read / MIB))} of ${String(Math.ceil(error.total / MIB))} MiB`,
          'guardbee audit verify reads all of it',
        ),
      ];
    }
    if (!(error instanceof StateError)) throw error;
    return [skipped(CHAIN, error.message, 'guardbee audit verify says more')];
  }
}

function judgeReport(report: VerifyReport, { checkpointMs }: AuditSettings, nowMs: number): Finding[] {
  const [first] = report.problems;
  if (first !== undefined) {
    const more = report.problemCount > 1 ? `, and ${count(report.problemCount - 1, 'other problem')}` : '';
    return [
      failed(
        CHAIN,
        `broken: ${sentence(first)}${more}`,
        'guardbee audit verify tells all; keep a copy of the directory, and find out who has changed it',
      ),
    ];
  }
  const whole = `whole: ${count(report.records, 'record')} in ${count(report.segments, 'segment')}`;
  if (report.signed === null) return [ok(CHAIN, `${whole}, none signed yet`)];
  const ageMs = nowMs - Date.parse(report.signed.time);
  const age = `signed ${String(Math.max(0, Math.round(ageMs / 1000)))} s ago`;
  // Nothing is signed where nothing was written; and who is not running signs nothing.
  const late = report.live && report.unsigned > 0 && ageMs > 2 * checkpointMs + 60_000;
  return [
    late
      ? warn(
          CHAIN,
          `${whole}, ${age}, and ${count(report.unsigned, 'record')} since`,
          'see in the log of guardbee why nothing is signed',
        )
      : ok(CHAIN, `${whole}, ${age}`),
  ];
}
