import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { DENIALS, DENIAL_REASONS } from '../../src/denial.js';
import type { ExchangeRecord } from '../../src/exchange-record.js';
import { FAILURES, FAILURE_REASONS } from '../../src/failure.js';
import { AccessRecorder } from '../../src/observe/record.js';
import type { LogSettings } from '../../src/policy/policy.js';
import { EXCHANGE } from './exchange-fixture.js';
import { redactorThatKnows } from './known-tokens.js';
import { linesOf, parsed } from './log-file.js';

async function lines(records: readonly ExchangeRecord[], settings: Partial<LogSettings> = {}): Promise<string[]> {
  const redactor = redactorThatKnows();
  return linesOf(
    redactor,
    (log) => {
      const recorder = new AccessRecorder(log, redactor);
      for (const record of records) recorder.record(record);
    },
    settings,
  );
}

async function line(change: Partial<ExchangeRecord>): Promise<Record<string, unknown>> {
  return parsed((await lines([{ ...EXCHANGE, ...change }]))[0]);
}

describe('the line of an exchange', () => {
  test('has everything, by the names of OpenTelemetry', async () => {
    assert.deepEqual(await line({}), {
      time: '2026-07-29T12:00:00.008Z',
      level: 'INFO',
      msg: 'request',
      'guardbee.decision': 'allow',
      'guardbee.request_id': '0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50',
      'http.request.method': 'POST',
      'url.scheme': 'https',
      'url.path': '/v1/jobs',
      'url.query': 'wait=[redacted]',
      'http.response.status_code': 200,
      'network.protocol.version': '1.1',
      'client.address': '192.168.1.5',
      'network.peer.address': '10.0.0.1',
      'server.address': 'queen.lan',
      'user_agent.original': 'curl/8.5.0',
      'guardbee.listener': 'queen',
      'guardbee.route': 'submit',
      'http.route': '/v1/jobs',
      'guardbee.identity': 'alice',
      'guardbee.roles': ['operator', 'viewer'],
      'guardbee.credential': 'token:ab12cd',
      'guardbee.upstream': '127.0.0.1:7833',
      'guardbee.upstream_ms': 2.5,
      'guardbee.duration_ms': 3.25,
      'guardbee.bytes_in': 12,
      'guardbee.bytes_out': 3456,
      'guardbee.stream': 'none',
    });
  });

  test('leaves out what is not known', async () => {
    const unread = await line({
      ...{ method: '', path: '', query: null, host: null, userAgent: null, client: null, protocol: 'unknown' },
      ...{ route: null, identity: null, credentialFingerprint: null, upstream: null, upstreamMs: null },
      ...{ outcome: { kind: 'denied', reason: 'malformed_request' }, status: 400, durationMs: 0 },
    });
    assert.deepEqual(unread, {
      time: '2026-07-29T12:00:00.005Z',
      level: 'WARN',
      msg: 'request refused: malformed_request',
      'guardbee.decision': 'deny',
      'guardbee.reason': 'malformed_request',
      'error.type': 'malformed_request',
      'guardbee.request_id': '0b6f1c1e-9a4b-4f0e-8f3a-5b1c2d3e4f50',
      'url.scheme': 'https',
      'http.response.status_code': 400,
      'network.peer.address': '10.0.0.1',
      'guardbee.listener': 'queen',
      'guardbee.duration_ms': 0,
      'guardbee.bytes_in': 12,
      'guardbee.bytes_out': 3456,
      'guardbee.stream': 'none',
    });
  });

  test('names no method that is not in the list', async () => {
    const other = await line({ method: 'PROPFIND' });
    assert.equal(other['http.request.method'], '_OTHER');
    assert.equal(other['http.request.method_original'], 'PROPFIND');
    assert.equal((await line({ method: 'get' }))['http.request.method'], '_OTHER');
  });

  test('has the name of the server without its port', async () => {
    for (const [host, name] of [
      ['queen.lan', 'queen.lan'],
      ['queen.lan:443', 'queen.lan'],
      ['10.0.0.1:80', '10.0.0.1'],
      ['[::1]:8443', '::1'],
      ['[::1]', '::1'],
    ] as const) {
      assert.equal((await line({ host }))['server.address'], name);
    }
  });

  test('has durations to the microsecond', async () => {
    for (const [durationMs, written] of [
      [0, '0'],
      [0.0004, '0'],
      [0.05, '0.05'],
      [1.2345678, '1.235'],
      [12.001, '12.001'],
      [3_600_000.5, '3600000.5'],
    ] as const) {
      const [text] = await lines([{ ...EXCHANGE, durationMs }]);
      assert.match(text ?? '', new RegExp(`"guardbee.duration_ms":${written.replace('.', '\\.')},`));
    }
  });

  test('is JSON even when numbers are not numbers', async () => {
    const odd = await line({ durationMs: Number.NaN, startedAtMs: Number.NaN, upstreamMs: -1, bytesIn: Infinity });
    assert.equal(odd['guardbee.duration_ms'], null);
    assert.equal(odd['guardbee.bytes_in'], null);
    assert.equal(odd['guardbee.upstream_ms'], -1);
  });
});

