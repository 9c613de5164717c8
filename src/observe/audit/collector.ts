/** The other end of the trail: a collector that is given records over HTTPS. */
import { Agent as PlainAgent, type ClientRequest, type IncomingMessage, request as requestHttp } from 'node:http';
import { Agent as TlsAgent, request as requestHttps } from 'node:https';
import { isThisMachine, lookupThisMachine } from '../../net/this-machine.js';
import { type TlsFault, tlsFault } from '../../net/tls-fault.js';
import type { DeliverySettings } from '../../policy/policy.js';
import { VERSION } from '../../version.js';

/**
 * Why a collector did not take a batch. `soon`: it may the next time. `later`: not before somebody mends something.
 * `smaller`: it may take a part.
 */
export const COLLECTOR_FAULTS = Object.freeze({
  name_unknown: { retry: 'soon', words: 'its name has no address' },
  unreachable: { retry: 'soon', words: 'it cannot be reached' },
  cut: { retry: 'soon', words: 'it ended the connection before it answered' },
  cut_at_certificate: {
    retry: 'soon',
    words: 'it ended the connection at once, as some do that do not accept the certificate that guardbee shows',
  },
  timeout: { retry: 'soon', words: 'it did not answer in time' },
  not_loopback: { retry: 'later', words: 'its name leads to another machine, and there is no TLS' },
  untrusted_certificate: {
    retry: 'later',
    words: 'its certificate is of no authority that is trusted here (audit.deliver.ca names one)',
  },
  wrong_name: { retry: 'later', words: 'its certificate is for another name than that in audit.deliver.url' },
  expired_certificate: { retry: 'later', words: 'its certificate has expired or is not valid yet' },
  certificate_refused: {
    retry: 'later',
    words: 'it does not accept the certificate that guardbee shows, or wants one (audit.deliver.client_certificate)',
  },
  no_tls: { retry: 'later', words: 'it does not speak TLS 1.2 or later there' },
  redirect: { retry: 'later', words: 'it sends elsewhere, and redirects are not followed' },
  unauthorized: { retry: 'later', words: 'it does not accept the credential of guardbee' },
  no_collector: { retry: 'later', words: 'what answers at audit.deliver.url takes no such records' },
  busy: { retry: 'soon', words: 'it is busy' },
  server_error: { retry: 'soon', words: 'it failed to store them' },
  garbage: { retry: 'soon', words: 'what it answered is no HTTP' },
  rejected: { retry: 'smaller', words: 'it says that the records are not good' },
  too_large: { retry: 'smaller', words: 'it says that there are too many at once' },
} as const satisfies Record<string, { readonly retry: 'soon' | 'later' | 'smaller'; readonly words: string }>);
export type CollectorFault = keyof typeof COLLECTOR_FAULTS;

export type Taken =
  | { readonly ok: true }
  | {
      readonly ok: false;
      readonly fault: CollectorFault;
      /** What the collector asked for, milliseconds; null: nothing. */
      readonly retryAfterMs: number | null;
    };

/** What is delivered at once. */
export interface Batch {
  /** Whole lines, one after the other. */
  readonly body: Buffer;
  readonly chain: string;
  readonly first: number;
  readonly last: number;
  /** Of the last record. */
  readonly hash: string;
}

/** Of an answer, which says nothing but its status; what is longer costs the connection. */
const LONGEST_ANSWER = 64 * 1024;
const LONGEST_ANSWER_MS = 2_000;
const LONGEST_HEAD = 16 * 1024;
/** A connection that was closed while nothing was on it: the batch was never seen, and goes again at once. */
const STALE = new Set(['ECONNRESET', 'EPIPE']);

/**
 * One connection to a collector. Certificates are verified whatever the environment says, proxies of the environment are
 * not used, and redirects are not followed: whoever may send one would say where the records go.
 */
export class Collector {
  readonly #settings: DeliverySettings;
  readonly #url: URL;
  readonly #plain: boolean;
  readonly #agent: PlainAgent;
  readonly #timeoutMs: number;
  #underway: ClientRequest | null = null;
  #closed = false;

