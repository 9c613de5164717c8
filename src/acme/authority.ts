/** An ACME server (RFC 8555), as it is spoken to: directory, nonces, signed requests, and what it answers, read with distrust. */
import { Agent } from 'node:https';
import type { AcmeSettings } from '../policy/policy.js';
import type { AccountKey } from './account-key.js';
import { AcmeFailure, inWords } from './failure.js';
import { type Answer, ask } from './https.js';

interface Directory {
  readonly newNonce: URL;
  readonly newAccount: URL;
  readonly newOrder: URL;
  /** It takes nobody who has no account with its operator. */
  readonly externalAccountRequired: boolean;
}

export interface Order {
  readonly url: URL;
  readonly status: 'pending' | 'ready' | 'processing' | 'valid' | 'invalid';
  readonly authorizations: readonly URL[];
  readonly finalize: URL;
  /** Null until it is valid. */
  readonly certificate: URL | null;
  /** Why it is invalid. Empty where it does not say. */
  readonly problem: string;
  readonly retryAfterMs: number | null;
}

export interface Challenge {
  readonly type: string;
  readonly url: URL;
  readonly token: string;
  /** What was wrong with the answer. Empty where nothing is said. */
  readonly problem: string;
}

export interface Authorization {
  /** `pending`, `valid`, `invalid`, or one of those that are over. */
  readonly status: string;
  readonly host: string;
  readonly challenges: readonly Challenge[];
  readonly retryAfterMs: number | null;
}

/** Answers to one request whose nonce was not accepted (RFC 8555 §6.5). */
const MOST_NONCES = 12;
const ORDER_STATUS = ['pending', 'ready', 'processing', 'valid', 'invalid'] as const;

export class Authority {
  readonly #settings: AcmeSettings;
  readonly #key: AccountKey;
  readonly #signal: AbortSignal;
  readonly #agent: Agent;
  #directory: Directory | null = null;
  #nonce: string | null = null;
  /** URL of the account; null: not known yet. */
  account: string | null = null;

