/**
 * guardbee's own pages, below `/.guardbee/` of a listener with sessions: login, logout, refresh. They are asked for like
 * everything else (address, host, trusted proxies), and what is shown there is proven by those who prove it on requests.
 */
import { randomBytes } from 'node:crypto';
import { DENIALS, type DenialReason } from '../denial.js';
import type { OwnPage } from '../exchange-record.js';
import type { Exchange } from '../exchange.js';
import { type Arrival, arrive } from '../gate/admit.js';
import { type Provenance, provenance } from '../gate/cross-site.js';
import { prefersHtml } from '../http/accept.js';
import { type Message, hasBody } from '../http/message.js';
import { type Authentication, authenticateLogin, loginCarriers } from '../identity/authenticate.js';
import type { Caller } from '../identity/caller.js';
import { Credential, readCredential } from '../identity/credential.js';
import type { Identity } from '../identity/identity.js';
import type { Provers } from '../identity/provers.js';
import type { Revocations } from '../identity/revocation.js';
import { type Session, beginSession, sealSession } from '../identity/session.js';
import { clearSessionCookie, sessionCookieName, setSessionCookie } from '../identity/session-cookie.js';
import { type SessionProver, sessionOf } from '../identity/session-prover.js';
import type { HttpListener, SessionSettings } from '../policy/policy.js';
import { pathToGoOn, sendPage } from './login-answer.js';
import { judgeFormHead, readForm } from './login-form.js';
import { denialAnswer } from './respond.js';
import type { SlowDenials } from './slow-denials.js';

const FORM_FIELDS: ReadonlySet<string> = new Set(['username', 'password', 'token', 'next']);
const ONLY_COOKIE = new Set(['cookie'] as const);

/** The client has gone, or was answered: asked anew after each wait. */
function over(exchange: Exchange): boolean {
  return exchange.finished;
}

/** One request for a page of ours. */
interface Asking {
  readonly exchange: Exchange;
  readonly listener: HttpListener;
  readonly settings: SessionSettings;
  readonly message: Message;
  readonly arrival: Arrival;
  readonly html: boolean;
  readonly from: Provenance;
}

export class SessionPages {
  readonly #prover: SessionProver;
  readonly #provers: Provers;
  readonly #revocations: Revocations;
  readonly #denials: Pick<SlowDenials, 'answer'>;

  constructor(prover: SessionProver, provers: Provers, revocations: Revocations, denials: Pick<SlowDenials, 'answer'>) {
    this.#prover = prover;
    this.#provers = provers;
    this.#revocations = revocations;
    this.#denials = denials;
  }

  /** Rejects only where we are broken. */
  async serve(exchange: Exchange, message: Message, caller: Caller): Promise<void> {
    const { listener } = exchange;
    const settings = listener.sessions;
    if (settings === null) throw new TypeError('a listener without sessions has no pages of its own');
    const arrival = arrive(listener, message, caller);
    if (!arrival.arrived) {
      refuse(exchange, arrival.reason);
      return;
    }
    exchange.knows({ client: arrival.at, requestId: arrival.requestId, identity: null, fingerprint: null });
    const asking: Asking = {
      exchange,
      listener,
      settings,
      message,
      arrival,
      html: prefersHtml(message.accept),
      from: provenance(message, arrival.scheme, listener.origins),
    };
    const page = message.target.segments.length === 2 ? message.target.segments[1] : undefined;
    const { method } = message;
    if (page === 'login' && (method === 'GET' || method === 'HEAD')) await this.#show(asking);
    else if (page === 'login' && method === 'POST') await this.#login(asking);
    else if (page === 'logout' && method === 'POST') await this.#logout(asking);
    else if (page === 'refresh' && method === 'POST') await this.#refresh(asking);
    else if (page === 'login') refuse(exchange, 'own_page_method', ['allow', 'GET, HEAD, POST']);
    else if (page === 'logout' || page === 'refresh') refuse(exchange, 'own_page_method', ['allow', 'POST']);
    else refuse(exchange, 'own_page_unknown');
  }

