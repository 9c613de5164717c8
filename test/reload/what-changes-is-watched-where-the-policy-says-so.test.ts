/** `watch: true`, as whoever changes files meets it: no signal, no command. */
import assert from 'node:assert/strict';
import { mkdirSync, renameSync, symlinkSync, unlinkSync } from 'node:fs';
import type { TLSSocket } from 'node:tls';
import { test } from 'node:test';
import { TestAuthority, testCertificates } from '../support/certificates.js';
import { type Guard, startGuard } from '../support/guard.js';
import { type TokenPair, tokenPair, writeFileIn, writeTokens } from '../support/policy-builder.js';
import type { LogLine } from '../support/process.js';
import { RawConnection, type Target, request } from '../support/raw-client.js';
import { RecordingUpstream } from '../support/recording-upstream.js';
import { adminOf, ends, hangUp, nextEnd, rewrite } from './reloading-guard.js';

const PATIENCE_MS = 30_000;

async function isLetIn(guard: Guard, { token }: Pick<TokenPair, 'token'>): Promise<boolean> {
  return (await request(guard.plain, { path: '/thing', token })).status === 200;
}

async function shows(target: Target, cert: string, ca: string): Promise<boolean> {
  using connection = await RawConnection.connect({ ...target, tls: { ca } }).catch(() => null);
  const shown = (connection?.socket as TLSSocket | undefined)?.getPeerX509Certificate();
  return shown !== undefined && cert.includes(shown.toString().trim());
}

