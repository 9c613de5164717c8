/** `npm run soak [-- MINUTES] [--processes N] [--json]`: runs it, says what came of it, and exits with 1 where something
 * is wrong. SIGINT and SIGTERM end it before its time. */
import { soak, type SoakReport } from './soak.js';
import { parseArgs } from 'node:util';
import type { Trend } from './trend.js';

const USAGE = 'usage: npm run soak [-- MINUTES] [--processes N] [--json]\n';

const asked = wishes(process.argv.slice(2));
if (asked === null) {
  process.stderr.write(USAGE);
  process.exitCode = 2;
} else {
  const terminal = process.stderr.isTTY;
  const stopped = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      // Whoever sends it again is in a hurry.
      if (stopped.signal.aborted) process.exit(130);
      if (terminal) process.stderr.write('\r\x1b[Kstopping; what was until now is reported\n');
      stopped.abort();
    });
  }
  const report = await soak({
    minutes: asked.minutes,
    processes: asked.processes,
    signal: stopped.signal,
    progress: (line) => {
      if (terminal) process.stderr.write(`\r\x1b[K${line}`);
    },
  });
  if (terminal) process.stderr.write('\r\x1b[K');
  process.stdout.write(asked.json ? `${JSON.stringify(report)}\n` : text(report));
  process.exitCode = report.ok ? 0 : 1;
}

function wishes(args: string[]): { minutes: number; processes: number; json: boolean } | null {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { json: { type: 'boolean', default: false }, processes: { type: 'string', default: '1' } },
    });
    const [minutes, processes] = [Number(positionals[0] ?? 10), Number(values.processes)];
    const isTime = positionals.length <= 1 && minutes > 0 && minutes <= 24 * 60;
    const isGood = isTime && Number.isInteger(processes) && processes >= 1 && processes <= 64;
    return isGood ? { minutes, processes, json: values.json } : null;
  } catch {
    return null;
  }
}

function text(report: SoakReport): string {
  const time = `${report.minutes.toFixed(1)} minutes${report.stoppedEarly ? ', stopped before its time' : ''}`;
  const processes = report.processes === 1 ? '' : `, ${String(report.processes)} processes`;
  const lines = [`${time}${processes}: ${report.ok ? 'nothing is wrong' : 'something is wrong'}`];
  for (const [kind, times] of Object.entries(report.counts)) lines.push(`  ${kind.padEnd(17)} ${String(times)}`);
  lines.push(`  ended by a service that was stopped here: ${String(report.caused)}`);
  for (const what of report.skipped) lines.push(`  skipped: ${what}`);
  for (const [what, times] of Object.entries(report.errors)) lines.push(`  ERROR ${String(times)} × ${what}`);
  lines.push(
    `  unhandled rejections: ${String(report.unhandledRejections)}`,
    `  streams of a token that was taken away: cut ${String(report.revokedStreamCutMs)} ms after SIGHUP at the latest, ` +
      `${String(report.cutAfterReloadMs)} ms after the end of the reload`,
    `  streams of a JWT that was revoked: cut ${String(report.revokedJwtCutMs)} ms after \`guardbee revoke\` at the latest`,
    `  alive in the heap: ${trendText(report.liveBytes, 1024 * 1024, 'MB')}`,
    `  memory: ${trendText(report.residentBytes, 1024 * 1024, 'MB')}`,
    `  descriptors: ${trendText(report.descriptors, 1, '')}`,
    `  audit trail: ${report.auditVerified ? 'verified' : 'NOT verified'}`,
  );
  return `${lines.join('\n')}\n`;
}

function trendText(trend: Trend, unit: number, name: string): string {
  const show = (value: number): string =>
    `${(value / unit).toFixed(unit === 1 ? 0 : 1)}${name === '' ? '' : ` ${name}`}`;
  const slope = `${trend.slopePerMinute < 0 ? '' : '+'}${(trend.slopePerMinute / unit).toFixed(2)} a minute`;
  return (
    `${trend.meaning}; ${slope} by least squares over the last ${trend.minutes.toFixed(1)} minutes, ` +
    `${show(trend.first)} at first, ${show(trend.last)} at last, ${show(trend.highest)} at most`
  );
}