  /** @param timeoutMs from the look-up of the name to the end of the answer */
  constructor(settings: DeliverySettings, timeoutMs: number) {
    this.#settings = settings;
    this.#url = new URL(settings.url);
    this.#plain = this.#url.protocol === 'http:';
    this.#timeoutMs = timeoutMs;
    const { certificate, authority } = settings;
    const keep = { keepAlive: true, maxSockets: 1 };
    this.#agent = this.#plain
      ? new PlainAgent(keep)
      : new TlsAgent({
          ...keep,
          rejectUnauthorized: true,
          minVersion: 'TLSv1.2',
          ...(authority === null ? {} : { ca: authority.caPem }),
          ...(authority?.partialChain === true ? { allowPartialTrustChain: true } : {}),
          ...(certificate === null ? {} : { cert: certificate.certPem, key: certificate.key.reveal() }),
        });
  }

  /** One batch at a time. Never rejects. */
  async send(batch: Batch): Promise<Taken> {
    const { chain, first, last, hash } = batch;
    const fields = {
      // What has the same key has the same bytes: the hash is over all that came before.
      'idempotency-key': `${chain}-${String(first)}-${String(last)}-${hash.slice(0, 16)}`,
      'x-guardbee-chain': chain,
    };
    const once = await this.#post(batch.body, fields);
    return once === 'stale' ? asTaken(await this.#post(batch.body, fields)) : once;
  }

  /** Nothing to store, to see who answers. */
  async ask(): Promise<Taken> {
    return asTaken(await this.#post(Buffer.alloc(0), {}));
  }

  /** Ends what is underway. */
  close(): void {
    this.#closed = true;
    this.#underway?.destroy();
    this.#agent.destroy();
  }

  #post(body: Buffer, fields: Readonly<Record<string, string>>): Promise<Taken | 'stale'> {
    if (this.#closed) return Promise.resolve(no('cut'));
    const { token } = this.#settings;
    const options = {
      method: 'POST',
      agent: this.#agent,
      maxHeaderSize: LONGEST_HEAD,
      headers: {
        'content-type': 'application/x-ndjson',
        'content-length': body.length,
        'user-agent': `guardbee/${VERSION}`,
        ...fields,
        ...(token === null ? {} : { authorization: `Bearer ${token.reveal()}` }),
      },
    };
    return new Promise((resolve) => {
      const asked = this.#plain
        ? requestHttp(this.#url, { ...options, lookup: lookupThisMachine })
        : requestHttps(this.#url, options);
      this.#underway = asked;
      let answer: Taken | null = null;
      const settle = (taken: Taken | 'stale', destroy: boolean): void => {
        clearTimeout(timer);
        if (this.#underway === asked) this.#underway = null;
        resolve(taken);
        if (destroy) asked.destroy();
      };
      const late = (): void => {
        settle(answer ?? no('timeout'), true);
      };
      let timer = setTimeout(late, this.#timeoutMs);
      asked.on('error', (error: NodeJS.ErrnoException) => {
        if (answer === null && asked.reusedSocket && STALE.has(error.code ?? '')) settle('stale', true);
        else settle(answer ?? no(this.#explain(faultOf(error), asked)), true);
      });
      asked.on('response', (response) => {
        if (this.#plain && !isThisMachine(response.socket.remoteAddress)) {
          settle(no('not_loopback'), true);
          return;
        }
        // Whoever says that it has everything before everything was sent, has not.
        const tooEarly = !asked.writableFinished && isFine(response);
        answer = tooEarly ? no('garbage') : judge(response);
        clearTimeout(timer);
        timer = setTimeout(late, LONGEST_ANSWER_MS);
        let length = 0;
        response.on('data', (piece: Buffer) => {
          length += piece.length;
          if (length > LONGEST_ANSWER) settle(answer ?? no('garbage'), true);
        });
        response.on('end', () => {
          settle(answer ?? no('garbage'), tooEarly);
        });
        response.on('error', () => {
          settle(answer ?? no('cut'), true);
        });
      });
      // Also the end of what became another protocol, which nobody asked for.
      asked.on('close', () => {
        settle(answer ?? no('cut'), false);
      });
      asked.end(body);
    });
  }

  /** In TLS 1.3 a client is done before it is known whether its certificate is good (RFC 8446 §4.4.2). */
  #explain(fault: CollectorFault, { reusedSocket }: ClientRequest): CollectorFault {
    const shown = this.#settings.certificate !== null && !this.#plain && !reusedSocket;
    return fault === 'cut' && shown ? 'cut_at_certificate' : fault;
  }
}

export interface CollectorAnswer {
  readonly ok: boolean;
  /** `accepted`: a batch of nothing was taken. `answers`: it was not, and the credential was no reason. */
  readonly what: 'accepted' | 'answers' | CollectorFault;
  /** Fits behind "the collector": one clause. */
  readonly words: string;
}

/** Asks a collector whether it is there and takes what guardbee shows, and stores nothing. For `doctor`. */
export async function askCollector(settings: DeliverySettings, timeoutMs = 5_000): Promise<CollectorAnswer> {
  const collector = new Collector(settings, timeoutMs);
  try {
    const taken = await collector.ask();
    if (taken.ok) return { ok: true, what: 'accepted', words: 'takes records' };
    // There are no records in it, which some find wrong.
    if (COLLECTOR_FAULTS[taken.fault].retry === 'smaller') {
      return { ok: true, what: 'answers', words: 'answers, and does not refuse the credential' };
    }
    return { ok: false, what: taken.fault, words: `does not take records: ${COLLECTOR_FAULTS[taken.fault].words}` };
  } finally {
    collector.close();
  }
}

function asTaken(answer: Taken | 'stale'): Taken {
  return answer === 'stale' ? no('cut') : answer;
}

function no(fault: CollectorFault, retryAfterMs: number | null = null): Taken {
  return { ok: false, fault, retryAfterMs };
}

function isFine({ statusCode = 0 }: IncomingMessage): boolean {
  return statusCode >= 200 && statusCode < 300;
}

/** Null where it says nothing that can be read. Seconds or a date (RFC 9110 §10.2.3). */
function retryAfter(response: IncomingMessage): number | null {
  const value = response.headers['retry-after'];
  if (value === undefined) return null;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, at - Date.now());
}

/** Nothing but the status counts: 2xx has all of it, whether it was there before (208) or not. */
function judge(response: IncomingMessage): Taken {
  const { statusCode = 0 } = response;
  if (isFine(response)) return { ok: true };
  if (statusCode < 400) return no(statusCode >= 300 ? 'redirect' : 'garbage');
  switch (statusCode) {
    case 401:
    case 403:
    case 407:
      return no('unauthorized');
    case 400:
    case 422:
      return no('rejected');
    case 413:
      return no('too_large');
    // 409 is "the first with this key is still being worked on" (draft-ietf-httpapi-idempotency-key-header §2.7), so
    // nothing that could be relied on.
    case 408:
    case 409:
    case 425:
    case 429:
    case 503:
      return no('busy', retryAfter(response));
    case 501:
      return no('no_collector');
    default:
      return statusCode >= 500 ? no('server_error', retryAfter(response)) : no('no_collector');
  }
}

const BY_TLS: Readonly<Record<TlsFault, CollectorFault>> = {
  wrong_name: 'wrong_name',
  expired: 'expired_certificate',
  untrusted: 'untrusted_certificate',
  refused: 'certificate_refused',
  no_tls: 'no_tls',
};

/** Some say no more than this where they want a certificate. */
const HANDSHAKE_REFUSED = /^ERR_SSL_.*ALERT_HANDSHAKE_FAILURE/;

function faultOf({ code = '' }: NodeJS.ErrnoException): CollectorFault {
  switch (code) {
    case 'GUARDBEE_NOT_LOOPBACK':
      return 'not_loopback';
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'name_unknown';
    case 'ECONNRESET':
    case 'EPIPE':
      return 'cut';
    case 'ETIMEDOUT':
      return 'timeout';
    default: {
      if (code.startsWith('HPE_')) return 'garbage';
      const tls = tlsFault(code);
      if (tls === null) return 'unreachable';
      return HANDSHAKE_REFUSED.test(code) ? 'certificate_refused' : BY_TLS[tls];
    }
  }
}
