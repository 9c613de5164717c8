import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { closedLoad } from '../load.js';
import { guardbee } from '../peers/guardbee.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const KILOBYTES = 100;

const judging = guardbee({
  name: 'guardbee',
  routes: `      - { name: passed, path: /v1/passed, methods: [POST], require: access }
      - name: judged
        path: /v1/judged
        methods: [POST]
        body:
          json:
            field: operation
            require_by_value: { status: access, infer: access }
            check: { model: { type: model_ref }, temperature: { type: range, min: 0, max: 2 }, /messages/*/content: { type: prompt } }
`,
});

/** 100 kB as a client of a model sends them: a conversation, and a few options. */
function conversation(): string {
  const messages = Array.from({ length: KILOBYTES }, (_, index) => ({
    role: index % 2 === 0 ? 'user' : 'assistant',
    content: 'a line of text, ending\n'.repeat(41),
  }));
  return JSON.stringify({ operation: 'infer', model: 'llama', temperature: 0.7, messages });
}

export const judged: Workload = {
  name: 'judged',
  run: (bench) =>
    withPeers(bench, [judging], async (started) => {
      const body = join(bench.setting.dir, 'body.json');
      const script = join(bench.setting.dir, 'body.lua');
      writeFileSync(body, conversation());
      writeFileSync(
        script,
        `local file = io.open("${body}", "rb")\nwrk.method = "POST"\nwrk.headers["Content-Type"] = "application/json"\nwrk.body = file:read("*a")\nfile:close()\n`,
      );
      const rows = [];
      for (const [name, path] of [
        ['streamed through', '/v1/passed'],
        ['held and judged', '/v1/judged'],
      ] as const) {
        const [row] = await inTurns(bench, started, { warmUp: 2, unit: 'cpu' }, async (guard) => {
          const { requests } = await closedLoad(guard, { path, seconds: bench.seconds, connections: 32, script });
          return { units: requests };
        });
        rows.push({ name, cells: row?.cells ?? {} });
      }
      return {
        workload: 'judged',
        about: `a JSON body of ${String(KILOBYTES)} kB, streamed through, or held, judged and sent on`,
        columns: [{ key: 'cpu', title: 'CPU µs/request', digits: 0 }],
        rows,
      };
    }),
};
