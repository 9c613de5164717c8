/**
 * guardbee is killed again and again, at random moments, while clients ask: some are while it starts. After each, the next
 * start goes on with the chain; it is clean, with every head that was ever printed; and every refusal that a client got is
 * in it. `AUDIT_KILLS=200` for as many as are promised.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import { setTimeout as after } from 'node:timers/promises';
import { type SeenHead, parseHead } from '../../src/observe/audit/chain-check.js';
import { keyId, PUBLIC_KEY_FILE } from '../../src/observe/audit/signing-key.js';
import { verifyTrail } from '../../src/observe/audit/verify.js';
import { simplePolicy, tokenPair, writePolicy } from '../support/policy-builder.js';
import { GUARDBEE_ENTRY } from '../support/process.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

const KILLS = Number(process.env['AUDIT_KILLS'] ?? '10');
const CLIENTS = 6;
/** A life ends so long after so many refusals, at most. */
const MOST_REFUSALS = 30;
const LONGEST_MS = 20;

/** Ids of refusals whose answers arrived, until nobody answers any more. */
async function ask(port: number, token: string, refused: Set<string>): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const kinds = [
    { method: 'GET', path: '/v1/secret', headers: {} },
    { method: 'GET', path: '/v1/jobs', headers: { authorization: `Bearer ${token}` } },
    { method: 'POST', path: '/v1/jobs', headers: { authorization: `Bearer ${token}` } },
    { method: 'DELETE', path: '/v1/x', headers: { authorization: 'Bearer nonsense' } },
  ];
  try {
    for (let turn = 0; ; turn += 1) {
      const kind = kinds[(turn + port) % kinds.length];
      await new Promise<void>((resolve, reject) => {
        const asked = request({ host: '127.0.0.1', port, agent, ...kind }, (response) => {
          const id = response.headers['x-request-id'];
          // That is all a client needs to know: it was refused.
          if (response.statusCode === 401) refused.add(String(id));
          response.resume();
          response.once('end', resolve);
          response.once('error', reject);
        });
        asked.once('error', reject);
        asked.end();
      });
    }
  } catch {
    // It was killed.
  } finally {
    agent.destroy();
  }
}

class Life implements AsyncDisposable {
  readonly #child;
  readonly heads: SeenHead[] = [];
  readonly ended: Promise<void>;
  #out = '';
  #onPort: ((port: number) => void) | null = null;

  constructor(policy: string) {
    this.#child = spawn(process.execPath, [GUARDBEE_ENTRY, 'run', '--policy', policy], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      assert.fail(text);
    });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#out += text;
      for (let end = this.#out.indexOf('\n'); end !== -1; end = this.#out.indexOf('\n')) {
        this.#line(this.#out.slice(0, end));
        this.#out = this.#out.slice(end + 1);
      }
    });
    this.ended = new Promise((resolve) => {
      this.#child.once('close', () => {
        resolve();
      });
    });
  }

  async port(): Promise<number> {
    return await new Promise((resolve, reject) => {
      this.#onPort = resolve;
      this.#child.once('close', (code) => {
        reject(new Error(`ended with ${String(code)}`));
      });
    });
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #line(text: string): void {
    const line = JSON.parse(text) as Record<string, unknown>;
    if (line['event.name'] === 'listener.open') this.#onPort?.(Number(new URL(String(line['url.full'])).port));
    const head = line['guardbee.audit.head'];
    if (typeof head !== 'string') return;
    const seen = parseHead(head, 'given');
    assert.ok(seen !== null);
    this.heads.push(seen);
  }
}

test(`${String(KILLS)} kills`, { timeout: 60_000 + KILLS * 3_000 }, async (t) => {
  using directory = new TemporaryDirectory();
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200), recordLimit: 0 });
  const { token, sha256 } = tokenPair();
  const dir = directory.file('log');
  const policy = writePolicy(
    directory,
    simplePolicy({
      upstream: upstream.url,
      stateDir: directory.file('state'),
      tokens: [{ name: 'keeper', sha256, roles: ['operator'] }],
      top: {
        audit: { dir, min_free: '1KiB', rotate: { size: '64KiB' }, checkpoint: { records: 40, interval: '1s' } },
        log: { level: 'info' },
      },
    }),
  );
  const refused = new Set<string>();
  const heads: SeenHead[] = [];
  let inTheStart = 0;
  let startMs = 500;
  const verify = async (): Promise<Set<string>> => {
    const key = createPublicKey(readFileSync(`${dir}/${PUBLIC_KEY_FILE}`));
    const found = new Set<string>();
    const report = await verifyTrail(
      { kind: 'dir', dir },
      {
        keys: new Map([[keyId(key), key]]),
        heads,
        onRecord: ({ result, request_id: id }) => {
          if (result === 'denied' && id !== undefined) found.add(id);
        },
      },
    );
    assert.deepEqual(report.problems, []);
    return found;
  };
  for (let kill = 0; kill < KILLS; kill += 1) {
    await using life = new Life(policy);
    if (kill % 5 === 4) {
      inTheStart += 1;
      await after(Math.random() * startMs);
      await life.kill();
      heads.push(...life.heads);
      continue;
    }
    const beganMs = performance.now();
    const port = await life.port();
    startMs = performance.now() - beganMs;
    // What was left behind has been dealt with.
    const found = await verify();
    for (const id of refused)
      assert.ok(found.has(id), `kill ${String(kill)}: ${id} was refused, and is not in the trail`);
    const clients = Array.from({ length: CLIENTS }, () => ask(port, token, refused));
    const enough = refused.size + Math.floor(Math.random() * MOST_REFUSALS);
    await waitUntil(() => refused.size >= enough, 'refusals');
    await after(Math.random() * LONGEST_MS);
    await life.kill();
    await Promise.all(clients);
    heads.push(...life.heads);
  }
  await using life = new Life(policy);
  await life.port();
  const found = await verify();
  assert.deepEqual(
    [...refused].filter((id) => !found.has(id)),
    [],
  );
  assert.ok(refused.size > KILLS * 5, `only ${String(refused.size)} refusals`);
  t.diagnostic(
    `${String(refused.size)} refusals received, ${String(heads.length)} heads; ${String(inTheStart)} while it started`,
  );
});
