/**
 * A reload asks again who is behind each open stream, by whatever they had shown: a token of an issuer whose key is gone
 * from the key file, a session of somebody who is gone, over HTTP/1.1 and HTTP/2. The same reload moves the admin pages and
 * exchanges what is shown to the collector of the audit trail.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { ClientHttp2Session, OutgoingHttpHeaders } from 'node:http2';
import { test } from 'node:test';
import { TestCollector } from '../audit-delivery/test-collector.js';
import { testCertificates } from '../support/certificates.js';
import { startGuard } from '../support/guard.js';
import { h2Connect, h2Request } from '../support/h2-client.js';
import { tokenPair, writeFileIn } from '../support/policy-builder.js';
import { RawConnection, request, requestBytes } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { issuerKey, jwkOf, makeToken } from '../support/token-issuer.js';
import { waitUntil, within } from '../support/wait.js';
import { freePort } from '../support/free-port.js';
import { adminOf, hangUp, rewrite } from './reloading-guard.js';

interface Stream {
  /** Over: reset, where it is one of many of its connection. */
  readonly ended: () => boolean;
}

async function streamOf(session: ClientHttp2Session, headers: OutgoingHttpHeaders): Promise<Stream> {
  const stream = session.request({ ':path': '/events', ...headers });
  stream.on('error', () => undefined);
  await within(once(stream.setEncoding('utf8'), 'data'), 'the first event');
  stream.resume();
  return { ended: () => stream.destroyed };
}

test('streams of keys, sessions and people that are gone are cut, and only those', async (t) => {
  await using upstream = await RecordingUpstream.start({
    respond: (asked, connection) =>
      asked.target === '/events'
        ? respond.silentEvents()(asked, connection)
        : respond.status(200, [], 'here')(asked, connection),
  });
  const shown: (string | undefined)[] = [];
  const good = ['collector-token-of-before', 'collector-token-of-now'] as const;
  await using collector = await TestCollector.start({
    treat: ({ headers }) => {
      shown.push(headers.authorization);
      return headers.authorization === `Bearer ${good[1]}` ? 200 : 401;
    },
  });
  const { ca } = await testCertificates();
  const [first, second] = [issuerKey('first', 'P-256'), issuerKey('second', 'P-256')];
  const keySet = (...keys: readonly (typeof first)[]): string => JSON.stringify({ keys: keys.map(jwkOf) });
  const leaver = tokenPair();
  const adminPort = await freePort();
  await using guard = await startGuard({
    upstream: upstream.url,
    tokens: [{ name: 'leaver', sha256: leaver.sha256, roles: ['operator'] }],
    prepare: (directory) => {
      writeFileIn(directory, 'keys.json', keySet(first, second), 0o644);
      writeFileIn(directory, 'collector.token', good[0]);
      writeFileIn(directory, 'collector-ca.pem', ca, 0o644);
    },
    authenticators: {
      sso: {
        type: 'jwt',
        issuer: 'i',
        audience: 'q',
        jwks: { file: 'keys.json' },
        algorithms: ['ES256'],
        roles_from: 'roles',
      },
    },
    listeners: { web: { tls: true, authenticate: ['keys', 'sso'], sessions: { login_with: ['keys'] } } },
    top: {
      admin: { bind: '127.0.0.1:0' },
      audit: {
        dir: 'log',
        deliver: {
          url: collector.url,
          token: { file: 'collector.token' },
          ca: 'collector-ca.pem',
          batch: { interval: '100ms' },
        },
      },
    },
  });
  const web = guard.target('web');
  const bearer = (key: typeof first): OutgoingHttpHeaders => {
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: 'i', aud: 'q', sub: key.kid, roles: ['operator'], iat: now, exp: now + 3600 };
    return { authorization: `Bearer ${makeToken({ alg: 'ES256', kid: key.kid }, claims, key.privateKey)}` };
  };
  const session = async (token: string): Promise<OutgoingHttpHeaders> => {
    const answer = await request(web, { method: 'POST', path: '/.guardbee/login', token });
    const cookie = answer.header('set-cookie')?.split(';')[0];
    assert.ok(cookie !== undefined, String(answer.status));
    return { cookie };
  };
  const shared = await h2Connect(web);
  const one = await RawConnection.connect(web);
  const cookies = { leaver: await session(leaver.token), keeper: await session(guard.token) };
  one.write(requestBytes(web, { path: '/events', headers: [['Cookie', String(cookies.leaver['cookie'])]] }));
  assert.match(await one.readEvent(), /ready/);
  const gone: Stream[] = [
    await streamOf(shared, bearer(first)),
    await streamOf(shared, cookies.leaver),
    await streamOf(shared, { authorization: `Bearer ${leaver.token}` }),
    { ended: () => one.ended !== null },
  ];
  const stay: Stream[] = [
    await streamOf(shared, bearer(second)),
    await streamOf(shared, cookies.keeper),
    await streamOf(shared, { authorization: `Bearer ${guard.token}` }),
  ];
  const oldAdmin = await adminOf(guard);
  await waitUntil(() => shown.includes(`Bearer ${good[0]}`), 'the collector to be asked');

  writeFileIn(guard.directory, 'keys.json', keySet(second), 0o644);
  writeFileIn(guard.directory, 'collector.token', good[1]);
  rewrite(guard, (policy) => {
    const keys = policy['authenticators']?.['keys'];
    assert.ok(keys !== undefined);
    keys['tokens'] = (keys['tokens'] as unknown as { name: string }[]).filter(({ name }) => name !== 'leaver');
    policy['admin'] = { bind: `127.0.0.1:${String(adminPort)}` } as never;
  });
  const line = await hangUp(guard);
  assert.equal(line['event.name'], 'policy.reloaded', JSON.stringify(line));
  assert.match(String(line['msg']), /-key |collector of the audit trail exchanged/);

  await t.test('callers', async () => {
    assert.equal(line['guardbee.exchanges_refused'], gone.length);
    for (const stream of gone) await waitUntil(() => stream.ended(), 'a stream to end');
    assert.deepEqual(
      stay.map((stream) => stream.ended()),
      [false, false, false],
    );
    const status = async (headers: OutgoingHttpHeaders): Promise<number> =>
      (await h2Request(shared, { ':path': '/thing', ...headers })).status;
    assert.deepEqual(
      [await status(bearer(first)), await status(bearer(second)), await status(cookies.leaver)],
      [401, 200, 401],
    );
    assert.equal(await status(cookies.keeper), 200, 'the connection of all of them goes on');
  });

  await t.test('admin pages', async () => {
    assert.equal((await request({ port: adminPort }, { path: '/readyz' })).status, 200);
    await waitUntil(async () => {
      try {
        (await RawConnection.connect(oldAdmin)).close();
        return false;
      } catch {
        return true;
      }
    }, 'the former address to be free');
  });

  await t.test('the collector is shown what there is now, at once', async () => {
    await waitUntil(() => shown.includes(`Bearer ${good[1]}`), 'the new token to be shown');
    await collector.untilHas(1);
    const from = shown.lastIndexOf(`Bearer ${good[0]}`);
    await request(web, { path: '/thing' });
    await waitUntil(() => shown.length > from + 2, 'another batch');
    assert.equal(shown.lastIndexOf(`Bearer ${good[0]}`), from);
  });
  shared.destroy();
  one.close();
});
