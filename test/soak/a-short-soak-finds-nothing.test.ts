import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { KINDS, soak, type SoakReport } from '../../bench/soak.js';
import { trendOf } from '../../bench/trend.js';
import { fileURLToPath } from 'node:url';
import { runCommand } from '../support/process.js';

const PROGRAM = fileURLToPath(new URL('../../bench/soak-report.js', import.meta.url));

describe('npm run soak', () => {
  test('does everything at least once, and nothing goes wrong that it did not bring about', async (t) => {
    const { code, stdout, stderr } = await runCommand(process.execPath, [PROGRAM, '0.05', '--json'], {
      timeoutMs: 120_000,
    });
    const report = JSON.parse(stdout) as SoakReport;
    assert.deepEqual(report.errors, {});
    assert.equal(report.unhandledRejections, 0);
    assert.equal(report.auditVerified, true);
    assert.equal(report.ok, true);
    assert.equal(code, 0);
    assert.equal(stderr, '', 'in a pipe it tells nothing on the way');
    for (const kind of KINDS) {
      if (report.skipped.some((one) => one.startsWith(`${kind}:`))) t.diagnostic(`skipped: ${kind}`);
      else assert.ok((report.counts[kind] ?? 0) > 0, kind);
    }
    assert.equal(report.residentBytes.meaning, 'too short to tell');
  });

  test('reports what it has when it is stopped before its time', async () => {
    const stopped = new AbortController();
    const report = await soak({
      minutes: 60,
      signal: stopped.signal,
      progress: () => {
        stopped.abort();
      },
    });
    assert.equal(report.stoppedEarly, true);
    assert.ok(report.minutes < 2, String(report.minutes));
    assert.deepEqual(report.errors, {});
    assert.equal(report.auditVerified, true);
    assert.ok(Object.values(report.counts).some((times) => times > 0));
  });

  test('asks for minutes, and how many processes', async () => {
    for (const args of [['ten'], ['1', '2'], ['1', '--processes', '0']]) {
      const { code, stderr } = await runCommand(process.execPath, [PROGRAM, ...args]);
      assert.equal(code, 2);
      assert.match(stderr, /^usage: npm run soak/);
    }
  });
});

describe('a trend', () => {
  const samples = (value: (second: number) => number): [number, number][] =>
    Array.from({ length: 600 }, (_, second) => [second, value(second)]);

  test('is flat where figures go up and down, or rose while it warmed up', () => {
    const noisy = trendOf(
      samples((second) => 100 + (second % 7)),
      5,
    );
    assert.equal(noisy.meaning, 'flat');
    assert.equal(noisy.highest, 106);
    assert.equal(
      trendOf(
        samples((second) => Math.min(second, 140)),
        5,
      ).meaning,
      'flat',
    );
  });

  test('rises by its slope', () => {
    const leak = trendOf(
      samples((second) => 100 + second / 2),
      5,
    );
    assert.equal(leak.meaning, 'rising');
    assert.ok(Math.abs(leak.slopePerMinute - 30) < 1e-6, String(leak.slopePerMinute));
    assert.equal(
      trendOf(
        samples((second) => 100 - second / 2),
        5,
      ).meaning,
      'flat',
    );
  });

  test('is not told of less than a minute', () => {
    assert.equal(trendOf(samples((second) => second).slice(0, 70), 5).meaning, 'too short to tell');
    assert.equal(trendOf([], 5).meaning, 'too short to tell');
  });
});
