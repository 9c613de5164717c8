import { inspect } from 'node:util';
import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';
import type { Carrier } from '../policy/policy.js';
import { sha256Hex } from '../secret/digest.js';

/** What a caller showed. Whoever only compares digests never sees the text; it prints as a mask. */
export class Credential {
  readonly carrier: Carrier;
  /** SHA-256 of the text, 64 lowercase hex digits. */
  readonly sha256: string;
  /** First 6 digits of it: what logs may say. */
  readonly fingerprint: string;
  readonly #text: string;

  constructor(carrier: Carrier, text: string) {
    this.carrier = carrier;
    this.sha256 = sha256Hex(text);
    this.fingerprint = this.sha256.slice(0, 6);
    this.#text = text;
  }

  /** Characters; all are visible ASCII. */
  get length(): number {
    return this.#text.length;
  }

  /** The token, the base64 of name and password, the cookie's value. For the one who proves it. */
  reveal(): string {
    return this.#text;
  }

  toJSON(): string {
    return '[credential]';
  }

  toString(): string {
    return '[credential]';
  }

  [inspect.custom](): string {
    return '[credential]';
  }
}

export type CredentialResult =
  | { readonly kind: 'none' }
  | { readonly kind: 'shown'; readonly credential: Credential }
  | { readonly kind: 'refused'; readonly reason: DenialReason };

const NONE: CredentialResult = { kind: 'none' };
const refused = (reason: DenialReason): CredentialResult => ({ kind: 'refused', reason });

/** RFC 6750 §2.1 takes token68; API keys in the wild hold any visible ASCII. */
const VISIBLE = /^[\x21-\x7e]+$/;
/** The scheme is matched without regard to case (RFC 9110 §11.1). */
const BEARER = /^bearer(?: +(.*))?$/i;
const BASIC = /^basic(?: +(.*))?$/i;
const LONGEST = 8192;
/** The subprotocol that announces a token as the next member of the list; Kubernetes and others use such a pair too. */
export const BEARER_SUBPROTOCOL = 'bearer';

/**
 * Reads the one credential of a request out of the enabled carriers. Others are not looked at. Two credentials are
 * refused, not ranked: whichever we preferred, somebody else would prefer the other (RFC 6750 §2). A client certificate
 * and an address are not in the message: they accompany one.
 *
 * @param cookieName the session cookie of the listener; null: there are no sessions
 */
export function readCredential(
  message: Message,
  carriers: ReadonlySet<Carrier>,
  cookieName: string | null = null,
): CredentialResult {
  if (message.repeated === 'nothing') return credentialOf(message, carriers, cookieName);
  const known = repeated.get(message.fields);
  // The carriers are those of a route, so one object.
  if (known?.carriers === carriers && known.cookieName === cookieName) return known.result;
  const result = credentialOf(message, carriers, cookieName);
  repeated.set(message.fields, { carriers, cookieName, result });
  return result;
}

interface Known {
  readonly carriers: ReadonlySet<Carrier>;
  readonly cookieName: string | null;
  readonly result: CredentialResult;
}

/** By the fields: a credential is nowhere else. */
const repeated = new WeakMap<readonly string[], Known>();

function credentialOf(message: Message, carriers: ReadonlySet<Carrier>, cookieName: string | null): CredentialResult {
  let carrier: Carrier | null = null;
  let token = '';
  let count = 0;
  if (message.authorization !== null) {
    const bearer = carriers.has('authorization') ? BEARER.exec(message.authorization) : null;
    const basic = bearer === null && carriers.has('basic') ? BASIC.exec(message.authorization) : null;
    const found = bearer ?? basic;
    if (found !== null) {
      carrier = bearer === null ? 'basic' : 'authorization';
      token = found[1] ?? '';
      count += 1;
    }
  }
  if (message.apiKey.length > 0 && carriers.has('x_api_key')) {
    carrier = 'x_api_key';
    token = message.apiKey[0] ?? '';
    count += message.apiKey.length;
  }
  if (message.guardbeeToken.length > 0 && carriers.has('x_guardbee_token')) {
    carrier = 'x_guardbee_token';
    token = message.guardbeeToken[0] ?? '';
    count += message.guardbeeToken.length;
  }
  if (message.webSocket !== null && carriers.has('subprotocol')) {
    const at = message.webSocket.subprotocols.indexOf(BEARER_SUBPROTOCOL);
    if (at !== -1) {
      carrier = 'subprotocol';
      token = message.webSocket.subprotocols[at + 1] ?? '';
      count += 1;
    }
  }
  if (cookieName !== null && message.cookie !== null && carriers.has('cookie')) {
    const values = cookieValues(message.cookie, cookieName);
    if (values.length > 0) {
      carrier = 'cookie';
      token = values[0] ?? '';
      count += values.length;
    }
  }
  if (carrier === null) return NONE;
  if (count > 1) return refused('credential_ambiguous');
  if (token.length > LONGEST || !VISIBLE.test(token)) return refused('credential_malformed');
  return { kind: 'shown', credential: new Credential(carrier, token) };
}

/** Every value that a Cookie field has for a name (RFC 6265 §4.2.1). */
export function cookieValues(field: string, name: string): string[] {
  const values: string[] = [];
  for (const pair of field.split(';')) {
    const equals = pair.indexOf('=');
    if (equals !== -1 && pair.slice(0, equals).trim() === name) values.push(pair.slice(equals + 1).trim());
  }
  return values;
}

/** Lower-case field name of a carrier; null where it has no field to itself. */
export function carrierField(carrier: Carrier): string | null {
  switch (carrier) {
    case 'authorization':
    case 'basic':
      return 'authorization';
    case 'x_api_key':
      return 'x-api-key';
    case 'x_guardbee_token':
      return 'x-guardbee-token';
    case 'subprotocol':
    case 'cookie':
    case 'certificate':
    case 'address':
      return null;
  }
}

/** The subprotocols that remain to be offered upstream once the credential pair is taken out. */
export function withoutCredential(subprotocols: readonly string[]): readonly string[] {
  const at = subprotocols.indexOf(BEARER_SUBPROTOCOL);
  return at === -1 ? subprotocols : subprotocols.filter((_, index) => index !== at && index !== at + 1);
}
