import type { Exchange } from '../exchange.js';
import { OWN_FOLDER } from '../gate/admit.js';
import { prefersHtml } from '../http/accept.js';
import { readTarget } from '../http/target.js';
import { sessionCookieName } from '../identity/session-cookie.js';
import type { Authenticator, HttpListener, SessionSettings } from '../policy/policy.js';
import { LOGIN_PAGE_FIELDS, loginPage } from './login-page.js';

const LONGEST_NEXT = 2048;

/** Where somebody may be sent after the login: a path of this very origin (CWE-601). Null: it is none. */
export function pathToGoOn(next: string | null | undefined): string | null {
  if (next === null || next === undefined || next.length > LONGEST_NEXT || next.includes('\\')) return null;
  const read = readTarget(next);
  return read.ok && read.target.segments[0] !== OWN_FOLDER ? next : null;
}

/** The page, as an answer. */
export function sendPage(
  exchange: Exchange,
  settings: SessionSettings,
  status: number,
  next: string,
  alert: string | null,
  signedInAs: string | null,
): void {
  const body = loginPage({
    title: settings.title,
    password: settings.loginWith.some((one) => one.type === 'basic'),
    token: settings.loginWith.some((one) => one.type !== 'basic'),
    next,
    alert,
    signedInAs,
  });
  const fields = [...LOGIN_PAGE_FIELDS, 'content-length', String(body.length), 'x-request-id', exchange.requestId];
  if (status === 401) fields.push('www-authenticate', cookieChallenge(exchange.listener));
  if (status === 503) fields.push('retry-after', '5');
  exchange.answer.sendWhole(status, fields, body);
}

/**
 * RFC 9110 §11.6.1 wants a challenge with every 401. `Basic` would make browsers ask in a window of their own, in front of
 * the page; this scheme (draft-broyer-http-cookie-auth) says what is so, and browsers leave it alone.
 */
function cookieChallenge({ name }: HttpListener): string {
  return `Cookie realm="guardbee", form-action="/.guardbee/login", cookie-name="${sessionCookieName(name)}"`;
}

/**
 * The page in place of a 401, for people who open an address in a browser. False: whoever asks is no such, or a session
 * would not help.
 *
 * @param asked who could have said that it is all right
 */
export function sendLoginInstead(exchange: Exchange, asked: readonly Authenticator[]): boolean {
  const { message } = exchange;
  const settings = exchange.listener.sessions;
  if (settings === null || message?.method !== 'GET' || message.webSocket !== null) return false;
  if (!settings.loginWith.some((one) => asked.includes(one)) || !prefersHtml(message.accept)) return false;
  // A script that fetches a page for itself is better served with a problem document.
  if (message.fetchMode !== null && message.fetchMode !== 'navigate') return false;
  sendPage(exchange, settings, 401, pathToGoOn(message.target.raw) ?? '/', null, null);
  return true;
}
