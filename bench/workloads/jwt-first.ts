import { jwt } from '../peers/guardbee.js';
import { haproxy } from '../peers/haproxy.js';
import type { Guard } from '../peers/peer.js';
import { type Workload, inTurns, withPeers } from '../rounds.js';
import { openSocket } from '../streams.js';

const TOKENS = 500;

/** Each token once, one after another, on one connection. */
function show(guard: Guard, tokens: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    let next = 0;
    let answer = '';
    const ask = (): void => {
      const token = tokens[next++];
      if (token === undefined) {
        socket.destroy();
        resolve();
        return;
      }
      answer = '';
      socket.write(`GET /v1/jobs/job-1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`);
    };
    const socket = openSocket(guard, ask);
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      answer += text;
      // The service's answer ends so.
      if (!answer.endsWith('}')) return;
      if (answer.startsWith('HTTP/1.1 200 ')) ask();
      else reject(new Error(`${guard.url} answered ${answer.slice(0, 60)}`));
    });
    socket.once('error', reject);
  });
}

/** The price of an ES256 signature: HAProxy pays it each time. */
export const jwtFirst: Workload = {
  name: 'jwt-first',
  run: (bench) =>
    withPeers(bench, [jwt, haproxy], async (started) => {
      const seen = await inTurns(bench, started, { warmUp: 2, unit: 'cpu' }, async (guard) => {
        await show(guard, Array<string>(TOKENS).fill(bench.setting.jwt));
        return { units: TOKENS };
      });
      const unseen = await inTurns(bench, started, { warmUp: 2, unit: 'cpu' }, async (guard) => {
        await show(guard, bench.setting.jwts(TOKENS));
        return { units: TOKENS };
      });
      return {
        workload: 'jwt-first',
        about:
          'ES256 tokens, one request after another on one connection: the same one each time, and another each time',
        columns: [
          { key: 'seen', title: 'CPU µs, same', digits: 0 },
          { key: 'cpu', title: 'CPU µs, new', digits: 0 },
          { key: 'share', title: 'guardbee to it', digits: 2 },
        ],
        rows: unseen.map(({ name, cells }, index) => ({ name, cells: { ...cells, seen: seen[index]?.cells['cpu'] } })),
      };
    }),
};
