import { createClient } from '@redis/client';
import { type TlsFault, tlsFault } from '../net/tls-fault.js';
import type { RedisSettings } from '../policy/policy.js';

type Client = ReturnType<typeof createClient>;

/** How long a command may take before the connection counts as broken. */
export const COMMAND_MS = 500;
/** TCP, TLS, authentication and database together. */
const CONNECT_MS = 3000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
/** Commands on their way; more are refused, so that a slow server does not fill our memory. */
const MOST_COMMANDS = 4096;

/** What a server or the network said: a code or a few words of ours, never a text from outside. */
export class RedisError extends Error {
  override readonly name = 'RedisError';
  /** First word of an error reply (`READONLY`), or null where there was no reply. */
  readonly reply: string | null;

  constructor(message: string, reply: string | null) {
    super(message);
    this.reply = reply;
  }
}

export interface LinkEvents {
  /** A connection is there and authenticated. What it is good for, whoever listens finds out. */
  ready(): void;
  /** It is gone, or could not be made. Said again for each attempt. */
  down(why: string): void;
}

/**
 * One connection to a Redis or Valkey server, made again whenever it is lost. Each attempt is a client of its own:
 * the package's reconnection waits for as long as a server keeps a half-made connection open, and commands of ours
 * have deadlines. Nothing here rejects unheard, and no error holds the URL.
 */
export class RedisLink {
  readonly #settings: RedisSettings;
  readonly #events: LinkEvents;
  #client: Client | null = null;
  #ready = false;
  #closed = false;
  #failures = 0;
  #pause: NodeJS.Timeout | null = null;

  constructor(settings: RedisSettings, events: LinkEvents) {
    this.#settings = settings;
    this.#events = events;
  }

  get ready(): boolean {
    return this.#ready;
  }

  start(): void {
    void this.#connect();
  }

  /**
   * One command. Rejects with RedisError: at once where there is no connection, after COMMAND_MS where there is no
   * answer, which also ends the connection.
   */
  async send(args: readonly string[]): Promise<unknown> {
    const client = this.#client;
    if (client === null || !this.#ready) throw new RedisError('there is no connection', null);
    return await new Promise((resolve, reject) => {
      let settled = false;
      const timer = setTimeout(() => {
        // It may have been us who slept: what has arrived meanwhile is read before this runs.
        setImmediate(() => {
          if (settled) return;
          const late = new RedisError(`no answer within ${String(COMMAND_MS)} ms`, null);
          reject(late);
          this.#lose(client, late.message);
        });
      }, COMMAND_MS);
      client.sendCommand([...args]).then(
        (reply) => {
          settled = true;
          clearTimeout(timer);
          resolve(reply);
        },
        (error: unknown) => {
          settled = true;
          clearTimeout(timer);
          reject(toRedisError(error));
        },
      );
    });
  }

  /** Ends this connection, to try another: the server is not what it should be. */
  giveUp(why: string): void {
    if (this.#client !== null) this.#lose(this.#client, why);
  }

  close(): void {
    this.#closed = true;
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.#pause = null;
    this.#ready = false;
    const client = this.#client;
    this.#client = null;
    if (client !== null) destroy(client);
  }

  async #connect(): Promise<void> {
    let client: Client;
    try {
      client = createClient({
        url: this.#settings.url.reveal(),
        RESP: 2,
        disableOfflineQueue: true,
        disableClientInfo: true,
        maintNotifications: 'disabled',
        commandsQueueMaxLength: MOST_COMMANDS,
        socket: { connectTimeout: CONNECT_MS, reconnectStrategy: false },
      }) as unknown as Client;
    } catch {
      // The policy has read the URL before; what this says of it may repeat it.
      this.#events.down('the URL is not understood');
      return;
    }
    this.#client = client;
    let last: RedisError | null = null;
    client.on('error', (error: unknown) => {
      last = toRedisError(error);
      if (this.#ready) this.#lose(client, last.message);
    });
    client.on('end', () => {
      if (this.#ready) this.#lose(client, last?.message ?? 'the connection was closed');
    });
    let timer: NodeJS.Timeout | undefined;
    try {
      const late = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => {
          reject(new RedisError(`no connection within ${String(CONNECT_MS)} ms`, null));
        }, CONNECT_MS);
      });
      await Promise.race([client.connect(), late]);
    } catch (error) {
      this.#lose(client, toRedisError(error).message);
      return;
    } finally {
      clearTimeout(timer);
    }
    if (this.#client !== client) return;
    this.#ready = true;
    this.#events.ready();
  }

  /** For whoever has found the server to be what it should be: the next loss is tried again at once. */
  settled(): void {
    this.#failures = 0;
  }

  #lose(client: Client, why: string): void {
    if (this.#client !== client) return;
    this.#client = null;
    this.#ready = false;
    destroy(client);
    if (this.#closed) return;
    this.#events.down(why);
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.#failures, 10));
    this.#failures += 1;
    // Sidecars that lost the same server do not all come back in the same moment.
    this.#pause = setTimeout(
      () => {
        this.#pause = null;
        void this.#connect();
      },
      pause * (0.75 + Math.random() * 0.5),
    );
    this.#pause.unref();
  }
}

function destroy(client: Client): void {
  try {
    client.destroy();
  } catch {
    // It was closed already.
  }
}

/** Codes of replies that say something to an operator. */
const REPLIES: ReadonlyMap<string, string> = new Map([
  ['WRONGPASS', 'the user name or password is refused'],
  ['NOAUTH', 'it asks for a password'],
  ['NOPERM', 'the user may not use a command or key that is needed'],
  ['READONLY', 'it is a read-only replica'],
  ['LOADING', 'it is loading its data'],
  ['MISCONF', 'it refuses to write, since it cannot save to its disk'],
  ['OOM', 'it refuses to write, since its memory is full'],
  ['MOVED', 'it is a member of a cluster, which is not supported'],
  ['CROSSSLOT', 'it is a member of a cluster, which is not supported'],
  ['MASTERDOWN', 'it is a replica that has lost its primary'],
]);

/** Of a certificate that is not taken, ours or the server's; null: the code says it best. */
const BY_TLS: Readonly<Record<TlsFault, string | null>> = {
  wrong_name: 'its certificate is for another name than that of the URL',
  expired: 'its certificate has expired or is not valid yet',
  untrusted: 'its certificate is of an authority that is not known here: name the file with it in NODE_EXTRA_CA_CERTS',
  refused: null,
  no_tls: null,
};

function toRedisError(error: unknown): RedisError {
  if (error instanceof RedisError) return error;
  if (!(error instanceof Error)) return new RedisError('unknown error', null);
  if ('code' in error && typeof error.code === 'string' && /^[A-Z][A-Z0-9_]{2,63}$/.test(error.code)) {
    const tls = tlsFault(error.code);
    return new RedisError((tls === null ? null : BY_TLS[tls]) ?? error.code, null);
  }
  const code = /^-?([A-Z]{2,32})(?: |$)/.exec(error.message)?.[1];
  if (code !== undefined) return new RedisError(REPLIES.get(code) ?? `it answers ${code}`, code);
  const name = error.constructor.name;
  return new RedisError(/^[A-Za-z]{1,64}$/.test(name) && name !== 'Error' ? name : 'the connection failed', null);
}
