/** An authority that answers with garbage, too much, too slowly or not at all: one clause for the operator, and no more. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import * as path from 'node:path';
import { once } from 'node:events';
import { test } from 'node:test';
import { type ConnectionOptions, connect } from 'node:tls';
import type { SocketConstructorOpts } from 'node:net';
import { HostFiles } from '../../src/acme/files.js';
import { AcmeCertificates, type AcmeNotice } from '../../src/acme/certificates.js';
import { PendingChallenges } from '../../src/acme/pending-challenges.js';
import { testCertificates } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { runCommand } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil, within } from '../support/wait.js';
import { startAcmeGuard } from './acme-guard.js';
import { namesOf, shakeHands } from './handshake.js';
import { type Script, ScriptedAuthority, TOKEN, settingsOf } from './scripted-authority.js';

const HOST = 'a.example.com';

/** What the first attempt came to. */
async function firstFailure(authority: ScriptedAuthority, settings = settingsOf(authority)): Promise<string> {
  using directory = new TemporaryDirectory();
  const notices: AcmeNotice[] = [];
  const certificates = new AcmeCertificates(directory.path, new PendingChallenges(), {
    notice: (notice) => notices.push(notice),
    exchanged: () => undefined,
    broke: (error) => {
      throw error;
    },
  });
  await certificates.read([HOST]);
  certificates.install(settings, [HOST]);
  const failed = await waitUntil(() => notices.find(({ event }) => event === 'acme.failed'), 'a failure');
  assert.equal(certificates.pairOf(HOST), null);
  await certificates.stop();
  return failed.message;
}

