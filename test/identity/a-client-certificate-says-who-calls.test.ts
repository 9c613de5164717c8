/**
 * Certificates made by openssl, shown by curl, over HTTP/1.1, HTTP/2 and WebSocket: who comes through, and that the
 * upstream hears of nobody else.
 */
import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, before, describe, test, type TestContext } from 'node:test';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { requireComponent } from '../support/component.js';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { certificatesOf, OpensslAuthority, type OpensslPair } from '../support/openssl-authority.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runCommand, WatchedProcess } from '../support/process.js';
import { openWebSocket, type Target } from '../support/raw-client.js';
import { RecordingUpstream, respond, type EchoedRequest } from '../support/recording-upstream.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { waitUntil } from '../support/wait.js';

/** GeneralNames with one dNSName: `hive-1.lan`, a NUL, `.evil`. Read as a C string it is hive-1. */
const NUL_IN_DNS = (() => {
  const name = Buffer.from('hive-1.lan\0.evil', 'latin1');
  return `DER:${Buffer.concat([Buffer.from([0x30, name.length + 2, 0x82, name.length]), name]).toString('hex')}`;
})();
/** One dNSName that reads like two where entries are split at commas (CVE-2021-44532). */
const COMMA_IN_DNS = (() => {
  const name = Buffer.from('evil, DNS:hive-1.lan', 'latin1');
  return `DER:${Buffer.concat([Buffer.from([0x30, name.length + 2, 0x82, name.length]), name]).toString('hex')}`;
})();

interface Shown extends OpensslPair {
  /** Who it is on the listener `nodes`; null: nobody. */
  readonly who: string | null;
  /** OpenSSL's word, where it is refused by that. */
  readonly code?: string;
}

