import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { hashSync } from 'bcryptjs';
import { MOST_WAITING, PasswordThread } from '../../src/server/password-thread.js';
import { countResources, expectResources } from '../support/leak.js';
import { within } from '../support/wait.js';

const HASH = hashSync('right', 4);
const SLOW = hashSync('right', 10);
/** bcryptjs throws at it: what kills a thread that nothing else should. */
const DEADLY = 'x'.repeat(60);

function threadOf(t: TestContext): { readonly thread: PasswordThread; readonly deaths: unknown[] } {
  const deaths: unknown[] = [];
  const thread = new PasswordThread({ died: (error) => deaths.push(error) });
  t.after(() => thread.stop());
  return { thread, deaths };
}

const question = (password: string, hash = HASH, address = '192.168.1.5', name = 'alice') => ({
  password,
  hash,
  address,
  name,
});

describe('passwords are checked on a thread', () => {
  test('which says what bcrypt says, of hashes of every prefix', async (t) => {
    const { thread } = threadOf(t);
    for (const prefix of ['$2a', '$2b', '$2y']) {
      const hash = prefix + HASH.slice(3);
      assert.equal(await thread.check(question('right', hash)), true);
      assert.equal(await thread.check(question('wrong', hash)), false);
    }
    const long = 'ü'.repeat(36);
    assert.equal(await thread.check(question(long, hashSync(long, 4))), true);
  });

  test('the event loop goes on meanwhile', async (t) => {
    const { thread } = threadOf(t);
    let turns = 0;
    const turning = setInterval(() => (turns += 1), 1);
    t.after(() => {
      clearInterval(turning);
    });
    await thread.check(question('wrong', hashSync('right', 11)));
    assert.ok(turns >= 5, `${turns} turns`);
  });

  test('one that dies takes one question with it, is told of, and is replaced', async (t) => {
    const { thread, deaths } = threadOf(t);
    const all = await within(
      Promise.all([
        thread.check(question('right')),
        thread.check(question('right', DEADLY, '192.168.1.6')),
        thread.check(question('right', HASH, '192.168.1.7')),
      ]),
      'three answers',
    );
    assert.deepEqual(all, [true, null, true]);
    assert.equal(deaths.length, 1);
  });

  test('deaths one after another end: each takes its question', async (t) => {
    const { thread, deaths } = threadOf(t);
    const all = await within(
      Promise.all(Array.from({ length: 4 }, () => thread.check(question('x', DEADLY)))),
      'four answers',
    );
    assert.deepEqual(all, [null, null, null, null]);
    assert.equal(deaths.length, 4);
    assert.equal(await thread.check(question('right')), true);
  });

  test('when too many wait, those of the longest lane are told so at once, and another is still let in', async (t) => {
    const { thread } = threadOf(t);
    const flood = Array.from({ length: MOST_WAITING + 51 }, (_, i) => thread.check(question(`wrong-${i}`)));
    const right = thread.check(question('right', HASH, '192.168.1.6'));
    const told = await within(Promise.all(flood), 'answers to the flood');
    // One is being looked at, the others wait; one of them made room for whom they did not know.
    assert.equal(told.filter((matches) => matches === null).length, 51);
    assert.equal(told.filter((matches) => matches === false).length, MOST_WAITING);
    assert.equal(await right, true);
  });

  test('a right one from elsewhere does not wait for a flood', async (t) => {
    const { thread } = threadOf(t);
    let answered = 0;
    const flood = Array.from({ length: 40 }, (_, i) =>
      thread.check(question(`wrong-${i}`, SLOW)).then(() => (answered += 1)),
    );
    assert.equal(await thread.check(question('right', SLOW, '192.168.1.6')), true);
    assert.ok(answered <= 2, `${answered} of the flood came before it`);
    assert.equal(await thread.check(question('right', SLOW, '192.168.1.5', 'bob')), true);
    assert.ok(answered <= 5, `${answered} of the flood came before another name`);
    await thread.stop();
    await Promise.all(flood);
  });

  test('stopped, it answers whoever waits, and nothing of it is left', async (t) => {
    const { thread, deaths } = threadOf(t);
    const before = countResources();
    const waiting = [1, 2, 3].map((i) => thread.check(question(`wrong-${i}`, SLOW)));
    await thread.stop();
    assert.deepEqual(await Promise.all(waiting), [null, null, null]);
    assert.equal(await thread.check(question('right')), null);
    assert.deepEqual(deaths, []);
    await expectResources(before);
  });
});
