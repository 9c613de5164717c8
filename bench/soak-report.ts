/** `npm run soak [-- MINUTES] [--json]`: runs it, says what came of it, and exits with 1 where something is wrong. */
import { soak, type SoakReport } from './soak.js';
import type { Trend } from './trend.js';

const args = process.argv.slice(2);
const json = args.includes('--json');
const words = args.filter((arg) => arg !== '--json');
const minutes = Number(words[0] ?? 10);

if (words.length > 1 || !(minutes > 0 && minutes <= 24 * 60)) {
  process.stderr.write('usage: npm run soak [-- MINUTES] [--json]\n');
  process.exitCode = 2;
} else {
  const terminal = process.stderr.isTTY;
  const report = await soak({
    minutes,
    progress: (line) => {
      if (terminal) process.stderr.write(`\r\x1b[K${line}`);
    },
  });
  if (terminal) process.stderr.write('\r\x1b[K');
  process.stdout.write(json ? `${JSON.stringify(report)}\n` : text(report));
  process.exitCode = report.ok ? 0 : 1;
}

function text(report: SoakReport): string {
  const lines = [`${String(report.minutes)} minutes: ${report.ok ? 'nothing is wrong' : 'something is wrong'}`];
  for (const [kind, times] of Object.entries(report.counts)) lines.push(`  ${kind.padEnd(17)} ${String(times)}`);
  lines.push(`  ended by a service that was stopped here: ${String(report.caused)}`);
  for (const what of report.skipped) lines.push(`  skipped: ${what}`);
  for (const [what, times] of Object.entries(report.errors)) lines.push(`  ERROR ${String(times)} × ${what}`);
  lines.push(
    `  unhandled rejections: ${String(report.unhandledRejections)}`,
    `  streams of a token that was taken away: cut within ${String(report.revokedStreamCutMs)} ms`,
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
