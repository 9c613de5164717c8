import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { after, before, describe, test, type TestContext } from 'node:test';
import { requireComponent } from '../support/component.js';
import { startGuard, type Guard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runCommand, WatchedProcess, type CommandResult } from '../support/process.js';
import { chunk, RecordingUpstream, respond, type EchoedRequest } from '../support/recording-upstream.js';

describe('curl', () => {
  let upstream: RecordingUpstream;
  let guard: Guard;
  let url = '';
  let ca = '';

  before(async () => {
    upstream = await RecordingUpstream.start({
      respond: respond.byPath({ '/events': respond.silentEvents([]) }, respond.echo()),
    });
    guard = await startGuard({ upstream: upstream.url });
    url = `https://localhost:${String(guard.secure.port)}`;
    ca = writeFileIn(guard.directory, 'ca.pem', guard.ca, 0o644);
  });

  after(async () => {
    await guard[Symbol.asyncDispose]();
    await upstream.close();
  });

  /** `-q`: whatever stands in somebody's .curlrc is not under test. */
  const curl = async (t: TestContext, ...args: readonly string[]): Promise<CommandResult | null> => {
    const path = requireComponent('curl', t);
    return path === null ? null : await runCommand(path, ['-q', '-sS', '--max-time', '20', ...args]);
  };

  const pass = (): string[] => ['--cacert', ca, '-H', `Authorization: Bearer ${guard.token}`];

  for (const [flag, version] of [
    ['--http1.1', '1.1'],
    ['--http2', '2'],
  ] as const) {
    test(`${flag}: is refused without a token, and says so with --fail`, async (t) => {
      const result = await curl(t, flag, '--cacert', ca, '--fail-with-body', `${url}/x`);
      if (result === null) return;
      assert.equal(result.code, 22);
      assert.match(result.stdout, /"title":"A credential is needed","status":401/);
      assert.match(result.stderr, /401/);
    });

    test(`${flag}: is let in with one`, async (t) => {
      const result = await curl(t, flag, ...pass(), '-w', '\n%{http_version} %{http_code}', `${url}/x?y=1`);
      if (result === null) return;
      assert.equal(result.code, 0, result.stderr);
      const [body = '', status] = result.stdout.split('\n');
      assert.equal(status, `${version} 200`);
      const echoed = JSON.parse(body) as EchoedRequest;
      assert.equal(echoed.target, '/x?y=1');
      assert.equal(
        echoed.headers.some(([name]) => name === 'authorization'),
        false,
      );
    });

    test(`${flag}: uploads a file, asking first whether it may`, async (t) => {
      const bytes = randomBytes(8 * 1024 * 1024);
      const file = writeFileIn(guard.directory, 'upload.bin', bytes);
      const result = await curl(t, flag, ...pass(), '-T', file, '-H', 'Expect: 100-continue', `${url}/upload`);
      if (result === null) return;
      assert.equal(result.code, 0, result.stderr);
      const echoed = JSON.parse(result.stdout) as EchoedRequest;
      assert.equal(echoed.method, 'PUT');
      assert.equal(echoed.bodyLength, bytes.length);
      assert.equal(echoed.bodySha256, createHash('sha256').update(bytes).digest('hex'));
    });

    test(`${flag}: is told before it uploads that it may not`, async (t) => {
      const file = writeFileIn(guard.directory, 'refused.bin', Buffer.alloc(8 * 1024 * 1024));
      const result = await curl(
        t,
        flag,
        '--cacert',
        ca,
        '-T',
        file,
        '-w',
        '%{http_code} %{size_upload}',
        '-o',
        '/dev/null',
        '-H',
        'Expect: 100-continue',
        `${url}/refused`,
      );
      if (result === null) return;
      const [status, uploaded] = result.stdout.split(' ');
      assert.equal(status, '401', result.stderr);
      assert.ok(Number(uploaded) < 8 * 1024 * 1024, uploaded);
      assert.ok(upstream.requests.every(({ target }) => target !== '/refused'));
    });

    test(`${flag} -N: sees each event when it is sent, and the upstream hears when it is stopped`, async (t) => {
      const path = requireComponent('curl', t);
      if (path === null) return;
      const before = upstream.requests.length;
      await using reader = new WatchedProcess(path, ['-q', '-sSN', flag, ...pass(), `${url}/events`]);
      const [request] = (await upstream.waitForRequests(before + 1)).slice(-1);
      assert.ok(request !== undefined);
      for (const text of ['one', 'two', 'three']) {
        request.connection.write(chunk(`data: ${text}\n\n`));
        await reader.waitForOutput(new RegExp(`data: ${text}\n\n$`));
      }
      reader.signal('SIGINT');
      await upstream.waitForClose(request.connection);
      await reader.exited;
    });

    test(`${flag} -I: gets the head alone`, async (t) => {
      const result = await curl(t, flag, ...pass(), '-I', `${url}/x`);
      if (result === null) return;
      assert.equal(result.code, 0, result.stderr);
      assert.match(result.stdout, /^HTTP\/\S+ 200/);
      assert.match(result.stdout, /^content-length: [1-9]/im);
    });

    test(`${flag} --path-as-is: does not get out of its path`, async (t) => {
      const result = await curl(
        t,
        flag,
        ...pass(),
        '--path-as-is',
        '-w',
        '%{http_code}',
        '-o',
        '/dev/null',
        `${url}/a/../b`,
      );
      if (result === null) return;
      assert.equal(result.stdout, '400');
    });
  }

  test('many requests on one connection', async (t) => {
    const result = await curl(
      t,
      ...pass(),
      '--http1.1',
      '-w',
      '%{num_connects} ',
      '-o',
      '/dev/null',
      ...Array.from({ length: 5 }, (_, n) => `${url}/${String(n)}`).flatMap((one) => ['-o', '/dev/null', one]),
    );
    if (result === null) return;
    assert.equal(result.stdout, '1 0 0 0 0 ');
  });

  test('does not believe the certificate without the authority', async (t) => {
    const result = await curl(t, `${url}/x`);
    if (result === null) return;
    assert.equal(result.code, 60);
  });

  test('is not spoken to in TLS 1.1', async (t) => {
    const result = await curl(t, ...pass(), '--tlsv1.1', '--tls-max', '1.1', `${url}/x`);
    if (result === null) return;
    assert.equal(result.code, 35);
  });

  test('plain HTTP on loopback', async (t) => {
    const plain = `http://localhost:${String(guard.plain.port)}/x`;
    const result = await curl(t, '-H', `X-API-Key: ${guard.token}`, '-w', '%{http_code}', '-o', '/dev/null', plain);
    if (result === null) return;
    assert.equal(result.stdout, '200');
  });
});
