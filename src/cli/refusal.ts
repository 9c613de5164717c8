/**
 * Is a request without a credential really refused: asked of what listens on a listener's address now, whatever that
 * is. It may not be guardbee at all, so only GET and HEAD are ever sent.
 */
import { type RequestOptions, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { DenialReason } from '../denial.js';
import { suppose } from '../gate/policy-tests.js';
import { isUnspecified, parseAddress } from '../net/address.js';
import type { HttpListener, Policy, Route } from '../policy/policy.js';

export interface Question {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  /** What the policy says. */
  readonly expected: { readonly status: number; readonly reason: DenialReason };
}

export type Answer =
  { readonly kind: 'answered'; readonly status: number } | { readonly kind: 'failed'; readonly code: string };

/** Where to reach a listener from this machine; null where that is not known beforehand. */
export function reachableAt(listener: HttpListener): { readonly host: string; readonly port: number } | null {
  const { host, port } = listener.bind;
  if (port === 0) return null;
  const address = parseAddress(host);
  if (address === null || !isUnspecified(address)) return { host, port };
  return { host: address.family === 4 ? '127.0.0.1' : '::1', port };
}

/** A path of no policy; refused where there is no route for everything. */
const NOWHERE = '/.guardbee-doctor';

/**
 * A request without a credential that the policy refuses, for its first route that asks for one; null where the policy
 * refuses nothing that could be asked harmlessly.
 */
export function harmlessQuestion(policy: Policy, listener: HttpListener, nowMs: number): Question | null {
  const candidates = listener.routes.routes.flatMap((route) =>
    route.access.kind === 'require' ? questionsFor(route) : [],
  );
  const judged = [...candidates, { method: 'GET', path: NOWHERE } as const].flatMap((candidate): Question[] => {
    const said = suppose(
      policy,
      {
        listener: listener.name,
        method: candidate.method,
        target: candidate.path,
        host: null,
        // A connection from this machine to one of its own addresses comes from that very address.
        from: reachableAt(listener)?.host ?? '127.0.0.1',
        upgrade: false,
        as: null,
      },
      nowMs,
    );
    return said.kind === 'refused' ? [{ ...candidate, expected: { status: said.status, reason: said.reason } }] : [];
  });
  return judged.find(({ expected }) => expected.reason === 'credential_missing') ?? judged[0] ?? null;
}

function questionsFor(route: Route): { readonly method: 'GET' | 'HEAD'; readonly path: string }[] {
  const method = (['GET', 'HEAD'] as const).find((one) => route.methods === null || route.methods.has(one));
  if (method === undefined) return [];
  const path = route.pattern.replace(/\/\*\*$/, '').replace(/\{[^}]*\}/g, 'doctor');
  return [{ method, path: path === '' ? '/' : path }];
}

const TIMEOUT_MS = 3000;

export async function ask(listener: HttpListener, question: Question): Promise<Answer> {
  const at = reachableAt(listener);
  if (at === null) return { kind: 'failed', code: 'EADDRNOTAVAIL' };
  const [host = 'localhost'] = listener.hosts ?? [];
  const options: RequestOptions = {
    host: at.host,
    port: at.port,
    method: question.method,
    path: question.path,
    headers: { host: host.includes(':') ? `[${host}]` : host },
    agent: false,
    signal: AbortSignal.timeout(TIMEOUT_MS),
  };
  return await new Promise((resolve) => {
    const sent =
      listener.tls === null
        ? httpRequest(options)
        : httpsRequest({
            ...options,
            // Nothing secret is sent and nothing that comes back is believed but the refusal. Whether clients trust the
            // certificate is a check of its own.
            rejectUnauthorized: false,
            servername: parseAddress(host) === null ? host : '',
          });
    sent.on('response', (response) => {
      resolve({ kind: 'answered', status: response.statusCode ?? 0 });
      response.destroy();
    });
    sent.on('error', (error: NodeJS.ErrnoException) => {
      resolve({ kind: 'failed', code: error.name === 'TimeoutError' ? 'ETIMEDOUT' : (error.code ?? error.name) });
    });
    sent.end();
  });
}