test('each fault is one clause, whatever the authority sends', async (t) => {
  await using authority = await ScriptedAuthority.start();
  const at =
    (path: string, answer: Script): Script =>
    (asked, response) =>
      asked.path === path && answer(asked, response);
  const body =
    (status: number, text: string, fields: Readonly<Record<string, string>> = {}): Script =>
    (_asked, response) => {
      response.writeHead(status, fields).end(text);
      return true;
    };
  const json =
    (value: unknown): Script =>
    (_asked, response) => {
      authority.json(response, 200, value, { location: authority.url('/order/1') });
      return true;
    };
  const cases: readonly (readonly [name: string, script: Script, said: RegExp])[] = [
    ['a page', at('/dir', body(200, '<html>')), /what it answers is no ACME/],
    ['a list', at('/dir', body(200, '[]')), /what it answers is no ACME/],
    ['a megabyte', at('/dir', body(200, `"${'x'.repeat(1024 * 1024)}"`)), /its answer is far too long/],
    ['a long head', at('/dir', body(200, '{}', { 'x-long': 'x'.repeat(20_000) })), /what it answers is no HTTP/],
    ['a redirect', at('/dir', body(302, '', { location: 'https://example.com/' })), /redirects are not followed/],
    [
      'URLs without TLS',
      at('/dir', json({ newNonce: 'http://localhost/n', newAccount: '', newOrder: '' })),
      /not https/,
    ],
    ['a server error', at('/dir', body(503, 'busy')), /it refuses \(status 503\)/],
    ['no nonce', at('/nonce', body(200, '')), /it gives no nonce/],
    [
      'nonces that are never good',
      at('/account', (_asked, response) => authority.problem(response, 400, 'badNonce', 'again')),
      /it refuses \(badNonce: again\)/,
    ],
    [
      'a rate limit',
      at('/new-order', (_asked, response) =>
        authority.problem(response, 429, 'rateLimited', 'too many certificates', { 'retry-after': '7200' }),
      ),
      /limits how often it is asked \(rateLimited: too many certificates\).*next attempt is in 7200 s/,
    ],
    [
      'an account it forgot',
      at('/new-order', (_asked, response) => authority.problem(response, 400, 'accountDoesNotExist', '')),
      /does not know the account/,
    ],
    [
      'an order of nothing',
      at('/new-order', json({ status: 'odd', authorizations: [], finalize: '' })),
      /the order that it gives is none/,
    ],
    [
      'proof of another host',
      at(
        '/authorization',
        json({ status: 'pending', identifier: { type: 'dns', value: 'evil.example.com' }, challenges: [] }),
      ),
      /proof of another host/,
    ],
    [
      'no challenge of ours',
      at(
        '/authorization',
        json({
          status: 'pending',
          identifier: { type: 'dns', value: HOST },
          challenges: [{ type: 'dns-01', url: 'https://x/', token: TOKEN }],
        }),
      ),
      /it offers none of tls-alpn-01, http-01/,
    ],
    [
      'a token that leads elsewhere',
      at(
        '/authorization',
        json({
          status: 'pending',
          identifier: { type: 'dns', value: HOST },
          challenges: [{ type: 'http-01', url: 'https://x/', token: '../../../../etc/passwd-and-more' }],
        }),
      ),
      /it offers none of/,
    ],
    [
      'its own quotation of the answer',
      at('/challenge/tls-alpn-01', (_asked, response) =>
        authority.problem(
          response,
          403,
          'unauthorized',
          `got "${TOKEN}.thumbThumbThumbThumbThumb"\nwanted\u001b[31m more`,
        ),
      ),
      /unauthorized: got "\[…\]" wanted \[31m more/,
    ],
    [
      'an end in the middle',
      at('/dir', (_asked, response) => {
        response.writeHead(200, { 'content-length': '100' }).write('{');
        setImmediate(() => response.socket?.destroy());
        return true;
      }),
      /it ended the connection/,
    ],
  ];
  for (const [name, script, said] of cases) {
    await t.test(name, async () => {
      authority.script = script;
      const message = await firstFailure(authority);
      assert.match(message, said);
      assert.match(
        message,
        /^no new certificate of "a\.example\.com": localhost:\d+: [^\n]+; there is none; the next attempt is in \d+ s$/,
      );
      assert.ok(!message.includes(TOKEN));
    });
  }
  await t.test('a certificate that nobody vouches for', async () => {
    authority.script = () => false;
    const before = authority.asked.length;
    const message = await firstFailure(authority, { ...settingsOf(authority), authority: null });
    assert.match(message, /of no authority that is trusted here \(acme\.ca names one\)/);
    assert.equal(authority.asked.length, before);
  });
});

/** An authority that calls each order finished, and gives `certificate` for it. */
function finished(authority: ScriptedAuthority, certificate: (response: ServerResponse) => void): Script {
  return ({ path }, response) => {
    if (path === '/certificate') {
      certificate(response);
      return true;
    }
    if (path !== '/new-order' && path !== '/order/1' && path !== '/finalize') return false;
    authority.json(
      response,
      path === '/new-order' ? 201 : 200,
      {
        status: path === '/new-order' ? 'ready' : 'valid',
        authorizations: [],
        finalize: authority.url('/finalize'),
        ...(path === '/new-order' ? {} : { certificate: authority.url('/certificate') }),
      },
      { location: authority.url('/order/1') },
    );
    return true;
  };
}

const PEM_CHAIN = { 'content-type': 'application/pem-certificate-chain' };

test('a chain that TLS would not take is not kept, nor what is served given up for it', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  await using authority = await ScriptedAuthority.start();
  using directory = new TemporaryDirectory();
  const file = (name: string): string => directory.file(name);
  const weak = ['req', '-x509', '-newkey', 'rsa:512', '-nodes', '-keyout', file('ca.key'), '-out', file('ca.pem')];
  await runCommand(openssl, [...weak, '-subj', '/CN=weak', '-days', '9']);
  writeFileSync(file('san'), `subjectAltName = DNS:${HOST}`);
  let chain = Buffer.alloc(0);
  const script = finished(authority, (response) => {
    response.writeHead(200, { ...PEM_CHAIN, 'replay-nonce': 'n' }).end(chain);
  });
  authority.script = (asked, response) => {
    if (asked.path === '/finalize') {
      writeFileSync(file('csr'), Buffer.from(String(asked.payload['csr']), 'base64url'));
      const from = ['-req', '-in', file('csr'), '-inform', 'DER', '-extfile', file('san'), '-days', '9'];
      const by = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-out', file('own.pem')];
      execFileSync(openssl, ['x509', ...from, ...by], { stdio: 'pipe' });
      chain = Buffer.concat([readFileSync(file('own.pem')), readFileSync(file('ca.pem'))]);
    }
    return script(asked, response);
  };
  assert.match(await firstFailure(authority), /the certificate that it gives cannot be used for TLS/);

  // Nor does one that came to the disk in another way keep guardbee from starting.
  const folder = directory.file('acme/hosts', HOST);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const { authority: other } = await testCertificates();
  const server = await other.issue({ names: [HOST] });
  writeFileSync(
    path.join(folder, 'certificate.pem'),
    `${server.key}${server.cert}${readFileSync(file('ca.pem'), 'utf8')}`,
    {
      mode: 0o600,
    },
  );
  assert.equal(await new HostFiles(directory.path, HOST).readCertificate(), null);
});

