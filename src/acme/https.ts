/** One request to an authority, and its answer, both with bounds. */
import { type Agent, type RequestOptions, request } from 'node:https';
import { type TlsFault, tlsFault } from '../net/tls-fault.js';
import { VERSION } from '../version.js';
import { AcmeFailure } from './failure.js';

export interface Answer {
  readonly status: number;
  /** Lower case. */
  readonly contentType: string;
  readonly body: string;
  readonly location: string | null;
  readonly nonce: string | null;
  readonly retryAfterMs: number | null;
}

const LONGEST_HEAD = 16 * 1024;
/** A chain of certificates is some kilobytes. */
const LONGEST_BODY = 256 * 1024;
/** From the look-up of the name to the last byte. */
const LONGEST_MS = 30_000;

/**
 * Redirects are not followed and proxies of the environment are not used: who answers is who the policy names, proved by
 * its certificate.
 *
 * @throws AcmeFailure `unreachable`, `timeout`, `garbage`, or `local` when `signal` ends it
 */
export function ask(
  url: URL,
  method: 'GET' | 'HEAD' | 'POST',
  body: string | null,
  agent: Agent,
  signal: AbortSignal,
  timeoutMs = LONGEST_MS,
): Promise<Answer> {
  const options: RequestOptions = {
    method,
    agent,
    signal,
    maxHeaderSize: LONGEST_HEAD,
    headers: {
      // RFC 8555 §6.1 wants it.
      'user-agent': `guardbee/${VERSION}`,
      accept: 'application/json, application/problem+json, application/pem-certificate-chain',
      ...(body === null ? {} : { 'content-type': 'application/jose+json', 'content-length': Buffer.byteLength(body) }),
    },
  };
  return new Promise((resolve, reject) => {
    const asked = request(url, options);
    const fail = (failure: AcmeFailure): void => {
      clearTimeout(timer);
      reject(failure);
      asked.destroy();
    };
    const timer = setTimeout(() => {
      fail(new AcmeFailure('timeout', 'it did not answer in time'));
    }, timeoutMs);
    asked.on('error', (error: NodeJS.ErrnoException) => {
      fail(signal.aborted ? new AcmeFailure('local', 'guardbee is being stopped') : whyUnreachable(error));
    });
    asked.on('response', (response) => {
      const pieces: Buffer[] = [];
      let length = 0;
      response.on('data', (piece: Buffer) => {
        length += piece.length;
        if (length > LONGEST_BODY) fail(new AcmeFailure('garbage', 'its answer is far too long'));
        else pieces.push(piece);
      });
      response.on('error', () => {
        fail(new AcmeFailure('unreachable', 'it ended the connection in the middle of its answer'));
      });
      response.on('end', () => {
        clearTimeout(timer);
        const { location, 'content-type': type = '' } = response.headers;
        const nonce = response.headers['replay-nonce'];
        resolve({
          status: response.statusCode ?? 0,
          contentType: (type.split(';', 1)[0] ?? '').trim().toLowerCase(),
          body: Buffer.concat(pieces).toString('utf8'),
          location: location ?? null,
          nonce: typeof nonce === 'string' && /^[\w-]{1,512}$/.test(nonce) ? nonce : null,
          retryAfterMs: retryAfter(response.headers['retry-after']),
        });
      });
    });
    asked.end(body ?? undefined);
  });
}

/** Seconds or a date (RFC 9110 §10.2.3); null where it says nothing that can be read. */
function retryAfter(value: string | undefined): number | null {
  if (value === undefined) return null;
  if (/^\d{1,9}$/.test(value)) return Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : Math.max(0, at - Date.now());
}

const BY_TLS: Readonly<Record<TlsFault, string>> = {
  wrong_name: 'its certificate is for another name than that in acme.directory',
  expired: "its certificate has expired or is not valid yet, by this machine's clock",
  untrusted: 'its certificate is of no authority that is trusted here (acme.ca names one)',
  refused: 'it wants a certificate of ours',
  no_tls: 'it does not speak TLS 1.2 or later there',
};

function whyUnreachable({ code = '' }: NodeJS.ErrnoException): AcmeFailure {
  const because = (words: string): AcmeFailure => new AcmeFailure('unreachable', words);
  switch (code) {
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return because('its name has no address');
    case 'ECONNRESET':
    case 'EPIPE':
      return because('it ended the connection');
    case 'ETIMEDOUT':
      return new AcmeFailure('timeout', 'it did not answer in time');
    default: {
      if (code.startsWith('HPE_')) return new AcmeFailure('garbage', 'what it answers is no HTTP');
      const tls = tlsFault(code);
      if (tls !== null) return because(BY_TLS[tls]);
      return because(`it cannot be reached (${/^[A-Z_]{1,40}$/.test(code) ? code : 'unknown error'})`);
    }
  }
}
