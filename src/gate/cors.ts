/** CORS (WHATWG Fetch, "HTTP extensions"): which pages of other origins may ask, and read what they get. */
import { listMembers } from '../http/fields.js';
import type { Message } from '../http/message.js';
import { readOrigin } from '../http/origin.js';
import { type Sharing, UNSHARED } from '../http/sharing.js';
import { AMBIENT_CARRIERS, type Carrier, type CorsSettings, type HttpListener } from '../policy/policy.js';
import type { Admission } from './admit.js';
import { provenance } from './cross-site.js';

/** Origins that are no address on the web, such as `tauri://localhost`. Never `null`, which many pages are. */
const ORIGIN = /^[a-z][a-z0-9+.-]*:\/\/[^\s,/?#]+$/i;

function sharedWith(cors: CorsSettings, origin: string | null): Sharing | null {
  if (origin === null) return null;
  if (cors.any !== null) return ORIGIN.test(origin) ? cors.any : null;
  const read = readOrigin(origin);
  return read === null ? null : (cors.origins.get(read) ?? null);
}

/** For each answer on this listener, our own included. Null: there is nothing to say. */
export function sharingOn({ cors }: HttpListener, message: Message | null): Sharing | null {
  if (cors === null || message?.webSocket !== null) return null;
  return sharedWith(cors, message.origin) ?? cors.others;
}

/**
 * For the upstream's answer. What it says itself passes where the listener has no `cors`, unless it was asked by another
 * site with what the browser showed by itself: a service on loopback that shares with everyone never meant that.
 */
export function sharingOfAnswer(admission: Admission, carrier: Carrier | null): Sharing | null {
  const { listener, message, scheme } = admission;
  if (listener.cors !== null) return sharingOn(listener, message);
  if (message.origin === null || carrier === null || !AMBIENT_CARRIERS.has(carrier)) return null;
  return provenance(message, scheme, listener.origins) === 'foreign' ? UNSHARED : null;
}

/** A browser asks whether it may ask. */
export function isPreflight(listener: HttpListener, message: Message): boolean {
  if (listener.cors === null || message.method !== 'OPTIONS' || message.origin === null) return false;
  return requested(message, 'access-control-request-method') !== null;
}

/** The fields of the answer to a preflight, or null where the page may not. */
export function answerPreflight(cors: CorsSettings, message: Message): readonly string[] | null {
  const shared = sharedWith(cors, message.origin);
  if (shared === null) return null;
  const method = requested(message, 'access-control-request-method') ?? '';
  if (!cors.methods.has(method)) return null;
  const wanted = listMembers(requested(message, 'access-control-request-headers') ?? '');
  if (!wanted.every((name) => cors.headers.has(name.toLowerCase()))) return null;
  return ['access-control-allow-origin', shared.fields[1] ?? '', ...cors.preflight];
}

/** All fields of a name, joined. */
function requested({ fields }: Message, name: string): string | null {
  let found: string | null = null;
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === name) found = found === null ? (fields[i + 1] ?? '') : `${found},${fields[i + 1] ?? ''}`;
  }
  return found;
}