test('an order whose certificate is no good a second time is given up for another', async () => {
  await using authority = await ScriptedAuthority.start();
  using directory = new TemporaryDirectory();
  authority.script = finished(authority, (response) => {
    response.writeHead(200, { ...PEM_CHAIN, 'replay-nonce': 'n' }).end('none');
  });
  const certificates = new AcmeCertificates(
    directory.path,
    new PendingChallenges(),
    {
      notice: () => undefined,
      exchanged: () => undefined,
      broke: (error) => {
        throw error;
      },
    },
    { retryDelay: () => 1 },
  );
  await certificates.read([HOST]);
  certificates.install(settingsOf(authority), [HOST]);
  const orders = (): number => authority.asked.filter(({ path }) => path === '/new-order').length;
  await waitUntil(() => orders() >= 2, 'another order');
  await certificates.stop();
  const first = authority.asked.map(({ path }) => path);
  const until = first.indexOf('/new-order', first.indexOf('/new-order') + 1);
  // Once may be an accident.
  assert.equal(first.slice(0, until).filter((one) => one === '/certificate').length, 2);
});

test('an authority that fails for a while does not cost another order', async () => {
  await using authority = await ScriptedAuthority.start();
  using directory = new TemporaryDirectory();
  const count = (wanted: string): number => authority.asked.filter(({ path }) => path === wanted).length;
  authority.script = (asked, response) => {
    const isDown = asked.path === '/authorization' ? count('/authorization') === 1 : asked.path === '/order/1';
    if (!isDown || count('/order/1') > 2) return false;
    response.writeHead(503, { 'replay-nonce': 'n' }).end();
    return true;
  };
  const events = {
    notice: () => undefined,
    exchanged: () => undefined,
    broke: (error: unknown) => {
      throw error;
    },
  };
  const quickly = { retryDelay: () => 1 };
  const certificates = new AcmeCertificates(directory.path, new PendingChallenges(), events, quickly);
  await certificates.read([HOST]);
  certificates.install(settingsOf(authority), [HOST]);
  await waitUntil(() => count('/authorization') > 1, 'the order from before to be gone on with');
  await certificates.stop();
  assert.equal(count('/new-order'), 1);
});

test('another authority is asked at once, whatever the one before wants or has given', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  await using before = await ScriptedAuthority.start();
  await using after = await ScriptedAuthority.start();
  using directory = new TemporaryDirectory();
  const events = {
    notice: () => undefined,
    exchanged: () => undefined,
    broke: (error: unknown) => {
      throw error;
    },
  };
  const certificates = new AcmeCertificates(directory.path, new PendingChallenges(), events);
  await certificates.read([HOST]);
  const isAsked = (authority: ScriptedAuthority): boolean => authority.asked.some(({ path }) => path === '/new-order');

  await t.test('it limits for two hours', async () => {
    before.script = (asked, response) =>
      asked.path === '/new-order' && before.problem(response, 429, 'rateLimited', '', { 'retry-after': '7200' });
    certificates.install(settingsOf(before), [HOST]);
    const status = await waitUntil(async () => {
      const found = await new HostFiles(directory.path, HOST).readStatus();
      return found.failures > 0 ? found : null;
    }, 'a failure that is noted');
    assert.equal(status.limitedBy, before.directoryUrl);
    assert.ok((status.notBeforeMs ?? 0) > Date.now() + 7_000_000);
    certificates.install(settingsOf(after), [HOST]);
    await waitUntil(() => isAsked(after), 'an order');
    await certificates.stop();
  });

  await t.test('it has just issued one', async () => {
    const file = (name: string): string => directory.file(name);
    const self = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '9'];
    await runCommand(openssl, ['req', ...self, '-subj', '/CN=ca', '-keyout', file('ca.key'), '-out', file('ca.pem')]);
    writeFileSync(file('san'), `subjectAltName = DNS:${HOST}`);
    const script = finished(before, (response) => {
      response.writeHead(200, { ...PEM_CHAIN, 'replay-nonce': 'n' }).end(readFileSync(file('own.pem')));
    });
    before.script = (asked, response) => {
      if (asked.path === '/finalize') {
        writeFileSync(file('csr'), Buffer.from(String(asked.payload['csr']), 'base64url'));
        const from = ['-req', '-in', file('csr'), '-inform', 'DER', '-extfile', file('san'), '-days', '9'];
        const by = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-out', file('own.pem')];
        execFileSync(openssl, ['x509', ...from, ...by], { stdio: 'pipe' });
      }
      return script(asked, response);
    };
    const stateDir = file('second');
    const again = new AcmeCertificates(stateDir, new PendingChallenges(), events);
    await again.read([HOST]);
    again.install(settingsOf(before), [HOST]);
    await waitUntil(() => again.pairOf(HOST) !== null, 'a certificate');
    after.asked.length = 0;
    again.install(settingsOf(after), [HOST]);
    await waitUntil(() => isAsked(after), 'an order');
    assert.notEqual(again.pairOf(HOST), null, 'the one from before serves until then');
    await again.stop();
  });
});

