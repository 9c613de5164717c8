/**
 * A worker is killed with WebSockets open, uploads underway and clients with certificates: what is not its own goes on,
 * who was cut is served again at once, and what is counted and recorded stays exact.
 */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type AuditRecord, readRecord } from '../../src/observe/audit/record.js';
import { adminOf } from '../reload/reloading-guard.js';
import { testCertificates } from '../support/certificates.js';
import { type Guard, startGuard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runGuardbee } from '../support/process.js';
import {
  RawConnection,
  type Target,
  type WebSocketClient,
  openWebSocket,
  request,
  requestBytes,
} from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

const BODY = randomBytes(2 * 1024 * 1024);
const HALF = BODY.length / 2;
const SHA256 = createHash('sha256').update(BODY).digest('hex');

const workersOf = (pid: number): number[] =>
  readFileSync(`/proc/${String(pid)}/task/${String(pid)}/children`, 'utf8')
    .trim()
    .split(' ')
    .filter(Boolean)
    .map(Number);

function recordsOf(folder: string): AuditRecord[] {
  const segments = readdirSync(folder).filter((name) => name.endsWith('.ndjson'));
  const lines = segments.sort().flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n'));
  return lines.flatMap((line) => {
    const read = readRecord(Buffer.from(line));
    return read.ok ? [read.record] : [];
  });
}

/** What a client has two of, one in each worker: the one that ended, and the one that goes on. */
async function parted<T>(
  pair: readonly T[],
  what: string,
  of: (one: T) => RawConnection,
): Promise<{ cut: T; kept: T }> {
  const hasEnded = (one: T): boolean => of(one).ended !== null;
  const cut = await waitUntil(() => pair.find(hasEnded), `one of ${what} to end`);
  const kept = pair.find((one) => !hasEnded(one));
  assert.ok(kept !== undefined, `the other one of ${what} goes on`);
  return { cut, kept };
}

test('WebSockets, uploads and clients with certificates of the others go on', { timeout: 120_000 }, async (t) => {
  const { authority, ca } = await testCertificates();
  const hive = await authority.issue({ names: ['hive-1.lan'], usage: 'client' });
  const audited = new TemporaryDirectory(t);
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      (asked.header('upgrade') === null ? respond.echo() : respond.webSocket())(asked, connection),
  });
  await using guard = await startGuard({
    upstream: upstream.url,
    listeners: { nodes: { tls: true, authenticate: ['nodes'] } },
    authenticators: {
      nodes: {
        type: 'mtls',
        ca: 'nodes.pem',
        identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] }],
      },
    },
    prepare: (directory) => {
      writeFileIn(directory, 'nodes.pem', ca, 0o644);
    },
    routes: [
      { name: 'socket', path: '/socket', methods: ['GET'], require: 'read', limits: { streams: 2 } },
      { name: 'upload', path: '/upload', methods: ['POST'], require: 'write', limits: { concurrent: 2 } },
      {
        name: 'rated',
        path: '/rated',
        methods: ['GET'],
        require: 'read',
        limits: { rate: { requests: 3, per: '1d' } },
      },
    ],
    top: {
      processes: 2,
      audit: { dir: audited.file('trail'), min_free: '1KiB', on_failure: 'deny' },
      admin: { bind: '127.0.0.1:0' },
    },
  });
  const plain: Client = { target: guard.plain, token: guard.token };
  const nodes: Client = { target: showing(guard.target('nodes'), hive) };
  const clients = [plain, nodes];

  // Each goes to the worker that has fewer, so of two that come one after the other each worker has one.
  const sockets: WebSocketClient[][] = [];
  const uploads: RawConnection[][] = [];
  const asking: RawConnection[][] = [];
  for (const client of clients) {
    sockets.push([await openSocket(client), await openSocket(client)]);
    uploads.push([await halfAnUpload(client, upstream), await halfAnUpload(client, upstream)]);
    const pair = [await RawConnection.connect(client.target), await RawConnection.connect(client.target)];
    for (const one of pair) assert.equal(await ask(one, client, '/rated'), 200);
    asking.push(pair);
  }
  await waitUntil(
    () => upstream.requests.filter(({ bodyLength }) => bodyLength === HALF).length === 4,
    'half of each upload to be there',
  );
  for (const client of clients) assert.deepEqual(await refusals(client), ['socket', 'upload']);
  assert.equal(await figure(guard, 'guardbee_open_streams{listener="nodes",kind="ws"}'), 2);

  const [victim] = workersOf(guard.pid);
  assert.ok(victim !== undefined);
  process.kill(victim, 'SIGKILL');
  // Until the owner has heard of it, a connection may still be sent there.
  await guard.process.waitForLog((line) => line['event.name'] === 'worker.died');

  for (const [nth, client] of clients.entries()) {
    const socket = await parted(sockets[nth] ?? [], 'the WebSockets', ({ connection }) => connection);
    const upload = await parted(uploads[nth] ?? [], 'the uploads', (one) => one);
    const asked = await parted(asking[nth] ?? [], 'those who ask', (one) => one);
    assert.equal(upload.cut.bytesSeen, 0, 'no answer to an upload that was cut');
    // Who was cut comes again, with the same token or certificate, and there is one place: that of the dead one.
    using again = await openSocket(client);
    await echoes(again);
    using repeated = await halfAnUpload(client, upstream);
    assert.deepEqual(await refusals(client), ['socket', 'upload']);
    using fresh = await RawConnection.connect(client.target);
    assert.equal(await ask(fresh, client, '/rated'), 200);
    assert.equal(await ask(asked.kept, client, '/rated'), 429, 'what was asked of the dead one counts');

    await echoes(socket.kept);
    for (const one of [upload.kept, repeated]) {
      one.write(BODY.subarray(HALF));
      const answer = await one.readResponse('POST');
      assert.equal(answer.status, 200);
      assert.equal((answer.json() as { bodySha256: string }).bodySha256, SHA256);
    }
    for (const { connection } of [socket.kept, again]) assert.equal(connection.ended, null);
    socket.kept.close();
    for (const one of [upload.kept, asked.kept]) one.close();
  }
  await waitUntil(() => workersOf(guard.pid).length === 2, 'another worker');
  await waitUntil(
    async () => (await figure(guard, 'guardbee_workers{state="ready"}')) === 2,
    'another worker to serve',
  );
  for (const listener of ['main', 'nodes']) {
    const nobody = async (name: string): Promise<boolean> => (await figure(guard, name)) === 0;
    await waitUntil(() => nobody(`guardbee_connections{listener="${listener}"}`), 'none to be left');
    await waitUntil(() => nobody(`guardbee_open_streams{listener="${listener}",kind="ws"}`), 'no stream to be left');
  }
  assert.equal(
    upstream.requests.filter(({ target, bodyLength }) => target === '/upload' && bodyLength < BODY.length).length,
    2,
  );

  // All places are free, and there are no more of them than before: what the dead one held was given back once.
  for (const client of clients) {
    using one = await openSocket(client);
    using two = await openSocket(client);
    using three = await halfAnUpload(client, upstream);
    using four = await halfAnUpload(client, upstream);
    assert.deepEqual(await refusals(client), ['socket', 'upload']);
    await echoes(one);
    await echoes(two);
    for (const upload of [three, four]) {
      upload.write(BODY.subarray(HALF));
      assert.equal((await upload.readResponse('POST')).status, 200);
    }
  }
  await waitUntil(async () => (await figure(guard, 'guardbee_connections{listener="nodes"}')) === 0, 'none to be left');

  const trail = audited.file('trail');
  const verified = await runGuardbee(['audit', 'verify', '--dir', trail]);
  assert.equal(verified.code, 0, verified.stdout);
  const count = (event: string, route?: string): number =>
    recordsOf(trail).filter((record) => record.event === event && record.route === route).length;
  // By each of the two clients five of each, one of which was cut.
  for (const route of ['socket', 'upload']) {
    assert.equal(count('authorization_granted', route), 10);
    await waitUntil(() => count('exchange_ended', route) >= 8, `the ends of each ${route}`);
    assert.equal(count('exchange_ended', route), 8, 'what the dead one had has no end');
  }
  assert.equal(count('authorization_granted', 'rated'), 6);
  assert.equal(count('worker_died'), 1);
});

