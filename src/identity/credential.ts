import type { DenialReason } from '../denial.js';
import type { Message } from '../http/message.js';
import type { Carrier } from '../policy/policy.js';
import { sha256Hex } from '../secret/digest.js';

/** What a caller showed. The token itself is not in it: its digest is all that anything after this needs. */
export interface Credential {
  readonly carrier: Carrier;
  /** SHA-256 of the token, 64 lowercase hex digits. */
  readonly sha256: string;
  /** First 6 digits of it: what logs may say. */
  readonly fingerprint: string;
  /** UTF-8 bytes. */
  readonly length: number;
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
const LONGEST = 8192;
/** The subprotocol that announces a token as the next member of the list; Kubernetes and others use such a pair too. */
export const BEARER_SUBPROTOCOL = 'bearer';

/**
 * Reads the one credential of a request out of the enabled carriers. Others are not looked at. Two credentials are
 * refused, not ranked: whichever we preferred, somebody else would prefer the other (RFC 6750 §2).
 */
export function readCredential(message: Message, carriers: ReadonlySet<Carrier>): CredentialResult {
  let carrier: Carrier | null = null;
  let token = '';
  let count = 0;
  if (message.authorization !== null && carriers.has('authorization')) {
    const bearer = BEARER.exec(message.authorization);
    if (bearer !== null) {
      carrier = 'authorization';
      token = bearer[1] ?? '';
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
  if (carrier === null) return NONE;
  if (count > 1) return refused('credential_ambiguous');
  if (token.length > LONGEST || !VISIBLE.test(token)) return refused('credential_malformed');
  const sha256 = sha256Hex(token);
  return { kind: 'shown', credential: { carrier, sha256, fingerprint: sha256.slice(0, 6), length: token.length } };
}

/** Lower-case field name of a carrier; null for the subprotocol, which shares its field with others. */
export function carrierField(carrier: Carrier): string | null {
  switch (carrier) {
    case 'authorization':
      return 'authorization';
    case 'x_api_key':
      return 'x-api-key';
    case 'x_guardbee_token':
      return 'x-guardbee-token';
    case 'subprotocol':
      return null;
  }
}

/** The subprotocols that remain to be offered upstream once the credential pair is taken out. */
export function withoutCredential(subprotocols: readonly string[]): readonly string[] {
  const at = subprotocols.indexOf(BEARER_SUBPROTOCOL);
  return at === -1 ? subprotocols : subprotocols.filter((_, index) => index !== at && index !== at + 1);
}
