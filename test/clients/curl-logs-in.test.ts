import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test, type TestContext } from 'node:test';
import { requireComponent } from '../support/component.js';
import { assertUntouched, startGuard, type Guard } from '../support/guard.js';
import { writeFileIn } from '../support/policy-builder.js';
import { runCommand, type CommandResult } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond, type EchoedRequest } from '../support/recording-upstream.js';

const PASSWORDS: Readonly<Record<string, string>> = {
  alice: `correct horse ${randomBytes(8).toString('hex')}`,
  'zo\u00eb': `gr\u00fc\u00dfe:\u{1f41d}:${randomBytes(4).toString('hex')}`,
  long: 'x'.repeat(72),
};

/** Passwords are given to Apache's htpasswd and to curl; the hashes are what Apache makes of them. */
describe('curl -u, with a file made by htpasswd -B', () => {
  let upstream: RecordingUpstream;
  let guard: Guard | null = null;
  let hashes: readonly string[] = [];
  let ca = '';

  before(async (t) => {
    upstream = await RecordingUpstream.start({ respond: respond.echo() });
    const htpasswd = requireComponent('htpasswd', t as TestContext);
    if (htpasswd === null) return;
    const lines: string[] = ['# users of the dashboard', ''];
    for (const [name, password] of Object.entries(PASSWORDS)) {
      const made = await runCommand(htpasswd, ['-niB', '-C', '5', name], { input: password });
      assert.equal(made.code, 0, made.stderr);
      lines.push(made.stdout.trim());
    }
    hashes = lines.filter((line) => line.includes(':')).map((line) => line.slice(line.indexOf(':') + 1));
    guard = await startGuard({
      upstream: upstream.url,
      listener: { authenticate: ['dashboard', 'keys'] },
      authenticators: {
        dashboard: {
          type: 'basic',
          realm: 'the hive',
          htpasswd_file: 'users.htpasswd',
          roles: ['viewer'],
          users: [{ name: 'alice', roles: ['operator'] }],
        },
      },
      top: { log: { level: 'trace', format: 'json' } },
      prepare: (directory) => {
        // As an editor on another system leaves it.
        writeFileIn(directory, 'users.htpasswd', `${lines.join('\r\n')}\r\n`);
      },
    });
    ca = writeFileIn(guard.directory, 'ca.pem', guard.ca, 0o644);
  });

  after(async () => {
    await guard?.[Symbol.asyncDispose]();
    await upstream.close();
  });

  const curl = async (t: TestContext, guardee: Guard, ...args: readonly string[]): Promise<CommandResult | null> => {
    const path = requireComponent('curl', t);
    const url = `https://localhost:${String(guardee.secure.port)}/x`;
    return path === null
      ? null
      : await runCommand(path, ['-q', '-sS', '--max-time', '20', '--cacert', ca, '-w', '\n%{http_code}', ...args, url]);
  };

  const statusOf = (result: CommandResult): string => result.stdout.slice(result.stdout.lastIndexOf('\n') + 1);

  for (const version of ['--http1.1', '--http2']) {
    for (const [name, password] of Object.entries(PASSWORDS)) {
      test(`${version}: ${name} is let in, and the upstream hears the name and no password`, async (t) => {
        if (guard === null) return;
        const result = await curl(t, guard, version, '-u', `${name}:${password}`);
        if (result === null) return;
        assert.equal(statusOf(result), '200', result.stdout + result.stderr);
        const echoed = JSON.parse(result.stdout.slice(0, result.stdout.lastIndexOf('\n'))) as EchoedRequest;
        const fields = new Map(echoed.headers);
        assert.equal(fields.has('authorization'), false);
        assert.equal(Buffer.from(fields.get('x-auth-user') ?? '', 'latin1').toString('utf8'), name);
        assert.equal(fields.get('x-auth-roles'), name === 'alice' ? 'operator' : 'viewer');
      });
    }

    test(`${version}: whoever shows anything else is not, and is told of both ways in`, async (t) => {
      if (guard === null) return;
      const right = PASSWORDS['alice'] ?? '';
      for (const [user, status] of [
        ['alice:wrong', '401'],
        [`alice:${right} `, '401'],
        [`alice: ${right}`, '401'],
        [`Alice:${right}`, '401'],
        [`bob:${right}`, '401'],
        ['alice:', '401'],
        [`:${right}`, '401'],
        [`alice\u0001:${right}`, '401'],
        // bcrypt would not see the last letter.
        [`long:${'x'.repeat(73)}`, '401'],
        [`long:${'x'.repeat(71)}`, '401'],
      ] as const) {
        const result = await curl(t, guard, version, '-i', '-u', user);
        if (result === null) return;
        assert.equal(statusOf(result), status, user);
        assert.match(result.stdout, /^www-authenticate: Bearer realm="guardbee", error="invalid_token"\r$/im);
        assert.match(result.stdout, /^www-authenticate: Basic realm="the hive", charset="UTF-8"\r$/im);
      }
      const nobody = await curl(t, guard, version, '-i');
      assert.ok(nobody !== null);
      assert.equal(statusOf(nobody), '401');
      assert.match(nobody.stdout, /^www-authenticate: Bearer realm="guardbee"\r$/im);
      assert.match(nobody.stdout, /^www-authenticate: Basic realm="the hive", charset="UTF-8"\r$/im);
    });
  }

  test('a viewer may not write, and a page of another site may not make anybody write', async (t) => {
    if (guard === null) return;
    const viewer = await curl(t, guard, '-X', 'POST', '-u', `long:${PASSWORDS['long'] ?? ''}`);
    if (viewer === null) return;
    assert.equal(statusOf(viewer), '403');
    const login = ['-X', 'POST', '-u', `alice:${PASSWORDS['alice'] ?? ''}`];
    const own = await curl(t, guard, ...login);
    assert.ok(own !== null);
    assert.equal(statusOf(own), '200');
    const foreign = await curl(t, guard, ...login, '-H', 'Origin: https://elsewhere.example');
    assert.ok(foreign !== null);
    assert.equal(statusOf(foreign), '403');
  });

  test('what is no name and password is 400, and the upstream hears nothing of it', async (t) => {
    if (guard === null) {
      requireComponent('htpasswd', t);
      return;
    }
    await using quiet = await RecordingUpstream.start({ respond: respond.echo() });
    await using other = await startGuard({
      upstream: quiet.url,
      listener: { authenticate: ['dashboard'] },
      authenticators: { dashboard: { type: 'basic', htpasswd_file: 'users.htpasswd', roles: ['operator'] } },
      prepare: (directory) => {
        writeFileIn(directory, 'users.htpasswd', `alice:${hashes[0] ?? ''}\n`);
      },
    });
    const pair = Buffer.from(`alice:${PASSWORDS['alice'] ?? ''}`).toString('base64');
    for (const [value, status] of [
      ['Basic', 400],
      ['Basic %%%', 400],
      [`Basic ${Buffer.from('alice').toString('base64')}`, 400],
      [`Basic ${pair} x`, 400],
      [`Basic ${pair}=`, 400],
      [`Bearer ${pair}`, 401],
      [`Digest ${pair}`, 401],
    ] as const) {
      const answer = await request(other.plain, { headers: [['Authorization', value]] });
      assert.equal(answer.status, status, value.slice(0, 12));
    }
    assertUntouched(quiet);
    const answer = await request(other.plain, { headers: [['Authorization', `basic ${pair}`]] });
    assert.equal(answer.status, 200);
  });

  test('no log at trace tells a password or a hash', () => {
    if (guard === null) return;
    const text = guard.process.logLines.map((line) => JSON.stringify(line)).join('\n');
    assert.match(text, /"guardbee\.identity":"zo\u00eb"/);
    for (const secret of [...Object.values(PASSWORDS), ...hashes]) {
      assert.equal(text.includes(secret), false);
      assert.equal(text.includes(Buffer.from(secret).toString('base64').slice(0, 20)), false);
    }
  });
});
