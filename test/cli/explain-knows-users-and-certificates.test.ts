import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashSync } from 'bcryptjs';
import { TestAuthority, writeKeyPair } from '../support/certificates.js';
import { writeFileIn, writePolicy } from '../support/policy-builder.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { perform } from './in-process.js';

test('--as takes names of certificates and users; guardbee itself answers below /.guardbee/', async (t) => {
  const dir = new TemporaryDirectory(t);
  const authority = await TestAuthority.create();
  writeFileIn(dir, 'ca.pem', authority.ca, 0o644);
  writeKeyPair(dir, await authority.issue());
  writeFileIn(dir, 'users.htpasswd', `anna:${hashSync('x', 4)}\n`);
  const policy = writePolicy(
    dir,
    `version: 1
listeners:
  main:
    bind: 127.0.0.1:7833
    tls: { cert: server.crt, key: server.key }
    upstream: http://127.0.0.1:17833
    authenticate: [people]
    sessions: { login_with: [people] }
    routes:
      - { name: report, path: /report, methods: [POST], authenticate: [nodes], require: report }
      - { name: rest, path: /**, methods: [GET], require: read }
authenticators:
  people: { type: basic, htpasswd_file: users.htpasswd, roles: [viewer] }
  nodes: { type: mtls, ca: ca.pem, identities: [{ san: "DNS:hive-1.lan", name: hive-1, roles: [node] }] }
roles: { node: [report], viewer: [read] }
`,
  );
  const explain = async (...args: string[]): Promise<string> => {
    const { code, stdout, stderr } = await perform('explain', ...args, '--policy', policy);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  assert.match(await explain('POST', '/report', '--as', 'hive-1'), /^allowed[^]*certificate "hive-1" has report/);
  assert.match(await explain('GET', '/x', '--as', 'anna'), /^allowed[^]*user "anna" has read/);
  assert.match(
    await explain('POST', '/report', '--as', 'anna'),
    /^refused: 401 credential_invalid[^]*user "anna" is of another authenticator/,
  );
  assert.match(await explain('GET', '/.guardbee/login'), /guardbee itself answers there/);
  const nobody = await perform('explain', 'GET', '/x', '--as', 'ana', '--policy', policy);
  assert.equal(nobody.code, 2);
  assert.match(nobody.stderr, /there is no token, user or certificate "ana", did you mean anna\?/);
});
