/** The link between the owner and a worker, and the figures that go over it. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type Socket, connect, createServer } from 'node:net';
import { test } from 'node:test';
import { Metrics } from '../../src/observe/metrics.js';
import { Link, LinkError, type Listening } from '../../src/workers/link.js';
import { EXCHANGE, SUBMIT, policyWith } from '../observe/exchange-fixture.js';

interface Said extends Record<string, (said: never) => unknown> {
  twice(said: number): number;
  kept(said: Buffer): null;
  never(said: null): null;
}

async function pair(): Promise<[Socket, Socket]> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  const one = connect(address.port, '127.0.0.1');
  const [other] = (await once(server, 'connection')) as [Socket];
  server.close();
  return [one, other];
}

const QUIET = { closed: () => undefined, late: () => undefined, broke: () => undefined };

test('questions are answered in whatever pieces they come; what fails is said to have failed', async () => {
  const [one, other] = await pair();
  const kept: number[] = [];
  let broke = 0;
  const listening: Listening<Said> = {
    twice: async (said) => {
      if (said < 0) throw new RangeError('no');
      return await Promise.resolve(2 * said);
    },
    kept: (said) => {
      kept.push(said.length);
      return null;
    },
    never: async () => await new Promise<null>(() => undefined),
  };
  const asking = new Link<Said, Said>(one, listening, QUIET);
  const answering = new Link<Said, Said>(other, listening, {
    ...QUIET,
    broke: () => {
      broke += 1;
    },
  });
  asking.tell('kept', Buffer.alloc(3_000_000));
  const answers = await Promise.all([1, 2, 3].map((said) => asking.ask('twice', said, 10_000)));
  assert.deepEqual(answers, [2, 4, 6]);
  assert.deepEqual(kept, [3_000_000]);
  await assert.rejects(asking.ask('twice', -1, 10_000), LinkError);
  assert.equal(broke, 1);
  await assert.rejects(asking.ask('never', null, 1), LinkError, 'an answer has its time');
  const asked = asking.ask('twice', 4, 600);
  // As when a container is frozen for a while: nobody hung, and the answer comes.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
  assert.equal(await asked, 8);
  const left = asking.ask('never', null, 10_000);
  answering.close();
  await assert.rejects(left, LinkError, 'the other side is gone');
  await assert.rejects(asking.ask('twice', 1, 10_000), LinkError);
});

test('figures are taken once, and added where they are shown', async () => {
  const made = (): Metrics => new Metrics({ policy: policyWith([SUBMIT]), version: '0', log: { droppedLines: 0 } });
  const [worker, owner] = [made(), made()];
  const record = EXCHANGE;
  worker.observe(record);
  worker.observe(record);
  owner.absorb(1, worker.take());
  owner.absorb(1, worker.take());
  const expected = made();
  expected.observe(record);
  expected.observe(record);
  const shown = (page: string): string[] =>
    page.split('\n').filter((line) => /^guardbee_(?:http_|auth_decisions|upstream_(?:response|up))/.test(line));
  assert.deepEqual(shown(await owner.text()), shown(await expected.text()));
  assert.equal(shown(await owner.text()).length > 10, true);
});
