/** The set-up of examples/node-link as it is shipped, on one machine: addresses are exchanged, and nothing else. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort } from '../support/free-port.js';
import { requireComponent } from '../support/component.js';
import { writeFileIn } from '../support/policy-builder.js';
import { REPOSITORY, type WatchedProcess, runCommand, runGuardbee, startGuardbee } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

/** Somebody on the wire between two machines: passes everything on, and keeps it. */
class Eavesdropper {
  readonly #server: Server;
  readonly #heard: Buffer[] = [];
  readonly #sockets = new Set<Socket>();

  private constructor(to: number) {
    this.#server = createServer((socket) => {
      const on = connect({ host: '127.0.0.1', port: to });
      for (const [one, other] of [
        [socket, on],
        [on, socket],
      ] as const) {
        this.#sockets.add(one);
        one.on('data', (bytes: Buffer) => {
          this.#heard.push(bytes);
        });
        one.on('error', () => other.destroy());
        one.on('close', () => other.destroySoon());
        one.pipe(other);
      }
    });
  }

  static async before(port: number): Promise<Eavesdropper> {
    const made = new Eavesdropper(port);
    made.#server.listen(0, '127.0.0.1');
    await once(made.#server, 'listening');
    return made;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get heard(): string {
    return Buffer.concat(this.#heard).toString('latin1');
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

const TERMINAL = `
import asyncio, json, sys
import websockets

async def main():
    async with websockets.connect(sys.argv[1]) as socket:
        await socket.send(json.dumps({"type": "input", "data": "typed-in-the-terminal"}))
        said = json.loads(await socket.recv())
        payload = bytes(range(256)) * 1000
        await socket.send(payload)
        print(json.dumps([said["data"], (await socket.recv()) == payload]))

asyncio.run(main())
`;

describe('two nodes are linked', () => {
  const directory = new TemporaryDirectory();
  let host: RecordingUpstream;
  let runner: RecordingUpstream;
  const eavesdroppers: Eavesdropper[] = [];
  const guards: WatchedProcess[] = [];
  let toHost = 0;
  let toRunner = 0;
  let hostIn = 0;

  const example = (name: string): string => join(REPOSITORY, 'examples/node-link', name);

  /** An address of the example, as it is here. */
  function policyOf(name: string, addresses: Readonly<Record<string, string>>): string {
    let text = readFileSync(example(name), 'utf8').replaceAll(/allow_from: \[.*\]/g, 'allow_from: [127.0.0.1]');
    // The tests of the policy are about the addresses of the example.
    text = text.slice(0, text.indexOf('\ntests:'));
    for (const [there, here] of Object.entries(addresses)) {
      assert.ok(text.includes(there), `${name} says ${there}`);
      text = text.replaceAll(there, here);
    }
    return writeFileIn(directory, name, text, 0o644);
  }

  before(async () => {
    cpSync(example('make-certificates.sh'), directory.file('make-certificates.sh'));
    const made = await runCommand('sh', ['make-certificates.sh', 'river.lan', 'runner-1.lan'], { cwd: directory.path });
    assert.equal(made.code, 0, made.stderr);
    host = await RecordingUpstream.start({ respond: respond.echo() });
    runner = await RecordingUpstream.start({ respond: respond.webSocket() });
    const runnerIn = await freePort();
    hostIn = await freePort();
    toHost = await freePort();
    toRunner = await freePort();
    const [beforeHost, beforeRunner] = [await Eavesdropper.before(hostIn), await Eavesdropper.before(runnerIn)];
    eavesdroppers.push(beforeHost, beforeRunner);
    const local = (port: number): string => `127.0.0.1:${String(port)}`;
    const ofHost = policyOf('host.yaml', {
      '192.168.1.10:8443': local(hostIn),
      'http://127.0.0.1:8000': host.url,
      '127.0.0.1:18001': local(toRunner),
      '192.168.1.21:8001': local(beforeRunner.port),
    });
    const ofRunner = policyOf('runner.yaml', {
      '127.0.0.1:8000': local(toHost),
      '192.168.1.10:8443': local(beforeHost.port),
      '192.168.1.21:8001': local(runnerIn),
      'http://127.0.0.1:18001': runner.url,
    });
    for (const policy of [ofHost, ofRunner]) {
      const guard = startGuardbee({ args: ['run', '--policy', policy] });
      guards.push(guard);
    }
    for (const guard of guards)
      for (const name of guard === guards[0] ? ['river', 'runner_1'] : ['river', 'runner'])
        await guard.waitForLog((line) => line['event.name'] === 'listener.open' && line['guardbee.listener'] === name);
  });

  after(async () => {
    for (const guard of guards) await guard.stop();
    for (const one of eavesdroppers) one.close();
    host[Symbol.dispose]();
    runner[Symbol.dispose]();
    directory.remove();
  });

  test('the policies pass their own tests', async () => {
    const folder = new TemporaryDirectory();
    try {
      cpSync(join(REPOSITORY, 'examples/node-link'), folder.path, { recursive: true });
      for (const name of ['ca.crt', 'river.lan.crt', 'river.lan.key', 'runner-1.lan.crt', 'runner-1.lan.key'])
        writeFileIn(folder, name, readFileSync(directory.file(name)), name.endsWith('.key') ? 0o600 : 0o644);
      for (const name of ['host.yaml', 'runner.yaml']) {
        const { code, stdout, stderr } = await runGuardbee(['check', '--policy', folder.file(name)]);
        assert.equal(code, 0, stdout + stderr);
      }
    } finally {
      folder.remove();
    }
  });

  test('a runner registers and beats, as itself', async (t) => {
    const curl = requireComponent('curl', t);
    if (curl === null) return;
    for (const [method, path] of [
      ['POST', '/api/register'],
      ['PUT', '/api/heartbeat/runner-1'],
      ['PUT', '/api/heartbeat/runner-1'],
    ] as const) {
      const { stdout, stderr } = await runCommand(curl, [
        ...['-sS', '-X', method, '-w', '\n%{http_code}', '-H', 'Content-Type: application/json'],
        ...[
          '-d',
          '{"hostname":"runner-1","url":"http://127.0.0.1:18001"}',
          `http://127.0.0.1:${String(toHost)}${path}`,
        ],
      ]);
      assert.match(stdout, /\n200$/, stderr);
    }
    const seen = host.connections.flatMap(({ requests }) => requests);
    assert.deepEqual(
      seen.map(({ method, target }) => `${method} ${target}`),
      ['POST /api/register', 'PUT /api/heartbeat/runner-1', 'PUT /api/heartbeat/runner-1'],
    );
    for (const one of seen) {
      assert.equal(one.header('x-auth-user'), 'runner-1');
      assert.match((await one.body).bytes.toString(), /"hostname":"runner-1"/);
    }
  });

  test('the host opens a terminal at the runner', async (t) => {
    const python = requireComponent('python3-websockets', t);
    if (python === null) return;
    const script = writeFileIn(directory, 'terminal.py', TERMINAL);
    const url = `ws://127.0.0.1:${String(toRunner)}/ws/task/1/terminal`;
    const { stdout, stderr } = await runCommand(python, [script, url]);
    assert.deepEqual(JSON.parse(stdout), ['typed-in-the-terminal', true], stderr);
    const [seen] = runner.connections.flatMap(({ requests }) => requests);
    assert.equal(seen?.target, '/ws/task/1/terminal');
    assert.equal(seen.header('x-auth-user'), 'river');
  });

  test('nobody without a certificate is let in, and no path that is not listed', async () => {
    const before = host.bytesSeen;
    const ca = readFileSync(directory.file('ca.crt'), 'utf8');
    const stranger = { port: hostIn, tls: { ca, servername: 'river.lan' } };
    const answer = await request(stranger, { method: 'POST', path: '/api/register', body: '{}', host: 'river.lan' });
    assert.equal(answer.status, 401);
    const near = { port: toHost };
    assert.equal((await request(near, { path: '/docs' })).status, 403);
    assert.equal((await request(near, { path: '/api/nodes' })).status, 403);
    assert.equal((await request(near, { path: '/api/x', headers: [['Origin', 'https://evil.example']] })).status, 403);
    assert.equal(host.bytesSeen, before);
  });

  test('who listens on the wire learns the names of the machines, and nothing of what is said', () => {
    for (const [index, name] of ['river.lan', 'runner-1.lan'].entries()) {
      const heard = eavesdroppers[index]?.heard ?? '';
      assert.ok(heard.length > 1_000);
      assert.ok(heard.includes(name), 'the name that TLS asks for is in the clear');
      for (const said of ['/api/', 'HTTP/1.1', 'heartbeat', 'hostname', 'terminal', 'ws/task', 'typed-in', 'websocket'])
        assert.ok(!heard.includes(said), said);
      // The certificates of both sides are encrypted in TLS 1.3.
      assert.ok(!heard.includes('authority of the nodes'));
    }
    assert.ok(!eavesdroppers[0]?.heard.includes('runner-1'), 'who calls is told to the other side alone');
  });
});
