/**
 * A crowd of bad clients, as a process of its own: `node crowd.js PORT TOKEN SECONDS`. Prints what it did as one line of
 * JSON when the time is over and everything is closed.
 */
import { connect, type Socket } from 'node:net';
import { setInterval } from 'node:timers';

const [port = '', token = '', seconds = ''] = process.argv.slice(2);
const until = Date.now() + Number(seconds) * 1_000;
const sockets = new Set<Socket>();
const timers: NodeJS.Timeout[] = [];
const done = { dripped: 0, stalled: 0, strangers: 0, refused: 0, bodies: 0, tooMany: 0, taken: 0 };

function open(localAddress: string, onData: ((chunk: Buffer) => void) | null): Socket {
  const socket = connect({ host: '127.0.0.1', port: Number(port), localAddress });
  sockets.add(socket);
  socket.on('error', () => undefined);
  socket.on('close', () => sockets.delete(socket));
  if (onData !== null) socket.on('data', onData);
  return socket;
}

/** One byte a second, of a head that never ends. Whoever is thrown out comes again. */
function drip(index: number): void {
  const socket = open(`127.0.1.${String(index + 1)}`, () => undefined);
  const head = `GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ${'a'.repeat(1_000)}`;
  let at = 0;
  const timer = setInterval(() => {
    if (socket.destroyed || Date.now() > until) {
      clearInterval(timer);
      if (Date.now() < until) drip(index);
      return;
    }
    socket.write(head.charAt(at));
    at += 1;
    done.dripped += 1;
  }, 1_000);
  timers.push(timer);
}

/** Asks for much and reads nothing. */
function stall(index: number): void {
  const socket = open(`127.0.2.${String(index + 1)}`, null);
  socket.write(`GET /large HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  socket.pause();
  done.stalled += 1;
}

/** Comes with a bad token, and leaves with the answer, or without it after a second. */
function stranger(index: number): void {
  const socket = open(`127.0.${String(4 + (index % 50))}.${String(1 + (index % 250))}`, (chunk) => {
    if (chunk.includes(' 401 ')) done.refused += 1;
    socket.destroy();
  });
  socket.write(`GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer not-a-token-${String(index)}-xxxxxxxx\r\n\r\n`);
  socket.setTimeout(1_000, () => socket.destroy());
  done.strangers += 1;
}

const BODY = Buffer.from(JSON.stringify({ operation: 'infer', prompt: 'x'.repeat(2 * 1024 * 1024 - 64) }));

/** 2 MiB that must be judged. */
function body(index: number): void {
  const socket = open(`127.0.3.${String(1 + (index % 250))}`, (chunk) => {
    if (chunk.includes(' 503 ')) done.tooMany += 1;
    else if (chunk.includes(' 200 ')) done.taken += 1;
    socket.destroy();
  });
  socket.write(
    `POST /jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${String(BODY.length)}\r\n\r\n`,
  );
  socket.write(BODY);
  done.bodies += 1;
}

for (let i = 0; i < 200; i += 1) {
  drip(i);
  stall(i);
}
let strangers = 0;
timers.push(
  setInterval(() => {
    // Of those who came, so many may still be there: more would be a test of this process.
    for (let i = 0; i < 50 && sockets.size < 3_000; i += 1) stranger(strangers++);
  }, 10),
);
setTimeout(() => {
  for (let i = 0; i < 1_000; i += 1) body(i);
}, 2_000);
setTimeout(
  () => {
    for (const timer of timers) clearInterval(timer);
    for (const socket of sockets) socket.destroy();
    process.stdout.write(`${JSON.stringify(done)}\n`);
  },
  Math.max(0, until - Date.now()),
);
