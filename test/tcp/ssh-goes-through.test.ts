/** The ssh of OpenSSH reaches its sshd through a tcp listener. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { once } from 'node:events';
import { test } from 'node:test';
import { MIB, Payload, digestOf, pour } from '../streams/payload.js';
import { requireComponent } from '../support/component.js';
import { freePort } from '../support/free-port.js';
import { writeFileIn } from '../support/policy-builder.js';
import { type CommandResult, WatchedProcess, runCommand } from '../support/process.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { within } from '../support/wait.js';
import { startTcpGuard } from './fixture.js';

/** The whole is said to be a gigabyte: `GUARDBEE_TEST_TCP_MIB=1024`. */
const LARGE = Number(process.env['GUARDBEE_TEST_TCP_MIB'] ?? '64') * MIB;
const LARGE_PATIENCE_MS = 600_000;

interface Programs {
  readonly sshd: string;
  readonly ssh: string;
  readonly keygen: string;
}

/** An sshd that lets in whoever runs the test, and a client that believes no other. */
class SecureShell implements AsyncDisposable {
  readonly port: number;
  readonly #ssh: string;
  readonly #folder: TemporaryDirectory;
  readonly #daemon: WatchedProcess;

  private constructor(port: number, ssh: string, folder: TemporaryDirectory, daemon: WatchedProcess) {
    this.port = port;
    this.#ssh = ssh;
    this.#folder = folder;
    this.#daemon = daemon;
  }

  static async start({ sshd, ssh, keygen }: Programs): Promise<SecureShell> {
    const folder = new TemporaryDirectory();
    for (const name of ['host', 'user']) {
      const made = await runCommand(keygen, ['-q', '-t', 'ed25519', '-N', '', '-f', folder.file(name)]);
      assert.equal(made.code, 0, made.stderr);
    }
    const publicKey = (name: string): string => readFileSync(folder.file(`${name}.pub`), 'utf8');
    writeFileIn(folder, 'authorized_keys', publicKey('user'));
    writeFileIn(folder, 'known_hosts', `behind-guardbee ${publicKey('host')}`);
    const port = await freePort();
    const config = writeFileIn(
      folder,
      'sshd_config',
      [
        'ListenAddress 127.0.0.1',
        `Port ${String(port)}`,
        `HostKey ${folder.file('host')}`,
        `AuthorizedKeysFile ${folder.file('authorized_keys')}`,
        'AuthenticationMethods publickey',
        'PermitRootLogin prohibit-password',
        // The folder stands in one where all may write.
        'StrictModes no',
        'UsePAM no',
        'PidFile none',
        'LogLevel VERBOSE',
        '',
      ].join('\n'),
    );
    writeFileIn(
      folder,
      'ssh_config',
      [
        'Host *',
        '  HostName 127.0.0.1',
        `  User ${userInfo().username}`,
        '  HostKeyAlias behind-guardbee',
        `  UserKnownHostsFile ${folder.file('known_hosts')}`,
        '  GlobalKnownHostsFile none',
        '  StrictHostKeyChecking yes',
        `  IdentityFile ${folder.file('user')}`,
        '  IdentitiesOnly yes',
        '  IdentityAgent none',
        '  BatchMode yes',
        '',
      ].join('\n'),
    );
    // Debian's unit makes it; without it an sshd of root does not begin.
    if (process.getuid?.() === 0) mkdirSync('/run/sshd', { recursive: true, mode: 0o755 });
    const daemon = new WatchedProcess(sshd, ['-D', '-e', '-f', config]);
    const shell = new SecureShell(port, ssh, folder, daemon);
    try {
      await daemon.waitForOutput(/Server listening on 127\.0\.0\.1 port/);
    } catch (error) {
      await shell[Symbol.asyncDispose]();
      throw error;
    }
    return shell;
  }

  /** Connections that it has taken. */
  get connections(): number {
    return this.#daemon.stderr.match(/^Connection from /gm)?.length ?? 0;
  }

  async waitForConnections(count: number): Promise<void> {
    await this.#daemon.waitForOutput(new RegExp(`(?:^Connection from [^]*?){${String(count)}}`, 'm'));
  }

  #args(port: number, command: string): string[] {
    return ['-F', this.#folder.file('ssh_config'), '-p', String(port), 'there', command];
  }

