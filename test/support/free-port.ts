import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Where the kernel takes ports from for connections of any program that asks for none. */
const EPHEMERAL_FROM = ephemeralFrom();
const LOWEST = 10_000;

/**
 * A port that is free, and that nobody gets by chance: of those that the kernel gives away, each may become the end of
 * some connection between a service's stop and its start.
 */
export async function freePort(): Promise<number> {
  for (let left = 100; left > 0; left -= 1) {
    const port = randomInt(LOWEST, EPHEMERAL_FROM);
    const server = createServer();
    server.listen(port, '127.0.0.1');
    const isFree = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!isFree) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
  throw new Error('no port is free');
}

function ephemeralFrom(): number {
  try {
    const [from = ''] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1').split(/\s+/);
    return Math.max(LOWEST + 1000, Number(from));
  } catch {
    // Not Linux: where IANA has them begin.
    return 49_152;
  }
}
