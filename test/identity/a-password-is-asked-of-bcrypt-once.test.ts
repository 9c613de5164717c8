import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BasicProver, type PasswordQuestion, readUserAndPassword } from '../../src/identity/basic.js';
import { Credential } from '../../src/identity/credential.js';
import type { Proof } from '../../src/identity/provers.js';
import type { BasicAuthenticator } from '../../src/policy/policy.js';
import { Secret } from '../../src/secret/secret.js';
import { NOW } from '../gate/listeners.js';

const encode = (text: string | Buffer): string => Buffer.from(text).toString('base64');
const shown = (name: string, password: string): Credential => new Credential('basic', encode(`${name}:${password}`));

/** Users whose hash is their password with a cost before it. */
function usersOf(users: Readonly<Record<string, { password: string; cost: number }>>): BasicAuthenticator {
  return {
    type: 'basic',
    name: 'dashboard',
    realm: 'guardbee',
    carriers: new Set(['basic']),
    users: new Map(
      Object.entries(users).map(([name, { password, cost }]) => [
        name,
        {
          hash: Secret.fromText(`$2b$${String(cost).padStart(2, '0')}$${password}`),
          cost,
          holder: { name, roles: ['viewer'], grants: new Set(['viewer', 'read']) },
        },
      ]),
    ),
  };
}

const DASHBOARD = usersOf({
  alice: { password: 'right', cost: 12 },
  'zo\u00eb': { password: 'p\u00e4ss:w\u00f6rd', cost: 10 },
});

class Bcrypt {
  readonly asked: PasswordQuestion[] = [];
  answer: (question: PasswordQuestion) => boolean | null = ({ hash, password }) => hash.slice(7) === password;
  readonly check = async (question: PasswordQuestion): Promise<boolean | null> => {
    this.asked.push(question);
    await Promise.resolve();
    return this.answer(question);
  };
}

describe('what a Basic credential says', () => {
  test('a name, and a password that may hold colons, in UTF-8', () => {
    for (const [name, password] of [
      ['alice', 'right'],
      ['alice', ':a:b:'],
      ['zo\u00eb', 'gr\u00fc\u00dfe \u{1f41d}'],
      ['a b', ' '],
      ['', 'x'],
    ] as const) {
      assert.deepEqual(readUserAndPassword(encode(`${name}:${password}`)), { ok: true, name, password });
    }
  });

  test('a name is the same however its letters are composed, a password is what it is', () => {
    const read = readUserAndPassword(encode('zoe\u0308:e\u0308'));
    assert.deepEqual(read, { ok: true, name: 'zo\u00eb', password: 'e\u0308' });
  });

  test('what is not strictly base64 of two texts is malformed', () => {
    for (const text of ['YTpi=', 'YTp', 'YTpi\n', '-_-_', 'YTpiYw', 'YTpiYx==', 'YWxpY2U=', '=', '', encode('alice')]) {
      assert.deepEqual(readUserAndPassword(text), { ok: false, reason: 'credential_malformed' }, text);
    }
  });

  test('what no password can be is a wrong one', () => {
    const wrong = { ok: false, reason: 'credential_invalid' };
    for (const text of [
      'a:',
      'a:b\0c',
      'a:b\nc',
      'a\tb:c',
      'a:\u0085',
      `a:${'x'.repeat(73)}`,
      `a:${'\u00e4'.repeat(37)}`,
    ]) {
      assert.deepEqual(readUserAndPassword(encode(text)), wrong, JSON.stringify(text));
    }
    assert.deepEqual(readUserAndPassword(encode(Buffer.from([0x61, 0x3a, 0xff]))), wrong);
    assert.deepEqual(readUserAndPassword(encode(Buffer.from([0xc3, 0x3a, 0x61]))), wrong);
  });

  test('72 bytes are all that bcrypt looks at, and all that is taken', () => {
    assert.equal(readUserAndPassword(encode(`a:${'x'.repeat(72)}`)).ok, true);
    assert.equal(readUserAndPassword(encode(`a:${'\u00e4'.repeat(36)}`)).ok, true);
  });

  test('any text is read or refused, and only one text stands for a pair', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => {
        const read = readUserAndPassword(text);
        if (read.ok) assert.equal(encode(`${read.name}:${read.password}`).length > 0, true);
        if (read.ok) assert.equal(Buffer.from(text, 'base64').toString('base64'), text);
      }),
    );
  });
});

