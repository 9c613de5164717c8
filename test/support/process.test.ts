import assert from 'node:assert/strict';
import { existsSync, statSync } from 'node:fs';
import { describe, test } from 'node:test';
import { requireComponent } from './component.js';
import { testCertificates, writeKeyPair } from './certificates.js';
import {
  countOpenFiles,
  countResources,
  expectClosed,
  expectResources,
  expectSockets,
  openSockets,
  residentBytes,
} from './leak.js';
import { policyText, simplePolicy, tokenPair, writeFileIn, writePolicy, writeTokens } from './policy-builder.js';
import { runCommand, WatchedProcess } from './process.js';
import { RawConnection } from './raw-client.js';
import { RecordingUpstream } from './recording-upstream.js';
import { waitUntil } from './wait.js';
import { TemporaryDirectory } from './temporary-directory.js';

const script = (text: string): WatchedProcess => new WatchedProcess(process.execPath, ['-e', text]);

describe('watched process', () => {
  test('collects output and log lines, and the exit code', async () => {
    await using child = script(
      `console.log('text'); console.log(JSON.stringify({ msg: 'ready', port: 7 })); console.error('oops'); process.exitCode = 3`,
    );
    const line = await child.waitForLog((entry) => entry['msg'] === 'ready');
    assert.equal(line['port'], 7);
    await child.waitForOutput(/oops/);
    await child.expectExit(3);
    assert.match(child.stdout, /^text\n/);
    assert.equal(child.logLines.length, 1);
  });

  test('waiting for what never comes ends when the process does, and shows its output', async () => {
    await using child = script(`console.error('it broke here')`);
    await assert.rejects(
      child.waitForLog(() => true),
      /it broke here/,
    );
  });

  test('a process that runs on is killed by its id, and its folder is gone', async () => {
    const child = script(`setInterval(() => {}, 1000); console.log('up')`);
    await child.waitForOutput(/up/);
    const { pid, directory } = child;
    await child.stop();
    assert.deepEqual(child.status, { code: null, signal: 'SIGKILL' });
    assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
    assert.equal(existsSync(directory.path), false);
  });

  test('input goes to stdin', async () => {
    const result = await runCommand(process.execPath, ['-e', 'process.stdin.pipe(process.stdout)'], { input: 'in\n' });
    assert.deepEqual(result, { code: 0, stdout: 'in\n', stderr: '' });
  });

  test('a command that does not exist rejects', async () => {
    await assert.rejects(runCommand('/no/such/command', []), { code: 'ENOENT' });
  });
});

describe('leak counts', () => {
  test('an open socket of this process shows, and a closed one does not', async () => {
    await using upstream = await RecordingUpstream.start();
    const before = countResources();
    const client = await RawConnection.connect(upstream);
    await upstream.waitForConnection();
    await assert.rejects(expectResources(before, 20), /left over: TCPSocketWrap/);
    client.close();
    await upstream.waitForIdle();
    await expectResources(before);
  });

  test('an open socket of another process shows', async () => {
    await using upstream = await RecordingUpstream.start();
    await using child = script(
      `const s = require('node:net').connect(${String(upstream.port)}, '127.0.0.1'); process.stdin.on('end', () => s.destroy()).resume(); setInterval(() => {}, 1000)`,
    );
    await upstream.waitForConnection();
    assert.ok(countOpenFiles(child.pid).total >= countOpenFiles(child.pid).sockets);
    assert.ok(residentBytes(child.pid) > 1_000_000);
    // Its standard input is a socket too, and may be opened between the two counts.
    const sockets = await waitUntil(() => {
      const open = openSockets(child.pid);
      return open.size > 1 && open.size === countOpenFiles(child.pid).sockets ? open : null;
    }, 'two counts of the same sockets');
    await assert.rejects(expectClosed(child.pid, sockets, 20), /has \d+ of \d+ sockets still open/);
    await upstream.waitForClose();
    await expectSockets(child.pid, countOpenFiles(child.pid).sockets);
    await assert.rejects(expectSockets(child.pid, -1, 20), /holds \d+ sockets, not -1/);
  });
});

describe('policy files', () => {
  test('have the modes that guardbee asks for', () => {
    using directory = new TemporaryDirectory();
    const { token, sha256 } = tokenPair();
    assert.match(sha256, /^[0-9a-f]{64}$/);
    assert.notEqual(token, tokenPair().token);
    const policy = simplePolicy({
      upstream: 'http://127.0.0.1:1',
      stateDir: directory.file('state'),
      tokens: [{ name: 'keeper', roles: ['operator'], sha256 }],
    });
    assert.deepEqual(JSON.parse(policyText(policy)), policy);
    const mode = (path: string): string => (statSync(path).mode & 0o777).toString(8);
    assert.equal(mode(directory.path), '700');
    assert.equal(mode(writePolicy(directory, policy)), '644');
    assert.equal(mode(writeTokens(directory, [{ name: 'keeper', sha256 }])), '600');
    assert.equal(mode(writeFileIn(directory, 'deep/down/file', 'x', 0o640)), '640');
  });

  test('certificates are what openssl takes them for', async (t) => {
    const openssl = requireComponent('openssl', t);
    if (openssl === null) return;
    using directory = new TemporaryDirectory();
    const { ca, server, authority } = await testCertificates();
    assert.equal((await testCertificates()).server, server);
    const caFile = writeFileIn(directory, 'ca.pem', ca);
    const { certFile } = writeKeyPair(directory, server);
    const verified = await runCommand(openssl, ['verify', '-CAfile', caFile, certFile]);
    assert.equal(verified.code, 0, verified.stderr);
    const past = await authority.issue({ notBefore: new Date('2020-01-01'), notAfter: new Date('2020-02-01') });
    const expired = await runCommand(openssl, [
      'verify',
      '-CAfile',
      caFile,
      writeKeyPair(directory, past, 'past').certFile,
    ]);
    assert.match(expired.stderr, /certificate has expired/);
    const client = await authority.issue({ usage: 'client', names: ['hive-1.lan'] });
    const shown = await runCommand(openssl, ['x509', '-noout', '-ext', 'subjectAltName,extendedKeyUsage'], {
      input: client.cert,
    });
    assert.match(shown.stdout, /DNS:hive-1\.lan/);
    assert.match(shown.stdout, /TLS Web Client Authentication/);
  });
});
