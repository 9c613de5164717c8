/**
 * Is a request without a credential really refused, and by guardbee: asked of what listens on a listener's address now,
 * whatever that is. It may not be guardbee at all, so only GET and HEAD are ever sent, and the first of them names a
 * path that no policy lets through and no service has.
 */
import { type IncomingMessage, type RequestOptions, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { networkInterfaces } from 'node:os';
import { DENIALS, type DenialReason } from '../../denial.js';
import { FAILURES } from '../../failure.js';
import { suppose } from '../../gate/policy-tests.js';
import { formatAddress, isUnspecified, parseAddress } from '../../net/address.js';
import type { HttpListener, Policy, Route } from '../../policy/policy.js';
import { VERSION } from '../../version.js';
import { addressText } from '../health.js';
import { type Finding, failed, ok, skipped, warn } from './finding.js';
import { PROBE_MS } from './probe.js';
import type { Running } from './running.js';

interface Question {
  readonly method: 'GET' | 'HEAD';
  readonly path: string;
  /** What the policy says. */
  readonly expected: { readonly status: number; readonly reason: DenialReason };
}

type Answer =
  /** `ours`: it has the form that guardbee's own refusals and failures have. */
  | { readonly kind: 'answered'; readonly status: number; readonly ours: boolean }
  | { readonly kind: 'failed'; readonly code: string };

interface At {
  readonly host: string;
  readonly port: number;
}

const LOOK = 'see what listens there (ss -ltnp), and whether it runs with this policy';

/** @param running null: not known whether guardbee runs, nor with which policy */
export async function lookAtRefusal(
  policy: Policy,
  listener: HttpListener,
  running: Running | null,
  nowMs: number,
): Promise<Finding[]> {
  const check = `refusal ${listener.name}`;
  const at = reachableAt(listener);
  if (listener.bind.path !== undefined) {
    return [skipped(check, 'not asked: it is a unix socket of its owner alone', 'try it by hand: curl --unix-socket')];
  }
  if (at === null) {
    return [skipped(check, 'not asked: its port is chosen at each start', 'give it a port of its own')];
  }
  // Whoever has it now is somebody else.
  if (!listener.bind.loopback && !isOwnAddress(at.host)) {
    return [skipped(check, `not asked: ${at.host} is no address of this machine`, 'run doctor where guardbee runs')];
  }
  const question = harmlessQuestion(policy, listener, at, running, nowMs);
  const signal = AbortSignal.timeout(PROBE_MS - 100);
  const first = await ask(listener, at, { method: 'GET', path: NOBODYS_PATH }, signal);
  const where = addressText(at);
  if (first.kind === 'failed') return [judgeSilence(check, where, question, first.code)];
  if (!first.ours) {
    return [failed(check, `it is not guardbee that answers on ${where} (${String(first.status)})`, LOOK)];
  }
  if (question === null) {
    return [
      skipped(
        check,
        `guardbee answers on ${where}; not asked: nothing that can be asked without harm is refused`,
        'try it by hand',
      ),
    ];
  }
  // What another policy would do with the question is not known: it might let it through.
  if (running !== null && running.version !== policy.version) {
    return [
      warn(
        check,
        `not asked: guardbee runs with the policy ${running.version}, and this file is ${policy.version}`,
        'guardbee reload, so that it runs with what the file says',
      ),
    ];
  }
  return [judgeAnswer(check, where, question, await ask(listener, at, question, signal))];
}

function judgeSilence(check: string, where: string, question: Question | null, code: string): Finding {
  if (code === 'ECONNREFUSED') {
    return skipped(check, `not asked: nothing listens on ${where}`, 'run guardbee, then ask again');
  }
  if (question?.expected.reason === 'address_denied' && (code === 'ECONNRESET' || code === 'EPIPE')) {
    return ok(check, `${where} turns this machine away, as allow_from says`);
  }
  return failed(check, `what listens on ${where} does not answer as guardbee would (${code})`, LOOK);
}

function judgeAnswer(check: string, where: string, question: Question, answer: Answer): Finding {
  const asked = `${question.method} ${question.path} without a credential`;
  if (answer.kind === 'failed') return failed(check, `${where} does not answer ${asked} (${answer.code})`, LOOK);
  const { status } = answer;
  if (!answer.ours) {
    return failed(check, `it is not guardbee that answers ${asked} on ${where}: ${String(status)}`, LOOK);
  }
  if (status === 503 || status === 429) return warn(check, `${where} answers ${String(status)} now`, 'ask again later');
  return status === 401 || status === 403 || status === question.expected.status
    ? ok(check, `guardbee on ${where} refuses ${asked}: ${String(status)}`)
    : failed(
        check,
        `guardbee on ${where} answers ${String(status)} to ${asked}, and the policy says ${String(question.expected.status)}`,
        LOOK,
      );
}

/** Where to reach a listener from this machine; null where that is not known beforehand. */
function reachableAt(listener: HttpListener): At | null {
  const { host, port } = listener.bind;
  if (port === 0) return null;
  const address = parseAddress(host);
  if (address === null || !isUnspecified(address)) return { host, port };
  return { host: address.family === 4 ? '127.0.0.1' : '::1', port };
}

function isOwnAddress(host: string): boolean {
  const canonical = canonicalOf(host);
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  return own.some(({ address }) => canonicalOf(address) === canonical);
}

/** Without the zone of a link-local address. */
function canonicalOf(host: string): string {
  const [plain = host] = host.split('%');
  const address = parseAddress(plain);
  return address === null ? plain : formatAddress(address);
}

/** Refused before any rule is looked at (`ambiguous_path`), whatever the policy. */
const NOBODYS_PATH = '/.guardbee-doctor/%2e%2e/';

/** A path of no policy; refused where there is no route for everything. */
const NOWHERE = '/.guardbee-doctor';

/**
 * A request without a credential that the policy refuses, for its first route that asks for one; null where the policy
 * refuses nothing that could be asked harmlessly.
 */
function harmlessQuestion(
  policy: Policy,
  listener: HttpListener,
  at: At,
  running: Running | null,
  nowMs: number,
): Question | null {
  const candidates = listener.routes.routes.flatMap((route) =>
    // Where a GET does something, nobody asks only to see; nor where it is not known with which policy guardbee runs, which
    // may let through what this one refuses.
    running !== null && route.access.kind === 'require' && route.safe ? questionsFor(route) : [],
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
        from: at.host,
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

/** Far more than any refusal of ours. */
const LONGEST_BODY = 16 * 1024;

async function ask(
  listener: HttpListener,
  at: At,
  question: Pick<Question, 'method' | 'path'>,
  signal: AbortSignal,
): Promise<Answer> {
  const [host = 'localhost'] = listener.hosts ?? [];
  const options: RequestOptions = {
    host: at.host,
    port: at.port,
    method: question.method,
    path: question.path,
    headers: { host: host.includes(':') ? `[${host}]` : host, 'user-agent': `guardbee-doctor/${VERSION}` },
    agent: false,
    signal,
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
    const gone = (error: NodeJS.ErrnoException): void => {
      resolve({ kind: 'failed', code: signal.aborted ? 'ETIMEDOUT' : (error.code ?? error.name) });
    };
    sent.on('response', (response) => {
      const chunks: Buffer[] = [];
      let length = 0;
      const end = (): void => {
        const ours = isOurs(response, question.method === 'HEAD' ? null : Buffer.concat(chunks).toString('utf8'));
        resolve({ kind: 'answered', status: response.statusCode ?? 0, ours });
        response.destroy();
      };
      response.on('data', (chunk: Buffer) => {
        length += chunk.length;
        if (length <= LONGEST_BODY) chunks.push(chunk);
        else end();
      });
      response.on('end', end);
      response.on('error', gone);
    });
    sent.on('error', gone);
    sent.end();
  });
}

const TITLES: ReadonlySet<string> = new Set(
  [...Object.values(DENIALS), ...Object.values(FAILURES)].map(({ status, title }) => `${String(status)} ${title}`),
);

/**
 * Has an answer the form of `server/respond`: a problem document (RFC 9457) with one of our titles, whose `instance` is
 * the request id.
 *
 * @param body null: it was not asked for
 */
function isOurs({ statusCode = 0, headers }: IncomingMessage, body: string | null): boolean {
  const id = headers['x-request-id'];
  if (headers['content-type'] !== 'application/problem+json' || typeof id !== 'string') return false;
  if (body === null) return true;
  let problem: unknown;
  try {
    problem = JSON.parse(body);
  } catch {
    return false;
  }
  if (typeof problem !== 'object' || problem === null) return false;
  const { type, title, status, instance } = problem as Readonly<Record<string, unknown>>;
  return (
    type === 'about:blank' &&
    status === statusCode &&
    typeof title === 'string' &&
    TITLES.has(`${String(statusCode)} ${title}`) &&
    (instance === id || instance === `urn:uuid:${id}`)
  );
}
