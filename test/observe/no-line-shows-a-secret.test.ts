/** Canaries: a secret is put wherever one can get into a line, and looked for in everything that was written. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import type { ExchangeRecord } from '../../src/exchange-record.js';
import { AccessRecorder } from '../../src/observe/record.js';
import { type Printable, Redactor } from '../../src/observe/redact.js';
import { Secret } from '../../src/secret/secret.js';
import { EXCHANGE, route } from './exchange-fixture.js';
import { redactorThatKnows } from './known-tokens.js';
import { linesOf } from './log-file.js';

/** A token of the policy that looks like nothing; one of ours; one nobody knows; a password. */
const KNOWN = 'tulip-mania-of-1637';
const CANARIES = [KNOWN, 'gbee_Zq3v8Xw1LmN5bR7tY2cK4dF6', 'hK9vQ2xLmZ80aVtR4kPwQ7', 'Bearer s3cr3t-value!'] as const;
const redactor = redactorThatKnows(KNOWN);

function assertHidden(lines: readonly string[], canary: string, where: string): void {
  const secret = canary.replace('Bearer ', '');
  const all = lines.join('\n');
  assert.ok(lines.length > 0, where);
  assert.ok(!all.includes(secret), `${where}: ${all}`);
  assert.ok(!decodeURIComponent(all.replaceAll(/%(?![0-9A-Fa-f]{2})/g, '')).includes(secret), `${where}: ${all}`);
}

describe('in the line of an exchange', () => {
  const positions: Readonly<Record<string, (canary: string) => Partial<ExchangeRecord>>> = {
    'the path': (canary) => ({ path: `/v1/${canary}/x` }),
    'the path, encoded': (canary) => ({ path: `/v1/${encodeURIComponent(canary)}` }),
    'the path, every letter encoded': (canary) => ({
      path: `/${[...canary].map((letter) => `%${letter.charCodeAt(0).toString(16)}`).join('')}`,
    }),
    'a path parameter': (canary) => ({ path: `/v1/jobs;token=${canary}` }),
    'a query value': (canary) => ({ query: `q=${canary}` }),
    'a query name': (canary) => ({ query: `${canary}=1` }),
    'a query without names': (canary) => ({ query: canary }),
    'the host': (canary) => ({ host: canary }),
    'the user of a host': (canary) => ({ host: `bob:${canary}@queen.lan` }),
    'the user agent': (canary) => ({ userAgent: `curl ${canary}` }),
    'the method': (canary) => ({ method: canary }),
    'the client': (canary) => ({ client: canary }),
    'the peer': (canary) => ({ peer: canary }),
    'the request id': (canary) => ({ requestId: canary }),
    'the fingerprint': (canary) => ({ credentialFingerprint: canary }),
    'the name of an identity': (canary) => ({ identity: { ...EXCHANGE.identity!, name: canary, roles: [canary] } }),
  };
  for (const [where, change] of Object.entries(positions)) {
    test(where, async () => {
      for (const canary of CANARIES) {
        for (const format of ['json', 'text'] as const) {
          const lines = await linesOf(
            redactor,
            (log) => {
              const recorder = new AccessRecorder(log, redactor);
              // Twice: what is remembered must be the clean form.
              for (let time = 0; time < 2; time++) recorder.record({ ...EXCHANGE, ...change(canary) });
            },
            { format },
          );
          assertHidden(lines, canary, `${where}, ${format}`);
        }
      }
    });
  }
});

test('what became a secret with a reload is one from then on', async () => {
  let known = false;
  const later = new Redactor({ knowsDigest: () => known });
  const record = { ...EXCHANGE, route: route('any'), path: '/V1/some-name-of-a-model' };
  const lines = await linesOf(later, (log) => {
    const recorder = new AccessRecorder(log, later);
    recorder.record(record);
    known = true;
    later.digestsChanged();
    recorder.record(record);
  });
  assert.match(lines[0] ?? '', /some-name-of-a-model/);
  assert.doesNotMatch(lines[1] ?? '', /some-name-of-a-model/);
});

describe('in the line of an event', () => {
  const careless = (text: string): Printable => text as Printable;

  test('the message, a field, the name of a field', async () => {
    for (const canary of CANARIES) {
      for (const format of ['json', 'text'] as const) {
        const lines = await linesOf(
          redactor,
          (log) => {
            for (const level of ['trace', 'debug', 'info', 'warn', 'error'] as const) {
              log[level]('test', `said ${canary} twice: ${canary}`);
              log[level]('test', 'a field', { 'guardbee.value': careless(canary), n: 1 });
              log[level]('test', 'the name of a field', { [canary]: 1 });
            }
          },
          { format },
        );
        assertHidden(lines, canary, format);
        assert.equal(lines.length, 15);
      }
    }
  });

  test('an error: its message, its cause, its stack, whatever hangs on it', async () => {
    for (const canary of CANARIES) {
      const cause = new TypeError(`invalid value ${canary}`);
      const error = Object.assign(new Error(`cannot use ${canary}`, { cause }), {
        payload: { sub: canary },
        headers: { authorization: `Bearer ${canary}` },
        name: canary,
      });
      const odd = {
        get message(): string {
          throw new Error(canary);
        },
      };
      const lines = await linesOf(redactor, (log) => {
        for (const thrown of [
          error,
          new AggregateError([error], canary),
          canary,
          odd,
          null,
          undefined,
          7,
          { code: canary },
        ]) {
          log.error('test', 'something broke', log.errorFields(thrown));
        }
      });
      assertHidden(lines, canary, 'error');
      assert.equal(lines.length, 8);
      assert.doesNotMatch(lines.join('\n'), /\bat .*\.(?:js|ts):\d+|stack|payload|headers/);
    }
  });

  test('a secret that was printed by mistake', async () => {
    const secret = Secret.fromText(KNOWN);
    const holder = { key: secret, list: [secret], map: new Map([['k', secret]]) };
    const lines = await linesOf(redactor, (log) => {
      log.info('test', `template ${String(secret)} ${JSON.stringify(holder)}`);
      log.info('test', inspect(holder, { depth: 9, showHidden: true }));
      log.info('test', inspect(new Error('x', { cause: holder }), { depth: 9 }));
    });
    assertHidden(lines, KNOWN, 'Secret');
  });
});