test('while the authority looks: what is shown to it, and to nobody else', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  await using authority = await ScriptedAuthority.start();
  await using guard = await startAcmeGuard(authority, { hosts: [HOST, 'b.example.com'] });
  const port = authority.tlsPort;
  const accepted = async (type: string, times = 1): Promise<void> => {
    await waitUntil(() => authority.asked.filter(({ path }) => path === `/challenge/${type}`).length >= times, type);
  };
  await accepted('tls-alpn-01');

  await t.test('nothing is served under a certificate that is none, and readiness says so', async () => {
    for (const version of [{}, { maxVersion: 'TLSv1.2' }] as const) {
      for (const name of ['b.example.com', '']) {
        assert.match(namesOf(await shakeHands(port, name, version)), /HANDSHAKE_FAILURE/);
      }
    }
    const answer = await request({ port: guard.adminPort }, { path: '/readyz' });
    assert.equal(answer.status, 503);
    assert.match(answer.body.toString(), /a\.example\.com: its certificate is being ordered/);
  });

  await t.test('tls-alpn-01 as openssl sees it, in TLS 1.2 and 1.3', async () => {
    const look = async (protocol: string, version: string, host = HOST): Promise<string> => {
      const where = ['-connect', `127.0.0.1:${String(port)}`, '-servername', host];
      return (await runCommand(openssl, ['s_client', ...where, '-alpn', protocol, version, '-showcerts'])).stdout;
    };
    for (const version of ['-tls1_2', '-tls1_3']) {
      const shown = await look('acme-tls/1', version);
      assert.match(shown, /ALPN protocol: acme-tls\/1/);
      const pem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/.exec(shown)?.[0] ?? '';
      const { stdout } = await runCommand(openssl, ['x509', '-noout', '-text'], { input: pem });
      assert.match(stdout, /DNS:a\.example\.com\s/);
      assert.match(stdout, /1\.3\.6\.1\.5\.5\.7\.1\.31: critical/);
      for (const [protocol, host] of [
        ['h2,acme-tls/1', HOST],
        ['acme-tls/1', 'b.example.com'],
        ['acme-tls/1', 'elsewhere.example.com'],
      ] as const) {
        assert.doesNotMatch(await look(protocol, version, host), /ALPN protocol: acme-tls/, `${protocol} ${host}`);
      }
    }
  });

  await t.test('who speaks acme-tls/1 is shown the certificate and nothing else, and is not waited for', async () => {
    const options: ConnectionOptions & SocketConstructorOpts = {
      port,
      servername: HOST,
      ALPNProtocols: ['acme-tls/1'],
      rejectUnauthorized: false,
      allowHalfOpen: true,
    };
    const socket = connect(options);
    const said: Buffer[] = [];
    socket.on('data', (piece: Buffer) => said.push(piece));
    socket.on('error', () => undefined);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    await once(socket, 'secureConnect');
    assert.equal(socket.alpnProtocol, 'acme-tls/1');
    // Nobody ends this side: it is over when the other end is not there any more.
    const speaking = setInterval(() => socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`), 10);
    try {
      await within(closed, 'the end of a validation');
    } finally {
      clearInterval(speaking);
      socket.destroy();
    }
    assert.equal(Buffer.concat(said).toString(), '');
  });

  await t.test('http-01 at its path alone, for its host alone, with GET alone', async () => {
    authority.script = ({ path }, response) =>
      path === '/authorization' && authority.problem(response, 500, 'serverInternal', 'no');
    await guard.said('acme.failed', HOST);
    authority.script = () => false;
    guard.process.signal('SIGHUP');
    await accepted('http-01');
    const path = `/.well-known/acme-challenge/${TOKEN}`;
    const plain = { port: authority.httpPort };
    const shown = await request(plain, { path, host: HOST });
    assert.equal(shown.status, 200);
    assert.match(shown.body.toString(), new RegExp(`^${TOKEN}\\.[\\w-]{43}$`));
    for (const other of [
      { path: `${path}x`, host: HOST },
      { path: `${path}?a=b`, host: HOST },
      { path: path.toUpperCase(), host: HOST },
      { path, host: 'b.example.com' },
      { path, host: HOST, method: 'POST' },
      { path, host: HOST, method: 'HEAD' },
    ]) {
      assert.equal((await request(plain, other)).status, 308, JSON.stringify(other));
    }
    assert.ok(!guard.process.stdout.includes(TOKEN));
  });
});