test(
  'changes of the policy and of all kinds of files are taken over by themselves',
  { timeout: 240_000 },
  async (t) => {
    await using upstream = await RecordingUpstream.start();
    const { ca, server } = await testCertificates();
    const authority = await TestAuthority.create();
    const [first, second] = [tokenPair(), tokenPair()];
    const secret = ['0123456789abcdef-one', '0123456789abcdef-two'] as const;
    await using guard = await startGuard({
      upstream: upstream.url,
      prepare: (directory) => {
        writeTokens(directory, [{ name: 'first', sha256: first.sha256, roles: ['operator'] }]);
        writeFileIn(directory, 'secret', secret[0]);
        // As certbot has it.
        for (const [nth, pair] of [server, server].entries()) {
          writeFileIn(directory, `archive/fullchain${String(nth + 1)}.pem`, pair.cert, 0o644);
          writeFileIn(directory, `archive/privkey${String(nth + 1)}.pem`, pair.key);
        }
        mkdirSync(directory.file('live'), { mode: 0o700 });
        for (const name of ['fullchain', 'privkey'])
          symlinkSync(`../archive/${name}1.pem`, directory.file('live', `${name}.pem`));
        // As Kubernetes has it.
        writeFileIn(directory, 'mounted/..1/tls.crt', server.cert, 0o644);
        writeFileIn(directory, 'mounted/..1/tls.key', server.key);
        symlinkSync('..1', directory.file('mounted', '..data'));
        for (const name of ['tls.crt', 'tls.key']) symlinkSync(`..data/${name}`, directory.file('mounted', name));
      },
      authenticators: {
        keys: { carriers: ['authorization'], tokens_file: 'tokens.yaml' },
        others: {
          type: 'bearer',
          carriers: ['x_api_key'],
          tokens: [{ name: 'app', roles: ['operator'], token: { file: 'secret' } }],
        },
      },
      listener: { authenticate: ['keys', 'others'] },
      listeners: {
        certbot: { tls: { cert: 'live/fullchain.pem', key: 'live/privkey.pem' } },
        kubernetes: { tls: { cert: 'mounted/tls.crt', key: 'mounted/tls.key' } },
      },
      top: { watch: true, admin: { bind: '127.0.0.1:0' }, log: { level: 'debug' } },
    });
    const { directory } = guard;
    const admin = await adminOf(guard);
    const metric = async (result: string): Promise<number> => {
      const { text } = await request(admin, { path: '/metrics' }).then((answer) => ({ text: answer.text() }));
      return Number(new RegExp(`^guardbee_reloads_total\\{result="${result}"\\} (\\d+)$`, 'm').exec(text)?.[1] ?? NaN);
    };
    const takenOver = async (change: () => void): Promise<LogLine> => {
      const line = nextEnd(guard, PATIENCE_MS);
      change();
      const said = await line;
      assert.equal(said['event.name'], 'policy.reloaded', JSON.stringify(said));
      return said;
    };

    await t.test('tokens that are written in place', async () => {
      await takenOver(() => {
        writeTokens(directory, [{ name: 'second', sha256: second.sha256, roles: ['operator'] }]);
      });
      assert.deepEqual([await isLetIn(guard, first), await isLetIn(guard, second)], [false, true]);
    });

    await t.test('a policy that is renamed over', async () => {
      await takenOver(() => {
        rewrite(
          guard,
          ({ listeners }) => {
            for (const listener of Object.values(listeners ?? {}))
              listener['routes'] = [{ name: 'closed', path: '/**', methods: 'any', deny: true }] as never;
          },
          'policy.yaml.new',
        );
        renameSync(directory.file('policy.yaml.new'), guard.policyFile);
      });
      assert.equal(await isLetIn(guard, second), false);
      await takenOver(() => {
        rewrite(guard, ({ listeners }) => {
          for (const listener of Object.values(listeners ?? {}))
            listener['routes'] = [{ name: 'open', path: '/**', methods: 'any', require: 'read' }] as never;
        });
      });
      assert.equal(await isLetIn(guard, second), true);
    });

    await t.test('a secret that the policy names', async () => {
      const asked = async (token: string): Promise<number> =>
        (await request(guard.plain, { path: '/thing', headers: [['X-API-Key', token]] })).status;
      await takenOver(() => {
        writeFileIn(directory, 'secret', secret[1]);
      });
      assert.deepEqual([await asked(secret[0]), await asked(secret[1])], [401, 200]);
    });

    await t.test('certificates behind links', async () => {
      const [renewed, mounted] = [await authority.issue(), await authority.issue()];
      const certbot = guard.target('certbot');
      const kubernetes = guard.target('kubernetes');
      assert.ok(await shows(certbot, server.cert, ca));
      await takenOver(() => {
        writeFileIn(directory, 'archive/fullchain2.pem', renewed.cert, 0o644);
        writeFileIn(directory, 'archive/privkey2.pem', renewed.key);
        for (const name of ['fullchain', 'privkey']) {
          unlinkSync(directory.file('live', `${name}.pem`));
          symlinkSync(`../archive/${name}2.pem`, directory.file('live', `${name}.pem`));
        }
        writeFileIn(directory, 'mounted/..2/tls.crt', mounted.cert, 0o644);
        writeFileIn(directory, 'mounted/..2/tls.key', mounted.key);
        symlinkSync('..2', directory.file('mounted', '..data_tmp'));
        renameSync(directory.file('mounted', '..data_tmp'), directory.file('mounted', '..data'));
      });
      assert.ok(await shows(certbot, renewed.cert, authority.ca));
      assert.ok(await shows(kubernetes, mounted.cert, authority.ca));
    });

    await t.test('a certificate whose key comes later is not spoken of', async () => {
      const renewed = await authority.issue();
      const failed = await metric('failed');
      const line = nextEnd(guard, PATIENCE_MS);
      writeFileIn(directory, 'server.crt', renewed.cert, 0o644);
      await guard.process.waitForLog((one) => one['event.name'] === 'policy.reload_waits', PATIENCE_MS);
      writeFileIn(directory, 'server.key', renewed.key);
      assert.equal((await line)['event.name'], 'policy.reloaded');
      assert.ok(await shows(guard.secure, renewed.cert, authority.ca));
      assert.equal(await metric('failed'), failed);
    });

    await t.test('what stays broken is said once, and what was is served', async () => {
      const failed = await metric('failed');
      const line = nextEnd(guard, PATIENCE_MS);
      writeTokens(directory, [{ name: 'second', sha256: 'none', roles: ['operator'] }]);
      assert.equal((await line)['event.name'], 'policy.reload_failed');
      assert.equal(await metric('failed'), failed + 1);
      assert.match((await request(admin, { path: '/readyz' })).text(), /the last reload failed: /);
      assert.equal(await isLetIn(guard, second), true);
      await takenOver(() => {
        writeTokens(directory, [{ name: 'second', sha256: second.sha256, roles: ['operator'] }]);
      });
      assert.match((await request(admin, { path: '/readyz' })).text(), /"policy": \{\s*"status": "ok"/);
    });

    await t.test(
      'a signal at the same moment is no second change; watching ends and begins by the policy',
      async () => {
        const before = ends(guard).length;
        writeTokens(directory, [{ name: 'first', sha256: first.sha256, roles: ['operator'] }]);
        assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
        await takenOver(() => {
          rewrite(guard, (policy) => {
            policy['watch'] = false as never;
          });
        });
        assert.equal(ends(guard).length, before + 2);
        writeTokens(directory, [{ name: 'second', sha256: second.sha256, roles: ['operator'] }]);
        rewrite(guard, (policy) => {
          policy['watch'] = true as never;
        });
        assert.equal(await isLetIn(guard, first), true);
        assert.equal((await hangUp(guard))['event.name'], 'policy.reloaded');
        assert.equal(await isLetIn(guard, second), true);
        await takenOver(() => {
          writeTokens(directory, [{ name: 'first', sha256: first.sha256, roles: ['operator'] }]);
        });
        assert.equal(await isLetIn(guard, first), true);
        assert.equal(ends(guard).length, before + 4);
      },
    );
  },
);
