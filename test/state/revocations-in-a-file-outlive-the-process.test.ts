import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { FileRevocations } from '../../src/state/revocation-file.js';
import { StateError, type StoreNotice } from '../../src/state/store.js';
import { TemporaryDirectory } from '../support/temporary-directory.js';
import { EMBEDDED, ISSUER, revocable } from './fixture.js';

const NOW = Date.UTC(2027, 0, 1);
const HOUR = 3_600_000;
const of = (jti: string, keys = {}): ReturnType<typeof revocable> =>
  revocable({ settings: EMBEDDED, jti, issuedAtMs: NOW - 1000, expiresAtMs: NOW + HOUR, ...keys });

async function opened(
  dir: TemporaryDirectory,
  nowMs = NOW,
): Promise<{ store: FileRevocations; notices: StoreNotice[] }> {
  const notices: StoreNotice[] = [];
  return { store: await FileRevocations.open(dir.path, nowMs, (notice) => notices.push(notice)), notices };
}

test('what was revoked is revoked after a restart, until the credential ends by itself', async (t) => {
  const dir = new TemporaryDirectory(t);
  const first = await opened(dir);
  assert.equal(first.store.standing(of('a'), NOW), 'good');
  await first.store.revoke(of('a'), NOW);
  await first.store.put(
    { kind: 'subject', issuer: ISSUER, subject: 's', beforeMs: NOW, untilMs: NOW + HOUR },
    EMBEDDED,
    NOW,
  );
  await first.store.revoke(of('never', { expiresAtMs: Infinity }), NOW);
  await first.store.revoke(of('over', { expiresAtMs: NOW }), NOW);
  // No close: a process that is killed does not say goodbye.
  const text = readFileSync(dir.file('revocations.ndjson'), 'utf8');
  assert.equal(text.split('\n').length, 4, 'three lines, and nothing of what has expired');
  assert.equal((statSync(dir.file('revocations.ndjson')).mode & 0o777).toString(8), '600');

  const { store, notices } = await opened(dir);
  assert.deepEqual(notices, []);
  assert.equal(store.standing(of('a'), NOW), 'revoked');
  assert.equal(store.standing(of('a', { issuer: 'https://other.example' }), NOW), 'good');
  assert.equal(store.standing(of('b', { subject: 's' }), NOW), 'revoked');
  assert.equal(store.standing(of('b', { subject: 's', issuedAtMs: NOW }), NOW), 'good', 'issued at that moment');
  assert.equal(store.standing(of('b', { subject: 's', issuedAtMs: null }), NOW), 'revoked');
  assert.equal(store.standing(of('never'), NOW + 1000 * HOUR), 'revoked');
  assert.equal(store.standing(of('a'), NOW + HOUR - 1), 'revoked');
  assert.equal(store.standing(of('a'), NOW + HOUR), 'good', 'it has ended by itself');
  await store.close();
  await first.store.close();
});

test('a line that was cut off by a crash is dropped, and the next one is whole', async (t) => {
  const dir = new TemporaryDirectory(t);
  const before = await opened(dir);
  await before.store.revoke(of('a'), NOW);
  await before.store.close();
  appendFileSync(dir.file('revocations.ndjson'), '{"v":1,"at":17990');
  const { store, notices } = await opened(dir);
  assert.deepEqual(
    notices.map(({ event }) => event),
    ['revocations.torn_line'],
  );
  assert.equal(store.status.state, 'up');
  await store.revoke(of('b'), NOW);
  await store.close();
  const again = await opened(dir);
  assert.deepEqual(again.notices, []);
  for (const jti of ['a', 'b']) assert.equal(again.store.standing(of(jti), NOW), 'revoked');
  await again.store.close();
  // All of a line but its end: then it is what somebody wanted.
  const file = dir.file('revocations.ndjson');
  writeFileSync(file, readFileSync(file, 'utf8').trimEnd());
  const whole = await opened(dir);
  assert.equal(whole.store.standing(of('b'), NOW), 'revoked');
  await whole.store.revoke(of('c'), NOW);
  await whole.store.close();
  const last = await opened(dir);
  assert.deepEqual(last.notices, []);
  for (const jti of ['a', 'b', 'c']) assert.equal(last.store.standing(of(jti), NOW), 'revoked');
  await last.store.close();
});