interface Client {
  readonly target: Target;
  readonly token?: string;
}

function showing(target: Target, { cert, key }: { readonly cert: string; readonly key: string }): Target {
  assert.ok(target.tls !== undefined);
  return { ...target, tls: { ...target.tls, cert, key } };
}

function withToken({ token }: Client): { token?: string } {
  return token === undefined ? {} : { token };
}

async function openSocket(client: Client): Promise<WebSocketClient> {
  const { socket, response } = await openWebSocket(client.target, { path: '/socket', ...withToken(client) });
  assert.ok(socket !== null, `the handshake was answered with ${String(response.status)}`);
  return socket;
}

async function echoes(socket: WebSocketClient): Promise<void> {
  socket.send('still there');
  assert.equal(await socket.nextText(), 'still there');
}

/** Resolves when it is underway at the upstream. */
async function halfAnUpload(client: Client, upstream: RecordingUpstream): Promise<RawConnection> {
  const uploads = (): number => upstream.requests.filter(({ target }) => target === '/upload').length;
  const before = uploads();
  const connection = await RawConnection.connect(client.target);
  const bytes = requestBytes(client.target, { method: 'POST', path: '/upload', body: BODY, ...withToken(client) });
  connection.write(bytes.subarray(0, bytes.length - HALF));
  await waitUntil(() => uploads() > before, 'an upload to begin');
  return connection;
}

async function ask(connection: RawConnection, client: Client, path: string): Promise<number> {
  connection.write(requestBytes(client.target, { path, ...withToken(client) }));
  return (await connection.readResponse()).status;
}

/** Which routes have no place for one more. */
async function refusals(client: Client): Promise<string[]> {
  const refused: string[] = [];
  const { response, connection } = await openWebSocket(client.target, { path: '/socket', ...withToken(client) });
  connection.close();
  if (response.status === 429) refused.push('socket');
  const more = await request(client.target, { method: 'POST', path: '/upload', body: 'x', ...withToken(client) });
  if (more.status === 429) refused.push('upload');
  return refused;
}

async function figure(guard: Guard, name: string): Promise<number> {
  const page = (await request(await adminOf(guard), { path: '/metrics' })).text();
  const line = page.split('\n').find((one) => one.startsWith(`${name} `));
  assert.ok(line !== undefined, `no ${name} in the metrics`);
  return Number(line.slice(name.length + 1));
}
