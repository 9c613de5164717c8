import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';
import { startGuardbee, type WatchedProcess } from '../support/process.js';
import { request } from '../support/raw-client.js';
import { RecordingUpstream, respond } from '../support/recording-upstream.js';
import { startDeliveringGuard } from './delivering-guard.js';
import { TestCollector, assertSameLines, assertWholeChain, numberOf } from './test-collector.js';

async function listening(process: WatchedProcess): Promise<{ port: number }> {
  const line = await process.waitForLog(
    (one) => String(one['msg']).startsWith('listening on ') && one['guardbee.listener'] === 'main',
  );
  return { port: Number(new URL(String(line['url.full'])).port) };
}

test('killed between the sending of a batch and its answer, again and again', async () => {
  await using collector = await TestCollector.start();
  await using upstream = await RecordingUpstream.start({ respond: respond.status(200) });
  await using guard = await startDeliveringGuard(collector.url, upstream);
  let running: WatchedProcess = guard.process;
  const others: WatchedProcess[] = [];
  const refused: string[] = [];
  try {
    for (let round = 0; round < 6; round += 1) {
      const target = await listening(running);
      // Stored, and not answered: who was killed cannot know.
      let hung = 0;
      collector.treat = ({ lines }) => (lines.length > 0 && ++hung > round % 3 ? 'hang' : 200);
      for (let index = 0; index < 5 || hung <= round % 3; index += 1) {
        const answer = await request(target, { method: 'POST', path: `/round/${String(round)}`, body: 'x' });
        assert.equal(answer.status, 401);
        refused.push(answer.header('x-request-id') ?? '');
      }
      await running.kill('SIGKILL');
      running = startGuardbee({ args: ['run', '--policy', guard.policyFile] });
      others.push(running);
    }
    collector.treat = () => 200;
    await listening(running);
    const ended = await running.kill('SIGTERM');
    assert.equal(ended.code, 0);
  } finally {
    for (const one of others) await one.stop();
  }
  const dir = guard.directory.file('log');
  const lines = readdirSync(dir)
    .filter((name) => name.endsWith('.ndjson'))
    .sort()
    .flatMap((name) => readFileSync(`${dir}/${name}`, 'utf8').split('\n').slice(0, -1));
  const records = [...collector.records.values()];
  assertSameLines(records, lines);
  assertWholeChain(records);
  // Repeated under the same numbers, and nothing before what comes before it.
  assert.ok(collector.taken.length > records.length);
  let highest = 0;
  for (const line of collector.taken) {
    assert.ok(numberOf(line) <= highest + 1);
    highest = Math.max(highest, numberOf(line));
  }
  assert.ok(refused.length >= 30);
  const all = records.join('\n');
  for (const id of refused) assert.ok(id !== '' && all.includes(`"request_id":"${id}"`), id);
});
