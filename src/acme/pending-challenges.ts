/** What listeners answer an authority with while it looks whether a host is ours. Empty but for that time. */
import type { SecureContext } from 'node:tls';

export const CHALLENGES_BELOW = '/.well-known/acme-challenge/';
/** The one protocol that a ClientHello of a validation offers (RFC 8737 §4). */
export const ACME_TLS_PROTOCOL = 'acme-tls/1';

export class PendingChallenges {
  readonly #http = new Map<string, string>();
  readonly #tls = new Map<string, SecureContext>();

  /** http-01 (RFC 8555 §8.3). @returns takes it back */
  answerHttp(host: string, token: string, keyAuthorization: string): () => void {
    const key = `${host} ${CHALLENGES_BELOW}${token}`;
    this.#http.set(key, keyAuthorization);
    return () => {
      this.#http.delete(key);
    };
  }

  /** tls-alpn-01 (RFC 8737). @returns takes it back */
  answerTls(host: string, context: SecureContext): () => void {
    this.#tls.set(host, context);
    return () => {
      this.#tls.delete(host);
    };
  }

  /** The body of the answer; null: the request is one like any other. @param host lower case, without port */
  http(host: string, path: string): string | null {
    return this.#http.size === 0 ? null : (this.#http.get(`${host} ${path}`) ?? null);
  }

  /** Null: nobody looks for that name now. */
  tls(servername: string): SecureContext | null {
    return this.#tls.size === 0 ? null : (this.#tls.get(servername.toLowerCase()) ?? null);
  }
}
