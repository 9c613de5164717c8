import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { caddy } from '../peers/caddy.js';
import { plain } from '../peers/guardbee.js';
import { httpProxy } from '../peers/http-proxy.js';
import { nginx } from '../peers/nginx.js';
import type { Guard } from '../peers/peer.js';
import { LOAD_CORE, onCore } from '../program.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';

const MEBIBYTE = 1024 * 1024;
const LARGE = 100;

async function curl(guard: Guard, args: readonly string[]): Promise<void> {
  const command = onCore(LOAD_CORE, [
    ...['curl', '--silent', '--show-error', '--fail', '--insecure', '--http1.1', '--max-time', '60'],
    ...['--header', `Authorization: Bearer ${guard.credential}`, ...args],
  ]);
  const child = spawn(command[0] ?? '', command.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`curl ended with ${String(code)}`);
}

/** Several of one size over one connection, each way. */
export const bodies: Workload = {
  name: 'bodies',
  run: (bench) =>
    withPeers(bench, [plain, httpProxy, nginx, caddy], async (started) => {
      const small = join(bench.setting.dir, '1mib');
      const large = join(bench.setting.dir, '100mib');
      writeFileSync(small, Buffer.alloc(MEBIBYTE, 0x62));
      writeFileSync(large, Buffer.alloc(LARGE * MEBIBYTE, 0x62));
      const many = Array.from({ length: LARGE / 2 }, (_, index) => index);
      const download = (guard: Guard, bytes: number, count: number): Promise<void> =>
        curl(
          guard,
          many.slice(0, count).flatMap(() => ['--output', '/dev/null', `${guard.url}/bytes/${String(bytes)}`]),
        );
      const upload = (guard: Guard, file: string, count: number): Promise<void> =>
        curl(guard, [
          ...['--header', 'Expect:', '--header', 'Content-Type: application/octet-stream'],
          ...many
            .slice(0, count)
            .flatMap((index) => [
              ...['--output', '/dev/null', '--upload-file', file],
              `${guard.url}/upload/${String(index)}`,
            ]),
        ]);
      const ways: [string, (guard: Guard) => Promise<void>, number][] = [
        ['down1', (guard) => download(guard, MEBIBYTE, many.length), many.length],
        ['down100', (guard) => download(guard, LARGE * MEBIBYTE, 1), LARGE],
        ['up1', (guard) => upload(guard, small, many.length), many.length],
        ['up100', (guard) => upload(guard, large, 1), LARGE],
      ];
      const cells = started.map((): Record<string, number | undefined> => ({}));
      for (const [key, act, mebibytes] of ways) {
        const rows = await inTurns(bench, started, { warmUp: 1, unit: 'cpu' }, async (guard) => {
          const before = guard.running?.residentKilobytes() ?? 0;
          await act(guard);
          return { units: mebibytes, figures: { grown: ((guard.running?.residentKilobytes() ?? 0) - before) / 1024 } };
        });
        rows.forEach((row, index) => {
          const into = cells[index];
          if (into === undefined) return;
          into[key] = row.cells['cpu'];
          if (key === 'down100') {
            into['share'] = row.cells['share'];
            into['grown'] = row.cells['grown'];
          }
        });
      }
      return {
        workload: 'bodies',
        about:
          'CPU µs for a MiB of body, HTTP/1.1, pieces of 1 MiB and of 100 MiB; share and growth of memory: 100 MiB down',
        columns: [
          { key: 'down1', title: '1 MiB down', digits: 0 },
          { key: 'down100', title: '100 MiB down', digits: 0 },
          { key: 'share', title: 'guardbee to it', digits: 2 },
          { key: 'grown', title: 'grown by MB', digits: 1 },
          { key: 'up1', title: '1 MiB up', digits: 0 },
          { key: 'up100', title: '100 MiB up', digits: 0 },
        ],
        rows: started.map(({ peer }, index) => ({ name: peer.name, cells: cells[index] ?? {} })),
      };
    }),
};