describe('the words that people search for', () => {
  test('are those of the reason, for every reason', async () => {
    for (const reason of DENIAL_REASONS) {
      const { status, level } = DENIALS[reason];
      const said = await line({ outcome: { kind: 'denied', reason }, status });
      const what =
        status === 401 ? 'authentication failed' : status === 403 ? 'authorization denied' : 'request refused';
      assert.equal(said['msg'], `${what}: ${reason}`);
      assert.equal(said['level'], level.toUpperCase());
      assert.equal(said['guardbee.reason'], reason);
      assert.equal(said['guardbee.decision'], 'deny');
    }
    for (const reason of FAILURE_REASONS) {
      const said = await line({ outcome: { kind: 'failed', reason }, status: FAILURES[reason].status });
      assert.equal(said['msg'], `request failed: ${reason}`);
      assert.equal(said['level'], FAILURES[reason].level.toUpperCase());
      assert.equal(said['guardbee.decision'], 'fail');
    }
  });

  test('are found by the greps that operators have', async () => {
    const [json] = await lines([
      { ...EXCHANGE, outcome: { kind: 'denied', reason: 'credential_invalid' }, status: 401 },
    ]);
    assert.match(json ?? '', /authentication failed/);
    assert.match(json ?? '', /auth.*failed/);
    assert.match(json ?? '', /(ERROR|WARN)/);
    const [allowed] = await lines([EXCHANGE]);
    assert.doesNotMatch(allowed ?? '', /auth.*failed|ERROR|WARN/);
  });

  test('are there in text as well', async () => {
    const [denied, allowed] = await lines(
      [
        { ...EXCHANGE, outcome: { kind: 'denied', reason: 'credential_missing' }, status: 401, identity: null },
        EXCHANGE,
      ],
      { format: 'text' },
    );
    assert.equal(
      denied,
      '2026-07-29T12:00:00.008Z WARN  authentication failed: credential_missing POST /v1/jobs?wait=[redacted] 401 3.25ms queen/submit from 192.168.1.5',
    );
    assert.equal(
      allowed,
      '2026-07-29T12:00:00.008Z INFO  POST /v1/jobs?wait=[redacted] 200 3.25ms queen/submit alice from 192.168.1.5',
    );
  });
});

test('a level above the line keeps it out', async () => {
  const both = [EXCHANGE, { ...EXCHANGE, outcome: { kind: 'denied', reason: 'route_unknown' }, status: 403 } as const];
  assert.equal((await lines(both, { level: 'info' })).length, 2);
  assert.equal((await lines(both, { level: 'warn' })).length, 1);
  assert.equal((await lines(both, { level: 'error' })).length, 0);
});

test('a line costs a few microseconds', async () => {
  const redactor = redactorThatKnows();
  await linesOf(redactor, (log) => {
    const recorder = new AccessRecorder(log, redactor);
    const ids = Array.from(
      { length: 20_000 },
      (_, index) => `0b6f1c1e-9a4b-4f0e-8f3a-${String(index).padStart(12, '0')}`,
    );
    const record = (requestId: string): string =>
      recorder.json({ ...EXCHANGE, requestId, path: `/v1/jobs/job-${requestId}/stream` });
    ids.forEach(record);
    const { user } = process.cpuUsage();
    ids.forEach(record);
    const each = (process.cpuUsage().user - user) / ids.length;
    // Three on an idle machine.
    assert.ok(each < 20, `${each.toFixed(1)} µs`);
    log.info('test', 'done');
  });
});
