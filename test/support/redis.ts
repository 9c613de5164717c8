import { connect, createServer, type AddressInfo } from 'node:net';
import { requireComponent } from './component.js';
import { WatchedProcess } from './process.js';
import type { TestContext } from 'node:test';
import { TemporaryDirectory } from './temporary-directory.js';

export type RedisReply = string | number | null;

export interface RedisOptions {
  readonly password?: string;
  /** More settings: `['--maxmemory', '1mb']`. */
  readonly args?: readonly string[];
}

/** A Redis of a test's own, on a free port of loopback, that keeps nothing on a disk. Ends with the test. */
export class TestRedis {
  readonly port: number;
  readonly #options: RedisOptions;
  readonly #directory: TemporaryDirectory;
  readonly #command: string;
  #process: WatchedProcess | null = null;

  private constructor(command: string, port: number, options: RedisOptions, directory: TemporaryDirectory) {
    this.#command = command;
    this.port = port;
    this.#options = options;
    this.#directory = directory;
  }

  /** Null after marking the test as skipped: there is no redis-server here. */
  static async start(t: TestContext, options: RedisOptions = {}): Promise<TestRedis | null> {
    const command = requireComponent('redis-server', t);
    if (command === null) return null;
    const redis = new TestRedis(command, await freePort(), options, new TemporaryDirectory(t));
    t.after(() => redis.stop());
    await redis.startAgain();
    return redis;
  }

  /** As a policy's secret would hold it. */
  get url(): string {
    const { password } = this.#options;
    return `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${String(this.port)}`;
  }

  /** On the same port, empty. */
  async startAgain(): Promise<void> {
    const { password, args = [] } = this.#options;
    const running = new WatchedProcess(
      this.#command,
      ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
        .concat(['--dir', this.#directory.path], password === undefined ? [] : ['--requirepass', password])
        .concat(['--enable-debug-command', 'yes'], args),
    );
    this.#process = running;
    await running.waitForOutput(/Ready to accept connections/);
  }

  /** As a crash would: no goodbye to anybody. */
  async stop(): Promise<void> {
    await this.#process?.stop();
    this.#process = null;
  }

  /** Another client's command, on a connection of its own. An error reply rejects. */
  async command(...args: readonly string[]): Promise<RedisReply> {
    const { password } = this.#options;
    const socket = connect(this.port, '127.0.0.1');
    try {
      const commands = password === undefined ? [args] : [['AUTH', password], args];
      for (const one of commands) {
        socket.write(
          `*${String(one.length)}\r\n${one.map((word) => `$${String(Buffer.byteLength(word))}\r\n${word}\r\n`).join('')}`,
        );
      }
      let text = '';
      let left = commands.length;
      for await (const chunk of socket as AsyncIterable<Buffer>) {
        text += chunk.toString('utf8');
        for (let found = replyIn(text); found !== null; found = replyIn(text)) {
          text = text.slice(found.length);
          left -= 1;
          if (left === 0) return found.reply;
        }
      }
      throw new Error(`no answer to ${args[0] ?? ''}`);
    } finally {
      socket.destroy();
    }
  }
}

/** The first reply of a RESP 2 stream; lists are not read. */
function replyIn(text: string): { readonly reply: RedisReply; readonly length: number } | null {
  const end = text.indexOf('\r\n');
  if (end === -1) return null;
  const rest = text.slice(1, end);
  switch (text[0]) {
    case '+':
      return { reply: rest, length: end + 2 };
    case ':':
      return { reply: Number(rest), length: end + 2 };
    case '$': {
      const size = Number(rest);
      if (size === -1) return { reply: null, length: end + 2 };
      const length = end + 2 + size + 2;
      return text.length < length ? null : { reply: text.slice(end + 2, end + 2 + size), length };
    }
    default:
      throw new Error(`Redis answers ${text.slice(0, end)}`);
  }
}

/** Free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