describe('client certificates', () => {
  let folder: TemporaryDirectory | null = null;
  let upstream: RecordingUpstream;
  let guard: Guard;
  let ca = '';
  const shown = new Map<string, Shown>();

  before(async () => {
    const openssl = requireOpenssl();
    if (openssl === null) return;
    folder = new TemporaryDirectory();
    const nodes = OpensslAuthority.root(openssl, folder.file('nodes'));
    const below = nodes.intermediate('below');
    const others = OpensslAuthority.root(openssl, folder.file('others'), 'others');
    const stale = OpensslAuthority.root(openssl, folder.file('stale'), 'stale');

    const pinned = nodes.issue('pinned');
    const byBelow = below.issue('below', { san: 'DNS:hive-3.lan' });
    const chain = writeFileIn(folder, 'chain.pem', certificatesOf(byBelow, below));
    const revoked = nodes.issue('revoked', { san: 'DNS:hive-1.lan' });
    const alone = OpensslAuthority.root(openssl, folder.file('alone'), 'hive-1');
    const add = (name: string, pair: OpensslPair, who: string | null, code?: string): void => {
      shown.set(name, { ...pair, who, ...(code === undefined ? {} : { code }) });
    };
    add('a DNS name in any case', nodes.issue('dns', { san: 'DNS:Hive-1.LAN' }), 'hive-1');
    add('a URI', nodes.issue('uri', { san: 'URI:spiffe://lan/hive-2' }), 'hive-2');
    add('a mail address', nodes.issue('email', { san: 'email:node@HIVE.lan' }), 'mailed');
    add('a common name', nodes.issue('cn', { subject: '/CN=queen bee' }), 'queen');
    add('a pinned key', pinned, 'pinned');
    add(
      'a name and, first in the list, a key',
      nodes.issue('both', { san: 'DNS:x.lan,DNS:hive-2.lan,DNS:hive-1.lan' }),
      'hive-1',
    );
    add('an intermediate that it brings', { cert: chain, key: byBelow.key }, 'hive-3');
    add('an intermediate that it does not bring', byBelow, null, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    add('another authority', others.issue('other', { san: 'DNS:hive-1.lan' }), null, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    add('itself as authority', { cert: alone.cert, key: alone.key }, null, 'DEPTH_ZERO_SELF_SIGNED_CERT');
    add('an end in the past', nodes.issue('expired', { san: 'DNS:hive-1.lan', days: -1 }), null, 'CERT_HAS_EXPIRED');
    add(
      'the purpose of a server',
      nodes.issue('server', { san: 'DNS:hive-1.lan', usage: 'serverAuth' }),
      null,
      'INVALID_PURPOSE',
    );
    add('a name that nobody has', nodes.issue('unknown', { san: 'DNS:hive-9.lan' }), null);
    add('a name with a NUL', nodes.issue('nul', { san: NUL_IN_DNS }), null);
    add('a name that reads like two', nodes.issue('comma', { san: COMMA_IN_DNS }), null);
    add('a wildcard', nodes.issue('wildcard', { san: 'DNS:*.lan' }), null);
    add('the DNS name as common name', nodes.issue('cn-dns', { subject: '/CN=hive-1.lan' }), null);
    add('two common names', nodes.issue('cn-two', { subject: '/CN=queen bee/CN=drone' }), null);
    add('the name under another kind', nodes.issue('kind', { san: 'URI:http://hive-1.lan,email:a@hive-1.lan' }), null);
    add('revoked', revoked, 'hive-1');
    add('no write', nodes.issue('viewer', { san: 'DNS:viewer.lan' }), 'viewer');
    add('of the others', others.issue('theirs', { san: 'DNS:hive-1.lan' }), null, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    add('of the stale', stale.issue('stale', { san: 'DNS:hive-1.lan' }), null, 'UNABLE_TO_VERIFY_LEAF_SIGNATURE');

    const spki = spkiOf(readFileSync(pinned.cert, 'utf8'));
    const first = { san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] };
    const list = nodes.revoke([revoked]);
    const staleList = stale.revoke([], -3600);
    upstream = await RecordingUpstream.start({
      respond: respond.byPath({ '/socket': respond.webSocket() }, respond.echo()),
    });
    guard = await startGuard({
      upstream: upstream.url,
      top: { log: { level: 'debug' } },
      listeners: {
        nodes: { tls: true, authenticate: ['nodes', 'keys'] },
        others: { tls: true, authenticate: ['others'] },
        listed: { tls: true, authenticate: ['listed'] },
        stale: { tls: true, authenticate: ['stale'] },
        below: { tls: true, authenticate: ['below'] },
        mixed: {
          tls: true,
          authenticate: ['keys'],
          routes: [
            { name: 'node', path: '/node', require: 'read', authenticate: ['nodes'] },
            { name: 'page', path: '/page', public: true },
            { name: 'rest', path: '/**', require: 'read' },
          ],
        },
      },
      authenticators: {
        nodes: {
          type: 'mtls',
          ca: nodes.cert,
          identities: [
            first,
            { san: 'DNS:hive-2.lan', name: 'second', roles: ['operator'] },
            { san: 'DNS:hive-3.lan', name: 'hive-3', roles: ['operator'] },
            { san: 'URI:spiffe://lan/hive-2', name: 'hive-2', roles: ['operator'] },
            { san: 'email:node@hive.lan', name: 'mailed', roles: ['operator'] },
            { cn: 'queen bee', name: 'queen', roles: ['operator'] },
            { spki: `sha256/${spki}`, name: 'pinned', permissions: ['read'] },
            { san: 'DNS:viewer.lan', name: 'viewer', roles: ['viewer'] },
          ],
        },
        others: { type: 'mtls', ca: others.cert, identities: [first] },
        listed: { type: 'mtls', ca: nodes.cert, crl: list, identities: [first] },
        stale: { type: 'mtls', ca: stale.cert, crl: staleList, identities: [first] },
        below: {
          type: 'mtls',
          ca: below.cert,
          identities: [{ san: 'DNS:hive-3.lan', name: 'hive-3', roles: ['operator'] }],
        },
      },
    });
    ca = writeFileIn(guard.directory, 'ca.pem', guard.ca, 0o644);
  });

  after(async () => {
    if (folder === null) return;
    await guard[Symbol.asyncDispose]();
    await upstream.close();
    folder.remove();
  });

  const pairOf = (name: string): Shown => {
    const pair = shown.get(name);
    assert.ok(pair !== undefined, name);
    return pair;
  };

  const curl = async (
    t: TestContext,
    listener: string,
    path: string,
    ...args: readonly string[]
  ): Promise<Answer | null> => {
    const program = requireComponent('curl', t);
    if (program === null || requireComponent('openssl', t) === null) return null;
    const url = `https://localhost:${String(guard.target(listener).port)}${path}`;
    const format = '\n%{http_code} %{http_version}';
    const result = await runCommand(program, [
      '-q',
      '-sS',
      '--max-time',
      '20',
      '--cacert',
      ca,
      '-w',
      format,
      ...args,
      url,
    ]);
    assert.equal(result.code, 0, result.stderr);
    const at = result.stdout.lastIndexOf('\n');
    const [status, version = ''] = result.stdout.slice(at + 1).split(' ');
    return { status: Number(status), version, body: result.stdout.slice(0, at) };
  };

  const withPair = ({ cert, key }: OpensslPair): string[] => ['--cert', cert, '--key', key];

  /** Runs, and asserts that nothing reached the upstream meanwhile. */
  const refused = async (answer: Promise<Answer | null>, status: number): Promise<Answer | null> => {
    const seen = bytesSeen(upstream);
    const got = await answer;
    if (got === null) return null;
    assert.equal(got.status, status, got.body);
    assert.equal(bytesSeen(upstream), seen, 'the upstream saw something');
    return got;
  };

  for (const [flag, version] of [
    ['--http1.1', '1.1'],
    ['--http2', '2'],
  ] as const) {
    test(`${flag}: each certificate is whose it is, or nobody's`, async (t) => {
      if (requireComponent('openssl', t) === null) return;
      // Refusals first, so that the upstream is untouched by then.
      const rows = [...shown].sort(([, a], [, b]) => Number(a.who !== null) - Number(b.who !== null));
      for (const [name, pair] of rows) {
        const asked = curl(t, 'nodes', '/x', flag, ...withPair(pair));
        if (pair.who === null) {
          const answer = await refused(asked, 401);
          if (answer === null) return;
          continue;
        }
        const answer = await asked;
        if (answer === null) return;
        assert.equal(answer.status, 200, `${name}: ${answer.body}`);
        assert.equal(answer.version, version);
        assert.equal(fieldOf(answer.body, 'x-auth-user'), pair.who, name);
      }
    });

    test(`${flag}: without a certificate a token still does, and without either there is a 401`, async (t) => {
      await refused(curl(t, 'nodes', '/x', flag), 401);
      const answer = await curl(t, 'nodes', '/x', flag, '-H', `Authorization: Bearer ${guard.token}`);
      if (answer === null) return;
      assert.equal(fieldOf(answer.body, 'x-auth-user'), 'keeper');
    });

    test(`${flag}: a credential beside the certificate decides alone`, async (t) => {
      if (requireComponent('openssl', t) === null) return;
      const pair = pairOf('a DNS name in any case');
      await refused(
        curl(t, 'nodes', '/x', flag, ...withPair(pair), '-H', 'Authorization: Bearer not-the-token-at-all'),
        401,
      );
      const token = await curl(t, 'nodes', '/x', flag, ...withPair(pair), '-H', `Authorization: Bearer ${guard.token}`);
      assert.equal(token === null ? 'keeper' : fieldOf(token.body, 'x-auth-user'), 'keeper');
      // Nor does a certificate that is no good spoil the token beside it.
      const bad = withPair(pairOf('an end in the past'));
      const beside = await curl(t, 'nodes', '/x', flag, ...bad, '-H', `Authorization: Bearer ${guard.token}`);
      assert.equal(beside?.status ?? 200, 200);
    });

    test(`${flag}: a role that is not enough is a 403`, async (t) => {
      if (requireComponent('openssl', t) === null) return;
      await refused(curl(t, 'nodes', '/x', flag, ...withPair(pairOf('no write')), '-X', 'POST'), 403);
    });

    test(`${flag}: a revoked one is refused where a list is consulted, its neighbours are not`, async (t) => {
      if (requireComponent('openssl', t) === null) return;
      await refused(curl(t, 'listed', '/x', flag, ...withPair(pairOf('revoked'))), 401);
      const other = await curl(t, 'listed', '/x', flag, ...withPair(pairOf('a DNS name in any case')));
      assert.equal(other?.status ?? 200, 200);
    });

    test(`${flag}: where the list is stale everybody is refused`, async (t) => {
      if (requireComponent('openssl', t) === null) return;
      await refused(curl(t, 'stale', '/x', flag, ...withPair(pairOf('of the stale'))), 401);
    });
  }

  test('a certificate that is not accepted is of no matter where none is needed', async (t) => {
    if (requireComponent('openssl', t) === null) return;
    const bad = withPair(pairOf('itself as authority'));
    assert.equal((await curl(t, 'mixed', '/page', ...bad))?.status ?? 200, 200);
    const token = await curl(t, 'mixed', '/x', ...bad, '-H', `Authorization: Bearer ${guard.token}`);
    assert.equal(token?.status ?? 200, 200);
    await refused(curl(t, 'mixed', '/node', ...bad), 401);
    // And a good one is nobody on a route that does not ask for it.
    const good = withPair(pairOf('a DNS name in any case'));
    await refused(curl(t, 'mixed', '/x', ...good), 401);
    assert.equal((await curl(t, 'mixed', '/node', ...good))?.status ?? 200, 200);
  });

  test('a listener that asks for no certificate does not look at one', async (t) => {
    if (requireComponent('openssl', t) === null) return;
    await refused(curl(t, 'secure', '/x', ...withPair(pairOf('a DNS name in any case'))), 401);
  });

  test('an authority whose own issuer is not named is trusted by itself, and its issuer is not', async (t) => {
    if (requireComponent('openssl', t) === null) return;
    const brought = await curl(t, 'below', '/x', ...withPair(pairOf('an intermediate that it brings')));
    assert.equal(brought?.status ?? 200, 200);
    await refused(curl(t, 'below', '/x', ...withPair(pairOf('a DNS name in any case'))), 401);
  });

  test("the debug log has OpenSSL's word for why, and no name of the certificate", async (t) => {
    if (requireComponent('openssl', t) === null) return;
    for (const [name, pair] of shown) {
      if (pair.code === undefined) continue;
      const before = guard.process.logLines.length;
      await curl(t, 'nodes', '/x', ...withPair(pair));
      await waitUntil(
        () =>
          guard.process.logLines
            .slice(before)
            .some((line) => line['error.type'] === pair.code && line['guardbee.listener'] === 'nodes') || null,
        `${name}: ${pair.code}`,
      );
    }
    assert.doesNotMatch(guard.process.stdout, /BEGIN CERTIFICATE|hive-9\.lan/);
  });

  test('a WebSocket is opened by a certificate and refused without', async (t) => {
    if (requireComponent('openssl', t) === null) return;
    const asked = { ...guard.target('nodes') };
    const seen = bytesSeen(upstream);
    for (const name of ['an end in the past', 'another authority', null]) {
      const { response, connection } = await openWebSocket(showing(asked, name === null ? null : pairOf(name)), {
        path: '/socket',
      });
      connection.close();
      assert.equal(response.status, 401, String(name));
    }
    // A certificate is shown by the browser, whoever made it ask.
    const pair = pairOf('a DNS name in any case');
    const foreign = await openWebSocket(showing(asked, pair), {
      path: '/socket',
      headers: [['Origin', 'https://evil.example']],
    });
    foreign.connection.close();
    assert.equal(foreign.response.status, 403);
    assert.equal(bytesSeen(upstream), seen, 'the upstream saw something');

    const { socket, connection } = await openWebSocket(showing(asked, pair), { path: '/socket' });
    assert.ok(socket !== null);
    socket.send('hello');
    assert.equal(await socket.nextText(), 'hello');
    connection.close();
    await guard.recordWhere(
      (line) =>
        line['url.path'] === '/socket' &&
        line['guardbee.identity'] === 'hive-1' &&
        line['guardbee.decision'] === 'allow',
    );
  });

  test('no session is resumed, neither here nor at a listener with another authority', async (t) => {
    const openssl = requireComponent('openssl', t);
    if (openssl === null || folder === null) return;
    const pair = pairOf('a DNS name in any case');
    for (const version of ['-tls1_2', '-tls1_3']) {
      const file = folder.file(`session${version}`);
      const first = await sClient(openssl, guard.target('nodes'), ca, [version, ...shownBy(pair), '-sess_out', file]);
      assert.match(first, /HTTP\/1\.1 200/);
      assert.match(first, /^New, /m);
      for (const listener of ['nodes', 'others', 'listed']) {
        const again = await sClient(openssl, guard.target(listener), ca, [version, '-sess_in', file]);
        assert.match(again, /^New, /m, `${version} ${listener}`);
        assert.doesNotMatch(again, /^Reused/m, `${version} ${listener}`);
        assert.match(again, /HTTP\/1\.1 401/, `${version} ${listener}`);
      }
    }
    // The same offer is taken up where no certificates are asked for: it is not the client that does not try.
    const file = folder.file('session-plain');
    await sClient(openssl, guard.target('secure'), ca, ['-tls1_2', '-sess_out', file]);
    assert.match(await sClient(openssl, guard.target('secure'), ca, ['-tls1_2', '-sess_in', file]), /^Reused, /m);
  });

  test("Node's own client resumes nothing either, and is asked for its certificate each time", async (t) => {
    if (requireComponent('openssl', t) === null) return;
    const target = showing(guard.target('nodes'), pairOf('a DNS name in any case'));
    let session: Buffer | undefined;
    for (let round = 0; round < 3; round++) {
      const socket = await tlsConnect(target, session);
      socket.on('session', (made: Buffer) => (session = made));
      const answered = new Promise((resolve) => socket.once('data', resolve));
      socket.write('GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
      await answered;
      assert.equal(socket.isSessionReused(), false);
      socket.destroy();
    }
  });
});

test('nothing of a refused certificate reaches the upstream', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  using folder = new TemporaryDirectory();
  const nodes = OpensslAuthority.root(openssl, folder.file('nodes'));
  const others = OpensslAuthority.root(openssl, folder.file('others'));
  const pair = others.issue('other', { san: 'DNS:hive-1.lan' });
  await using upstream = await RecordingUpstream.start();
  await using guard = await startGuard({
    upstream: upstream.url,
    listeners: { nodes: { tls: true, authenticate: ['nodes'] } },
    authenticators: {
      nodes: {
        type: 'mtls',
        ca: nodes.cert,
        identities: [{ san: 'DNS:hive-1.lan', name: 'hive-1', roles: ['operator'] }],
      },
    },
  });
  for (const shown of [pair, null]) {
    const { response, connection } = await openWebSocket(showing(guard.target('nodes'), shown));
    connection.close();
    assert.equal(response.status, 401);
  }
  assertUntouched(upstream);
});

interface Answer {
  readonly status: number;
  readonly version: string;
  readonly body: string;
}

/** Outside of a test nothing can be skipped: the tests do that themselves. */
function requireOpenssl(): string | null {
  return requireComponent('openssl', { skip: () => undefined } as unknown as TestContext);
}

function spkiOf(certificatePem: string): string {
  const { publicKey } = new X509Certificate(certificatePem);
  return createHash('sha256')
    .update(publicKey.export({ type: 'spki', format: 'der' }))
    .digest('base64');
}

function fieldOf(body: string, name: string): string | undefined {
  return (JSON.parse(body) as EchoedRequest).headers.find(([field]) => field === name)?.[1];
}

function bytesSeen(upstream: RecordingUpstream): number {
  return upstream.connections.reduce((sum, connection) => sum + connection.bytesSeen, 0);
}

function showing(target: Target, pair: OpensslPair | null): Target {
  if (target.tls === undefined || pair === null) return target;
  const cert = readFileSync(pair.cert, 'utf8');
  return { ...target, tls: { ...target.tls, cert, key: readFileSync(pair.key, 'utf8') } };
}

function shownBy({ cert, key }: OpensslPair): string[] {
  return ['-cert', cert, '-key', key];
}

/** One request with openssl's own client; what it printed. */
async function sClient(openssl: string, target: Target, ca: string, args: readonly string[]): Promise<string> {
  const at = `127.0.0.1:${String(target.port)}`;
  await using child = new WatchedProcess(openssl, ['s_client', '-connect', at, '-CAfile', ca, '-ign_eof', ...args], {
    input: 'GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
  });
  await child.exited;
  return child.stdout;
}

async function tlsConnect(target: Target, session: Buffer | undefined): Promise<TLSSocket> {
  return await new Promise((resolve, reject) => {
    const socket = connectTls(
      { host: '127.0.0.1', port: target.port, ...target.tls, ...(session === undefined ? {} : { session }) },
      () => {
        resolve(socket);
      },
    );
    socket.once('error', reject);
  });
}
