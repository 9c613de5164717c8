/**
 * A connection has outlived the authorities and lists of its handshake. What is then said of its certificate without
 * asking OpenSSL is held against what OpenSSL says when it is asked.
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { type TLSSocket, connect, createSecureContext, createServer } from 'node:tls';
import {
  type ClientAuthority,
  authorities,
  judgeClientAuthority,
  wouldVouch,
} from '../../src/policy/client-authority.js';
import { clientCertificateOptions } from '../../src/server/client-certificate.js';
import { testCertificates } from '../support/certificates.js';
import { requireComponent } from '../support/component.js';
import { OpensslAuthority, type OpensslPair, certificatesOf } from '../support/openssl-authority.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';

interface Sent {
  readonly pem: string;
  readonly key: string;
}

function authority(ca: string, ...lists: readonly string[]): ClientAuthority {
  const crl = lists.length === 0 ? null : Buffer.from(lists.map((file) => readFileSync(file, 'utf8')).join(''));
  const { authority: made, problems } = judgeClientAuthority(Buffer.from(ca), crl, Date.now());
  assert.ok(made !== null, JSON.stringify(problems));
  return { ...made, caFile: '', crlFile: null };
}

/** What OpenSSL says of it in a handshake. */
async function saysOpenssl(by: ClientAuthority, { pem, key }: Sent): Promise<boolean> {
  const { server: pair } = await testCertificates();
  // Only the authority of it is asked for.
  const options = clientCertificateOptions({ authority: by } as Parameters<typeof clientCertificateOptions>[0], 0);
  const context = createSecureContext({ ...pair, ...options });
  const server = createServer({
    ...pair,
    // Node leaves `allowPartialTrustChain` out of the context that it makes itself for a server.
    SNICallback: (_name, callback) => {
      callback(null, context);
    },
    requestCert: true,
    rejectUnauthorized: false,
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect({
    port,
    host: '127.0.0.1',
    servername: 'localhost',
    cert: pem,
    key,
    rejectUnauthorized: false,
  });
  client.on('error', () => undefined);
  try {
    const [socket] = (await once(server, 'secureConnection')) as [TLSSocket];
    return socket.authorized;
  } finally {
    client.destroy();
    server.close();
  }
}

function chain({ pem }: Sent): X509Certificate[] {
  return pem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g)?.map((one) => new X509Certificate(one)) ?? [];
}

test('by the lists and authorities of now', async (t) => {
  const openssl = requireComponent('openssl', t);
  if (openssl === null) return;
  using folder = new TemporaryDirectory();
  const nodes = OpensslAuthority.root(openssl, folder.file('nodes'));
  const others = OpensslAuthority.root(openssl, folder.file('others'), 'others');
  // Another key under the same name, as after a loss of the first.
  const namesake = OpensslAuthority.root(openssl, folder.file('namesake'));
  const below = nodes.intermediate('below');
  const sent = (pair: OpensslPair, ...above: readonly OpensslAuthority[]): Sent => ({
    pem: certificatesOf(pair, ...above),
    key: readFileSync(pair.key, 'utf8'),
  });
  const [direct, gone] = [nodes.issue('direct'), nodes.issue('gone')];
  const [deep, deepGone] = [below.issue('deep'), below.issue('deep-gone')];
  const ca = certificatesOf(nodes);
  const both = certificatesOf(nodes, below);
  const bare = nodes.revoke([], 86_400, 'bare.crl');
  const belowBare = below.revoke([], 86_400, 'bare.crl');
  const belowList = below.revoke([deepGone], 86_400, 'list.crl');
  const users = nodes.revoke([], 86_400, 'users.crl', 'users');
  const list = nodes.revoke([gone], 86_400, 'list.crl');
  const withBelow = nodes.revoke([below], 86_400, 'with-below.crl');
  const namesakeBare = namesake.revoke([], 86_400, 'bare.crl');
  const BEFORE = authority(ca);
  const BEFORE_LISTED = authority(ca, bare);
  const BEFORE_BOTH = authority(both, bare, belowBare);

  const rows: readonly (readonly [
    what: string,
    shown: Sent,
    before: ClientAuthority,
    now: ClientAuthority,
    said: boolean,
  ])[] = [
    ['a fresh list without it', sent(direct), BEFORE_LISTED, authority(ca, list), true],
    ['a fresh list with it', sent(gone), BEFORE_LISTED, authority(ca, list), false],
    ['a first list without it', sent(direct), BEFORE, authority(ca, list), true],
    ['no list any more', sent(direct), BEFORE_LISTED, BEFORE, true],
    ['another authority beside', sent(direct), BEFORE, authority(certificatesOf(nodes, others)), true],
    [
      'the same two in another order',
      sent(direct),
      authority(certificatesOf(nodes, others)),
      authority(certificatesOf(others, nodes)),
      true,
    ],
    ['another authority instead', sent(direct), BEFORE, authority(certificatesOf(others)), false],
    ['a namesake instead', sent(direct), BEFORE, authority(certificatesOf(namesake)), false],
    ['a namesake beside', sent(direct), BEFORE, authority(certificatesOf(namesake, nodes)), true],
    [
      'a namesake beside, each with its list',
      sent(direct),
      BEFORE,
      authority(certificatesOf(namesake, nodes), namesakeBare, list),
      false,
    ],
    [
      'another authority beside, which has no list',
      sent(direct),
      BEFORE,
      authority(certificatesOf(nodes, others), list),
      true,
    ],
    ['a list of users alone', sent(direct), BEFORE_LISTED, authority(ca, users), false],
    ['one below, and lists of both', sent(deep, below), BEFORE_BOTH, authority(both, list, belowList), true],
    ['one below that was sent, and lists of both', sent(deep, below), BEFORE, authority(both, list, belowList), true],
    ['one below that is no longer told, and was sent', sent(deep, below), BEFORE_BOTH, BEFORE, true],
    ['one below that is no longer told, and was not sent', sent(deep), BEFORE_BOTH, BEFORE, false],
    ['one below whose list has it', sent(deepGone, below), BEFORE_BOTH, authority(both, list, belowList), false],
    ['one below that has no list', sent(deep, below), BEFORE, authority(ca, list), false],
    ['one below that is itself revoked', sent(deep, below), BEFORE_BOTH, authority(both, withBelow, belowBare), false],
    ['one below that is trusted by itself', sent(deep), BEFORE_BOTH, authority(certificatesOf(below)), true],
    ['more than it needs is sent', sent(direct, others, below), BEFORE_LISTED, authority(ca, list), true],
  ];
  for (const [what, shown, before, now, said] of rows) {
    await t.test(what, async () => {
      assert.equal(await saysOpenssl(before, shown), true, 'it was let in');
      assert.equal(wouldVouch(now, chain(shown), authorities(before)), said);
      assert.equal(await saysOpenssl(now, shown), said, 'and OpenSSL says so, too');
    });
  }
});