  async run(port: number, command: string): Promise<CommandResult> {
    return await runCommand(this.#ssh, this.#args(port, command));
  }

  /** What a command answers whose standard input is this, and then ends. */
  async runWith(payload: Payload, port: number, command: string): Promise<{ code: number | null; stdout: string }> {
    await using client = new WatchedProcess(this.#ssh, this.#args(port, command), { keepStdin: true });
    assert.ok(client.child.stdin !== null);
    await pour(payload, client.child.stdin);
    client.child.stdin.end();
    const { code } = await within(client.exited, client.stderr, LARGE_PATIENCE_MS);
    return { code, stdout: client.stdout };
  }

  /** As much as one says and the other answers at the same time, which no memory needs to hold. */
  async exchange(
    payload: Payload,
    port: number,
    command: string,
  ): Promise<{ code: unknown; length: number; sha256: string }> {
    const client = spawn(this.#ssh, this.#args(port, command), { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      const exited = once(client, 'exit');
      const heard = digestOf(client.stdout);
      client.stdin.on('error', () => undefined);
      await pour(payload, client.stdin);
      client.stdin.end();
      const { length, sha256 } = await within(heard, 'all of it', LARGE_PATIENCE_MS);
      const [code] = (await exited) as [unknown];
      return { code, length, sha256 };
    } finally {
      client.kill('SIGKILL');
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      // Those that serve a client end with it.
      await this.#daemon.stop();
    } finally {
      this.#folder.remove();
    }
  }
}

test('ssh goes through', async (t) => {
  const sshd = requireComponent('sshd', t);
  const ssh = requireComponent('ssh', t);
  const keygen = requireComponent('ssh-keygen', t);
  if (sshd === null || ssh === null || keygen === null) return;
  await using shell = await SecureShell.start({ sshd, ssh, keygen });
  const upstream = `tcp://127.0.0.1:${String(shell.port)}`;
  await using guard = await startTcpGuard({
    listeners: {
      near: { upstream, inner: 'ssh', allow_from: ['127.0.0.1'] },
      far: { upstream, inner: 'ssh', allow_from: ['192.0.2.0/24'] },
    },
  });

  await t.test('a command says its words on both outputs, and its exit code', async () => {
    const { code, stdout, stderr } = await shell.run(guard.port('near'), 'echo out; echo error >&2; exit 42');
    assert.equal(stdout, 'out\n');
    assert.equal(stderr, 'error\n');
    assert.equal(code, 42);
  });

  await t.test(`${String(LARGE / MIB)} MiB there, and after their end the answer`, async (part) => {
    const payload = new Payload(LARGE);
    const began = performance.now();
    const { code, stdout } = await shell.runWith(payload, guard.port('near'), 'sha256sum');
    part.diagnostic(`${((performance.now() - began) / 1000).toFixed(1)} s`);
    assert.equal(stdout, `${payload.digest()}  -\n`);
    assert.equal(code, 0);
  });

  await t.test(`${String(LARGE / MIB)} MiB there and back at once`, async (part) => {
    const payload = new Payload(LARGE);
    const began = performance.now();
    const { code, length, sha256 } = await shell.exchange(payload, guard.port('near'), 'cat');
    part.diagnostic(`${((performance.now() - began) / 1000).toFixed(1)} s`);
    assert.equal(length, LARGE);
    assert.equal(sha256, payload.digest());
    assert.equal(code, 0);
    const session = await guard.session((line) => Number(line['guardbee.bytes_out']) > LARGE);
    assert.ok(Number(session['guardbee.bytes_in']) > LARGE);
    assert.equal(session['guardbee.reason'], undefined);
  });

  await t.test('from elsewhere not a byte comes back, and sshd sees no connection', async () => {
    const seen = shell.connections;
    const { code, stderr } = await shell.run(guard.port('far'), 'true');
    assert.equal(code, 255);
    assert.match(stderr, /kex_exchange_identification|Connection (?:reset|closed)/);
    assert.equal(await guard.heard('far', 'SSH-2.0-OpenSSH_9.2\r\n'), 0);
    await guard.refusal('address_denied');
    assert.equal((await shell.run(guard.port('near'), 'true')).code, 0);
    await shell.waitForConnections(seen + 1);
    assert.equal(shell.connections, seen + 1);
  });
});