  /** The page, or who is signed in already. */
  async #show(asking: Asking): Promise<void> {
    const { exchange, message } = asking;
    if (message.webSocket !== null) {
      refuse(exchange, 'upgrade_unsupported');
      return;
    }
    const shown = await this.#shown(asking);
    const identity = shown.proof?.ok === true ? shown.proof.identity : null;
    if (over(exchange)) return;
    this.#note(asking, identity, shown.credential);
    const next = pathToGoOn(new URLSearchParams(message.target.query ?? '').get('next')) ?? '/';
    this.#page(asking, 200, 'login_page', next, null, identity?.name ?? null);
  }

  async #login(asking: Asking): Promise<void> {
    const { exchange, message, listener, settings } = asking;
    const read = hasBody(message.framing) ? await typed(asking) : bare(asking);
    if (over(exchange)) return;
    if (!read.ok) {
      this.#refuseLogin(asking, read.reason, '/');
      return;
    }
    const { credential, isTyped, next } = read;
    // A form can be sent from any page; a credential in a field of its own, only by who may set it.
    if (asking.from === 'foreign' || (asking.from === 'unsaid' && isTyped)) {
      this.#refuseLogin(asking, 'cross_site', next);
      return;
    }
    const nowMs = exchange.startedAtMs;
    const proved = await authenticateLogin(settings, credential, asking.arrival.at, isTyped, nowMs, this.#provers);
    if (over(exchange)) return;
    this.#note(asking, proved.ok ? proved.identity : null, credential);
    if (!proved.ok) {
      const { reason, attempt } = proved;
      this.#denials.answer(exchange, { reason, client: asking.arrival.at, attempt }, () => {
        this.#refuseLogin(asking, reason, next);
      });
      return;
    }
    const value = this.#begin(listener, settings, proved, credential, nowMs);
    if (value === null) {
      this.#refuseLogin(asking, 'session_too_large', next);
      return;
    }
    const lasts = Math.min(settings.lifetimeMs, proved.identity.expiresAtMs - nowMs);
    this.#done(asking, 'login', next, setSessionCookie(listener.name, value, lasts, settings.sameSite));
  }

  #begin(
    listener: HttpListener,
    settings: SessionSettings,
    { identity }: Extract<Authentication, { ok: true }>,
    credential: Credential,
    nowMs: number,
  ): string | null {
    const [key] = this.#prover.keysOf(listener);
    const authenticator = settings.loginWith.find((one) => one.name === identity.authenticator);
    if (key === undefined || authenticator === undefined) throw new TypeError('nobody here begins sessions');
    const id = randomBytes(16).toString('hex');
    const session = beginSession(settings, authenticator, identity, credential, key, id, nowMs);
    return session === null ? null : sealSession(session, key);
  }

  async #logout(asking: Asking): Promise<void> {
    const { exchange, listener } = asking;
    if (asking.from !== 'ours') {
      refuse(exchange, 'cross_site');
      return;
    }
    const { credential, proof } = await this.#shown(asking);
    if (over(exchange)) return;
    // A session that is no longer good needs no end; the cookie goes all the same.
    if (proof?.ok === true) {
      this.#note(asking, proof.identity, credential);
      const own = sessionOf(proof.identity, listener);
      try {
        if (own !== null) await this.#revocations.revoke(own, exchange.startedAtMs);
      } catch {
        // The store is away: better said than believed to be signed out.
        if (!over(exchange)) refuse(exchange, 'logout_failed');
        return;
      }
      if (over(exchange)) return;
    }
    this.#done(asking, 'logout', '/.guardbee/login', clearSessionCookie(listener.name));
  }

  /** The same session, sealed with the key that signs now: what is kept over a rotation of keys. */
  async #refresh(asking: Asking): Promise<void> {
    const { exchange, listener, settings } = asking;
    if (asking.from !== 'ours') {
      refuse(exchange, 'cross_site');
      return;
    }
    const { credential, proof } = await this.#shown(asking);
    if (over(exchange)) return;
    if (credential === null || proof === null) {
      refuse(exchange, 'credential_missing');
      return;
    }
    this.#note(asking, proof.ok ? proof.identity : null, credential);
    if (!proof.ok) {
      refuse(exchange, proof.reason);
      return;
    }
    const nowMs = exchange.startedAtMs;
    const session: Session | null = this.#prover.renewed(listener, credential, nowMs);
    const [key] = this.#prover.keysOf(listener);
    const value = session === null || key === undefined ? null : sealSession(session, key);
    if (session === null || value === null) {
      refuse(exchange, 'credential_expired');
      return;
    }
    const lasts = proof.identity.expiresAtMs - nowMs;
    this.#done(asking, 'refresh', '/', setSessionCookie(listener.name, value, lasts, settings.sameSite));
  }

  /** The session that came with the request, whatever else did. */
  async #shown({ exchange, listener, message }: Asking): Promise<{
    readonly credential: Credential | null;
    readonly proof: Awaited<ReturnType<Provers['session']>> | null;
  }> {
    const read = readCredential(message, ONLY_COOKIE, sessionCookieName(listener.name));
    if (read.kind !== 'shown') return { credential: null, proof: null };
    const { credential } = read;
    return { credential, proof: await this.#prover.prove(listener, credential, exchange.startedAtMs) };
  }

  #note({ exchange, arrival }: Asking, identity: Identity | null, credential: Credential | null): void {
    exchange.knows({
      client: arrival.at,
      requestId: arrival.requestId,
      identity,
      fingerprint: credential?.fingerprint ?? null,
    });
  }

  #done({ exchange, html }: Asking, page: OwnPage, next: string, cookie: string): void {
    const status = html ? 303 : 204;
    exchange.answeredBy(page, status, () => {
      const fields = ['cache-control', 'no-store', 'set-cookie', cookie, 'x-request-id', exchange.requestId];
      if (html) fields.push('location', next, 'content-length', '0');
      exchange.answer.sendWhole(status, fields, Buffer.alloc(0));
    });
  }

  /** People see the page again, programs a problem document. */
  #refuseLogin(asking: Asking, reason: DenialReason | null, next: string): void {
    const { exchange, html } = asking;
    if (reason === null) {
      exchange.failed('client_gone');
      exchange.answer.abort();
      return;
    }
    if (!html) {
      refuse(exchange, reason, [], asking.settings);
      return;
    }
    const { status, title } = DENIALS[reason];
    // One text for every credential that is not good: it never tells whether there is such a user.
    const alert = status === 401 ? 'That did not work. Check what you entered, and try again.' : `${title}.`;
    exchange.denied(reason, () => {
      sendPage(exchange, asking.settings, status, next, alert, null);
    });
  }

  #page(asking: Asking, status: number, page: OwnPage, next: string, alert: string | null, who: string | null): void {
    asking.exchange.answeredBy(page, status, () => {
      sendPage(asking.exchange, asking.settings, status, next, alert, who);
    });
  }
}