test('a file with other lines that cannot be read lets nobody be good, until the loss is accepted', async (t) => {
  for (const garbage of [
    'garbage',
    '{}',
    '[1]',
    'null',
    '{"v":2,"iss":"i","jti":"x","until":1}',
    '{"v":1,"iss":"i","until":null}',
    '\u0000\u0000',
  ]) {
    const dir = new TemporaryDirectory(t);
    const before = await opened(dir);
    await before.store.revoke(of('a'), NOW);
    await before.store.close();
    const file = dir.file('revocations.ndjson');
    writeFileSync(file, `${garbage}\n${readFileSync(file, 'utf8')}`);
    const { store, notices } = await opened(dir);
    assert.deepEqual(
      notices.map(({ event, level }) => [event, level]),
      [['revocations.lost', 'error']],
    );
    assert.equal(store.standing(of('a'), NOW), 'revoked', 'what is legible counts');
    assert.equal(store.standing(of('b'), NOW), 'unknown', garbage);
    assert.equal(store.status.state, 'unknown');
    await store.revoke(of('c'), NOW);
    assert.equal(await store.acceptLoss(NOW), true);
    assert.equal(store.standing(of('b'), NOW), 'good');
    assert.equal(await store.acceptLoss(NOW), false);
    await store.close();
    const again = await opened(dir);
    assert.deepEqual(again.notices, []);
    for (const jti of ['a', 'c']) assert.equal(again.store.standing(of(jti), NOW), 'revoked');
    await again.store.close();
    assert.equal(readdirSync(dir.path).length, 2, 'the damaged file is kept');
  }
});

test('a file that mostly holds what is over is written anew', async (t) => {
  const dir = new TemporaryDirectory(t);
  const line = (jti: string, until: number): string =>
    `${JSON.stringify({ v: 1, at: NOW, iss: ISSUER, jti, until })}\n`;
  const old = Array.from({ length: 3000 }, (_, index) => line(`old-${String(index)}`, NOW - 1)).join('');
  writeFileSync(dir.file('revocations.ndjson'), old + line('kept', NOW + HOUR), { mode: 0o600 });
  const { store } = await opened(dir);
  assert.equal(readFileSync(dir.file('revocations.ndjson'), 'utf8').split('\n').length, 2);
  assert.equal(store.standing(of('kept'), NOW), 'revoked');
  // Two thousand that are over a moment later, and one more.
  await Promise.all(
    Array.from({ length: 2100 }, (_, index) => store.revoke(of(`n${String(index)}`, { expiresAtMs: NOW + 10 }), NOW)),
  );
  for (let index = 0; index < 3; index += 1) await store.revoke(of(`late-${String(index)}`), NOW + 20);
  await store.close();
  const again = await opened(dir, NOW + 20);
  for (const jti of ['kept', 'late-0', 'late-2']) assert.equal(again.store.standing(of(jti), NOW + 20), 'revoked');
  assert.equal(again.store.list(NOW + 20, 10).total, 4);
  await again.store.close();
});

test('a file that cannot be read or written is told in words, and the revocation holds for as long as the process does', async (t) => {
  const dir = new TemporaryDirectory(t);
  const { store } = await opened(dir);
  await store.close();
  // It is opened again for the next line: now there is a folder in its place.
  rmSync(dir.file('revocations.ndjson'));
  mkdirSync(dir.file('revocations.ndjson'));
  await assert.rejects(
    store.revoke(of('a'), NOW),
    (error) => error instanceof StateError && error.message.includes('revocations.ndjson cannot be written'),
  );
  assert.equal(store.standing(of('a'), NOW), 'revoked');
  await assert.rejects(opened(dir), (error) => error instanceof StateError && error.message.includes('is not a file'));
});
