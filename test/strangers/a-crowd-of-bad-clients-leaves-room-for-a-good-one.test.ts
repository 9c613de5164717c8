/**
 * All at once, for six seconds: 200 connections that send one byte a second, 200 that ask for much and read nothing,
 * thousands of strangers with bad tokens, and a thousand bodies of 2 MiB that must be judged. Somebody who behaves goes
 * on being served, memory stays bounded, and when the crowd is gone nothing of it is left.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PeakMemory } from '../streams/payload.js';
import { startGuard, type Guard } from '../support/guard.js';
import { expectClosed, openSockets } from '../support/leak.js';
import { tokenPair } from '../support/policy-builder.js';
import { RawConnection, requestBytes } from '../support/raw-client.js';

const MIB = 1024 ** 2;
const SECONDS = 6;

describe('a crowd of bad clients', () => {
  let service: ChildProcessByStdio<null, Readable, null>;
  let guard: Guard;
  const good = tokenPair();

  before(async () => {
    service = spawn(process.execPath, [fileURLToPath(new URL('patient-service.js', import.meta.url))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [port] = (await once(service.stdout, 'data')) as [Buffer];
    guard = await startGuard({
      upstream: `http://127.0.0.1:${port.toString().trim()}`,
      tokens: [{ name: 'good', sha256: good.sha256, roles: ['operator'] }],
      listener: { throttle: { after: 5 }, limits: { connections: 6_000 }, timeouts: { head: '5s' } },
      routes: [
        {
          name: 'jobs',
          path: '/jobs',
          methods: ['POST'],
          body: { max: '2MiB', json: { field: 'operation', require_by_value: { infer: 'write' } } },
        },
        { name: 'rest', path: '/**', methods: ['GET'], require: 'read' },
      ],
    });
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    service.kill();
    await once(service, 'exit');
  });

  test('leaves room for a good one', { timeout: 90_000 }, async (t) => {
    const sockets = openSockets(guard.pid);
    using peak = new PeakMemory(guard.pid);
    const bad = spawn(
      process.execPath,
      [fileURLToPath(new URL('crowd.js', import.meta.url)), String(guard.plain.port), guard.token, String(SECONDS)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    let said = '';
    bad.stdout.on('data', (chunk: Buffer) => (said += chunk.toString()));
    const gone = once(bad, 'exit');

    const times: number[] = [];
    const ask = requestBytes(guard.plain, { path: '/fine', token: good.token });
    using connection = await RawConnection.connect(guard.plain);
    while (bad.exitCode === null) {
      const started = performance.now();
      connection.write(ask);
      assert.equal((await connection.readResponse('GET', 20_000)).status, 200);
      times.push(performance.now() - started);
    }
    await gone;
    connection.close();
    const left = new Set([...openSockets(guard.pid)].filter((name) => !sockets.has(name)));
    times.sort((a, b) => a - b);
    const at = (share: number): number => times[Math.floor(times.length * share)] ?? Infinity;
    t.diagnostic(`${String(times.length)} good requests: p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms`);
    t.diagnostic(`peak ${(peak.bytes / MIB).toFixed(0)} MiB; the crowd: ${said.trim()}`);
    const crowd = JSON.parse(said) as Record<string, number>;
    // What was said to come did come; how much of it, the machine says.
    assert.deepEqual([crowd['stalled'], crowd['bodies']], [200, 1_000]);
    assert.ok((crowd['strangers'] ?? 0) > 1_000 && (crowd['dripped'] ?? 0) > 400, said);
    // On two cores of one's own the 99th percentile is far below 250 ms. This machine may have other work, so that a
    // figure would judge it and not guardbee: what is asserted is that nobody waits for the crowd to go.
    assert.ok(at(0.5) < 250, `p50 ${at(0.5).toFixed(0)} ms`);
    assert.ok(at(1 - 1 / times.length) < (SECONDS * 1_000) / 2, `longest ${at(1 - 1 / times.length).toFixed(0)} ms`);
    assert.ok(peak.bytes < 400 * MIB, `${(peak.bytes / MIB).toFixed(0)} MiB`);
    // By name and not by number: of connections that overflowed the kernel's queue, some come in only now, for as long as
    // their other end's kernel repeats what it sent (a minute). Some more of them look open here when their other end is
    // long gone; they are ended as all that say nothing are: after the time for a head.
    assert.ok(left.size > 0);
    await expectClosed(guard.pid, left, 10_000);
  });
});