describe('a password is asked of bcrypt once', () => {
  const prove = (prover: BasicProver, credential: Credential, nowMs = NOW, users = DASHBOARD): Proof | Promise<Proof> =>
    prover.prove(users, credential, '192.168.1.5', nowMs);

  test('a right one is known at once for ten minutes, as the same identity', async () => {
    const bcrypt = new Bcrypt();
    const prover = new BasicProver(bcrypt.check);
    const first = await prove(prover, shown('alice', 'right'));
    assert.ok(first.ok);
    assert.deepEqual(
      [first.identity.name, first.identity.authenticator, [...first.identity.grants]],
      ['alice', 'dashboard', ['viewer', 'read']],
    );
    const second = prove(prover, shown('alice', 'right'), NOW + 599_999);
    assert.ok(!(second instanceof Promise) && second.ok && second.identity === first.identity);
    const third = prove(prover, shown('alice', 'right'), NOW + 600_000);
    assert.ok(third instanceof Promise);
    const again = await third;
    assert.ok(again.ok && again.identity === first.identity);
    assert.equal(bcrypt.asked.length, 2);
  });

  test('a clock that was set back makes nothing last longer', async () => {
    const prover = new BasicProver(new Bcrypt().check);
    await prove(prover, shown('alice', 'right'), NOW);
    assert.ok(prove(prover, shown('alice', 'right'), NOW - 86_400_000) instanceof Promise);
  });

  test('a wrong one is known for ten seconds', async () => {
    const bcrypt = new Bcrypt();
    const prover = new BasicProver(bcrypt.check);
    const wrong = await prove(prover, shown('alice', 'wrong'));
    assert.ok(!wrong.ok && wrong.reason === 'credential_invalid');
    assert.deepEqual(prove(prover, shown('alice', 'wrong'), NOW + 9_999), wrong);
    assert.ok(prove(prover, shown('alice', 'wrong'), NOW + 10_000) instanceof Promise);
    assert.ok(prove(prover, shown('alice', 'right')) instanceof Promise, 'the right one is another question');
    assert.equal(bcrypt.asked.length, 3);
  });

  test('asked by many at once, it is asked once', async () => {
    const bcrypt = new Bcrypt();
    const prover = new BasicProver(bcrypt.check);
    const all = await Promise.all(Array.from({ length: 50 }, async () => await prove(prover, shown('alice', 'right'))));
    assert.ok(all.every((proof) => proof.ok));
    assert.equal(bcrypt.asked.length, 1);
  });

  test('a name that nobody has costs what one of the users costs, and is let in by nothing', async () => {
    const bcrypt = new Bcrypt();
    bcrypt.answer = () => true;
    const prover = new BasicProver(bcrypt.check);
    const costs = new Set<string>();
    for (let i = 0; i < 64; i++) {
      const proof = await prove(prover, shown(`nobody-${i}`, 'right'));
      assert.ok(!proof.ok && proof.reason === 'credential_invalid');
      const { hash } = bcrypt.asked.at(-1)!;
      assert.match(hash, /^\$2b\$1[02]\$[./A-Za-z0-9]{53}$/);
      costs.add(hash.slice(0, 7));
    }
    assert.deepEqual([...costs].sort(), ['$2b$10$', '$2b$12$'], 'both costs of the file are met');
    const { hash } = bcrypt.asked.at(-1)!;
    await prove(prover, shown('nobody-63', 'another'));
    assert.equal(bcrypt.asked.at(-1)!.hash, hash, 'one name has one cost');
  });

  test('what could not be found out is a denial that is not remembered', async () => {
    const bcrypt = new Bcrypt();
    const { answer } = bcrypt;
    bcrypt.answer = () => null;
    const prover = new BasicProver(bcrypt.check);
    const unknown = await prove(prover, shown('alice', 'right'));
    assert.deepEqual(unknown, { ok: false, reason: 'credential_unverifiable' });
    bcrypt.answer = answer;
    assert.equal((await prove(prover, shown('alice', 'right'))).ok, true);
  });

  test('another hash in the file is another question', async () => {
    const bcrypt = new Bcrypt();
    const prover = new BasicProver(bcrypt.check);
    await prove(prover, shown('alice', 'right'));
    const changed = usersOf({ alice: { password: 'changed', cost: 12 } });
    const proof = prove(prover, shown('alice', 'right'), NOW, changed);
    assert.ok(proof instanceof Promise);
    assert.equal((await proof).ok, false);
  });

  test('a flood of wrong ones pushes no right one out', async () => {
    const bcrypt = new Bcrypt();
    const prover = new BasicProver(bcrypt.check);
    await prove(prover, shown('alice', 'right'));
    await Promise.all(
      Array.from({ length: 20_000 }, async (_, i) => await prove(prover, shown('alice', `wrong-${i}`))),
    );
    assert.ok(!(prove(prover, shown('alice', 'right')) instanceof Promise));
  });

  test('a failure stands for its name without telling it', async () => {
    const prover = new BasicProver(new Bcrypt().check);
    const claimed = async (name: string, password: string): Promise<string> => {
      const proof = await prove(prover, shown(name, password));
      assert.ok(!proof.ok && proof.claimed !== undefined);
      return proof.claimed;
    };
    const alice = await claimed('alice', 'a');
    assert.equal(await claimed('alice', 'b'), alice);
    assert.notEqual(await claimed('bob', 'a'), alice);
    assert.match(alice, /^[0-9a-f]{64}$/);
    const other = new BasicProver(new Bcrypt().check);
    const there = await prove(other, shown('alice', 'a'));
    assert.ok(!there.ok && there.claimed !== alice, 'no other process could tell whose it is');
  });
});