type LoginRead =
  | { readonly ok: true; readonly credential: Credential; readonly isTyped: boolean; readonly next: string }
  | { readonly ok: false; readonly reason: DenialReason | null };

const no = (reason: DenialReason | null): LoginRead => ({ ok: false, reason });

/** A program that shows what it has as it does on requests. */
function bare({ message, settings }: Asking): LoginRead {
  const read = readCredential(message, loginCarriers(settings));
  if (read.kind === 'refused') return no(read.reason);
  if (read.kind === 'none') return no('credential_missing');
  return { ok: true, credential: read.credential, isTyped: false, next: '/' };
}

/** What somebody typed into the page. */
async function typed({ exchange, listener, message, settings }: Asking): Promise<LoginRead> {
  const wrong = judgeFormHead(message);
  if (wrong !== null) return no(wrong);
  if (readCredential(message, loginCarriers(settings)).kind !== 'none') return no('credential_ambiguous');
  if (message.expectsContinue) exchange.answer.sendContinue();
  const form = await readForm(exchange.answer.body, FORM_FIELDS, listener.timeouts.bodyMs);
  if (!form.ok) return no(form.reason);
  const username = form.fields.get('username');
  const password = form.fields.get('password');
  const token = form.fields.get('token')?.trim();
  const next = pathToGoOn(form.fields.get('next')) ?? '/';
  if (token !== undefined) {
    if (username !== undefined || password !== undefined) return no('credential_ambiguous');
    if (token === '') return no('credential_missing');
    if (!/^[\x21-\x7e]{1,8192}$/.test(token)) return no('credential_malformed');
    return { ok: true, credential: new Credential('authorization', token), isTyped: true, next };
  }
  if (username === undefined || password === undefined) return no('login_malformed');
  // RFC 7617 §2: neither may have control characters, and a user name has no colon.
  if (username === '' || username.includes(':') || /\p{Cc}/u.test(`${username}${password}`)) {
    return no('credential_invalid');
  }
  const pair = Buffer.from(`${username}:${password}`, 'utf8').toString('base64');
  return { ok: true, credential: new Credential('basic', pair), isTyped: true, next };
}

function refuse(
  exchange: Exchange,
  reason: DenialReason,
  more: readonly string[] = [],
  settings: SessionSettings | null = null,
): void {
  exchange.denied(reason, () => {
    const answer = denialAnswer(reason, exchange.requestId, settings?.loginWith ?? []);
    exchange.answer.sendWhole(answer.status, [...answer.fields, ...more], answer.body);
  });
}