  constructor(settings: AcmeSettings, key: AccountKey, signal: AbortSignal) {
    this.#settings = settings;
    this.#key = key;
    this.#signal = signal;
    const { authority } = settings;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: 1,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.2',
      ...(authority === null ? {} : { ca: authority.caPem }),
      ...(authority?.partialChain === true ? { allowPartialTrustChain: true } : {}),
    });
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Finds the account of the key, or makes one. */
  async openAccount(): Promise<string> {
    const { email, externalAccount } = this.#settings;
    const directory = await this.#read();
    if (directory.externalAccountRequired && externalAccount === null) {
      throw new AcmeFailure('refused', 'it takes nobody without acme.external_account');
    }
    const url = directory.newAccount;
    const answer = await this.#post(url, {
      termsOfServiceAgreed: true,
      ...(email === null ? {} : { contact: [`mailto:${email}`] }),
      ...(externalAccount === null
        ? {}
        : { externalAccountBinding: this.#key.bind(url.href, externalAccount.keyId, externalAccount.key) }),
    });
    const account = urlOf(answer.location, 'of the account');
    this.account = account.href;
    return account.href;
  }

  /** Tells it who is to be written to. */
  async tellContact(): Promise<void> {
    const { email } = this.#settings;
    if (this.account === null) throw new TypeError('there is no account yet');
    await this.#post(new URL(this.account), { contact: email === null ? [] : [`mailto:${email}`] });
  }

  async newOrder(host: string): Promise<Order> {
    const { newOrder } = await this.#read();
    const answer = await this.#post(newOrder, { identifiers: [{ type: 'dns', value: host }] });
    return orderOf(answer, urlOf(answer.location, 'of the order'));
  }

  async order(url: URL): Promise<Order> {
    return orderOf(await this.#post(url, null), url);
  }

  async authorization(url: URL): Promise<Authorization> {
    return authorizationOf(await this.#post(url, null));
  }

  /** Says that the response is in its place. */
  async accept(challenge: Challenge): Promise<void> {
    await this.#post(challenge.url, {});
  }

  /** @param csr DER */
  async finalize(order: Order, csr: Buffer): Promise<Order> {
    return orderOf(await this.#post(order.finalize, { csr: csr.toString('base64url') }), order.url);
  }

  /** The chain as it was sent, PEM. */
  async certificate(url: URL): Promise<string> {
    const answer = await this.#post(url, null);
    if (answer.contentType !== 'application/pem-certificate-chain') {
      throw new AcmeFailure('garbage', 'what it gives as a certificate is none');
    }
    return answer.body;
  }

  async #read(): Promise<Directory> {
    if (this.#directory !== null) return this.#directory;
    const answer = await this.#ask(new URL(this.#settings.directory), 'GET', null);
    if (answer.status !== 200) throw refusalOf(answer);
    const read = objectOf(answer.body);
    const meta = isObject(read['meta']) ? read['meta'] : {};
    this.#directory = {
      newNonce: urlOf(read['newNonce'], 'newNonce'),
      newAccount: urlOf(read['newAccount'], 'newAccount'),
      newOrder: urlOf(read['newOrder'], 'newOrder'),
      externalAccountRequired: meta['externalAccountRequired'] === true,
    };
    return this.#directory;
  }

  async #takeNonce(): Promise<string> {
    const kept = this.#nonce;
    this.#nonce = null;
    if (kept !== null) return kept;
    const { newNonce } = await this.#read();
    const answer = await this.#ask(newNonce, 'HEAD', null);
    if (answer.status >= 400) throw refusalOf(answer);
    this.#nonce = null;
    if (answer.nonce === null) throw new AcmeFailure('garbage', 'it gives no nonce');
    return answer.nonce;
  }

  async #post(url: URL, payload: unknown): Promise<Answer> {
    for (let attempt = 1; ; attempt += 1) {
      const nonce = await this.#takeNonce();
      const answer = await this.#ask(url, 'POST', this.#key.sign(url.href, nonce, this.account, payload));
      if (answer.status >= 200 && answer.status < 300) return answer;
      if (attempt < MOST_NONCES && problemType(answer) === 'badNonce') continue;
      throw refusalOf(answer);
    }
  }

  async #ask(url: URL, method: 'GET' | 'HEAD' | 'POST', body: string | null): Promise<Answer> {
    const answer = await ask(url, method, body, this.#agent, this.#signal);
    this.#nonce = answer.nonce;
    return answer;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objectOf(body: string): Readonly<Record<string, unknown>> {
  try {
    const read = JSON.parse(body) as unknown;
    if (isObject(read)) return read;
  } catch {
    // Said below.
  }
  throw new AcmeFailure('garbage', 'what it answers is no ACME');
}

/** What it names must be reached as safely as itself. */
function urlOf(value: unknown, which: string): URL {
  if (typeof value === 'string' && value.length <= 2048 && URL.canParse(value)) {
    const url = new URL(value);
    if (url.protocol === 'https:' && url.username === '' && url.password === '') return url;
  }
  throw new AcmeFailure('garbage', `the URL ${which} that it gives is none, or not https`);
}

function problemOf(answer: Answer): { readonly type: string; readonly words: string } {
  if (answer.contentType !== 'application/problem+json') return { type: '', words: '' };
  try {
    return problemIn(JSON.parse(answer.body) as unknown);
  } catch {
    return { type: '', words: '' };
  }
}

/** A problem document (RFC 7807); `urn:ietf:params:acme:error:` is left out of its type. */
function problemIn(value: unknown): { readonly type: string; readonly words: string } {
  if (!isObject(value)) return { type: '', words: '' };
  const urn = value['type'];
  const type = typeof urn === 'string' ? (/^urn:ietf:params:acme:error:([A-Za-z]{1,40})$/.exec(urn)?.[1] ?? '') : '';
  const detail = inWords(value['detail']);
  return { type, words: [type, detail].filter((part) => part !== '').join(': ') };
}

function problemType(answer: Answer): string {
  return problemOf(answer).type;
}

function refusalOf(answer: Answer): AcmeFailure {
  const { type, words } = problemOf(answer);
  const said = words === '' ? `status ${String(answer.status)}` : words;
  if (type === 'rateLimited' || answer.status === 429) {
    return new AcmeFailure('rate_limited', `it limits how often it is asked (${said})`, answer.retryAfterMs);
  }
  if (type === 'accountDoesNotExist') return new AcmeFailure('account_gone', 'it does not know the account');
  if (answer.status >= 300 && answer.status < 400) {
    return new AcmeFailure('garbage', 'it sends elsewhere, and redirects are not followed');
  }
  if (answer.status < 400) return new AcmeFailure('garbage', 'what it answers is no ACME');
  const fault = answer.status >= 500 ? 'unavailable' : 'refused';
  return new AcmeFailure(fault, `it refuses (${said})`, answer.retryAfterMs);
}

/** One host needs one; what has many is no order of ours. */
const MOST_AUTHORIZATIONS = 8;
const MOST_CHALLENGES = 32;

function orderOf(answer: Answer, url: URL): Order {
  const read = objectOf(answer.body);
  const status = ORDER_STATUS.find((one) => one === read['status']);
  const authorizations = read['authorizations'];
  if (status === undefined || !Array.isArray(authorizations) || authorizations.length > MOST_AUTHORIZATIONS) {
    throw new AcmeFailure('garbage', 'the order that it gives is none');
  }
  return {
    url,
    status,
    authorizations: authorizations.map((one: unknown) => urlOf(one, 'of an authorization')),
    finalize: urlOf(read['finalize'], 'finalize'),
    certificate: read['certificate'] === undefined ? null : urlOf(read['certificate'], 'of the certificate'),
    problem: problemIn(read['error']).words,
    retryAfterMs: answer.retryAfterMs,
  };
}

/** base64url of 128 bits at least (RFC 8555 §8.1); nothing else may come into a path. */
const TOKEN = /^[\w-]{22,256}$/;

function authorizationOf(answer: Answer): Authorization {
  const read = objectOf(answer.body);
  const { identifier, challenges, status, wildcard } = read;
  if (
    typeof status !== 'string' ||
    !isObject(identifier) ||
    typeof identifier['value'] !== 'string' ||
    wildcard === true ||
    !Array.isArray(challenges) ||
    challenges.length > MOST_CHALLENGES
  ) {
    throw new AcmeFailure('garbage', 'the authorization that it gives is none');
  }
  return {
    status,
    host: identifier['value'].toLowerCase(),
    challenges: challenges.flatMap((one: unknown): Challenge[] => {
      // Of kinds that are not known here some have no token.
      if (!isObject(one) || typeof one['type'] !== 'string' || typeof one['token'] !== 'string') return [];
      if (!TOKEN.test(one['token'])) return [];
      return [
        {
          type: one['type'],
          url: urlOf(one['url'], 'of a challenge'),
          token: one['token'],
          problem: problemIn(one['error']).words,
        },
      ];
    }),
    retryAfterMs: answer.retryAfterMs,
  };
}
