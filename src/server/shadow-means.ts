import { type HeldBody, type HoldBody, type Means, type WantedBody, proveWith } from '../gate/decide.js';
import type { Owners } from '../gate/owners.js';
import type { Authentication } from '../identity/authenticate.js';
import { BasicProver, type PasswordCheck } from '../identity/basic.js';
import { JwksSource } from '../identity/jwks.js';
import { JwtProver } from '../identity/jwt.js';
import { FileKeys } from '../identity/key-source.js';
import { POLICY_ALONE, type Provers } from '../identity/provers.js';
import type { Revocations } from '../identity/revocation.js';
import type { SessionKey } from '../identity/session.js';
import { SessionProver } from '../identity/session-prover.js';
import type { Log } from '../observe/log.js';
import { constant } from '../observe/redact.js';
import type { Undecided } from '../observe/shadow-findings.js';
import type { HttpListener, Policy } from '../policy/policy.js';
import { PolicyLimits } from '../state/limits.js';
import { PasswordThread } from './password-thread.js';

/** Ends a decision of which nothing can be known; the gate itself knows permits and refusals alone. */
export class Undecidable extends Error {
  override readonly name = 'Undecidable';
  readonly why: Exclude<Undecided, 'error'>;

  constructor(why: Exclude<Undecided, 'error'>) {
    super(why);
    this.why = why;
  }
}

/** What came of holding a body for the policy in force. */
export interface Kept {
  /** In bytes: what it would have taken. */
  readonly most: number;
  readonly body: HeldBody;
}

/** What a second policy may look at. All of it belongs to the policy in force and is only read. */
export interface Borrowed {
  readonly revocations: Revocations;
  readonly owners: Pick<Owners, 'isOwner'> & { keeps(upstream: string): boolean };
  /** Session keys by the name of the listener. */
  readonly rings: ReadonlyMap<string, readonly SessionKey[]>;
  readonly log: Pick<Log, 'warn' | 'error' | 'errorFields'>;
  /** Monotonic milliseconds. */
  ticks(): number;
}

/** One request that the second policy is asked about. */
export interface SecondAsked {
  readonly listener: HttpListener;
  readonly second: HttpListener;
  /** Null: the policy in force held no body. */
  readonly kept: Kept | null;
  /** Name of the upstream that the policy in force would ask; null: it found no route. */
  readonly upstream: string | null;
}

/** The thread that checks passwords works for the second policy so long, and then rests three times as long. */
const REST = 3;

/**
 * What a policy that is only tried decides with. It has counters, caches, keys and a password thread of its own, and
 * nothing of them leaves this process but the fetching of keys: no state is written, no upstream asked, nothing counted
 * in Redis.
 */
export class ShadowMeans {
  readonly #borrowed: Borrowed;
  readonly #jwks: readonly JwksSource[];
  readonly #passwords: PasswordThread;
  readonly #provers: Provers;
  readonly #limiter: Means['limiter'];

  constructor(policy: Policy, borrowed: Borrowed) {
    this.#borrowed = borrowed;
    const sources = fetchedKeys(policy, borrowed.log);
    this.#jwks = [...sources.values()];
    this.#passwords = new PasswordThread({
      died: (error) => {
        const { log } = borrowed;
        log.error('shadow.password_thread_died', 'the thread that checks passwords for the shadow policy died', {
          ...log.errorFields(error),
        });
      },
    });
    this.#limiter = PolicyLimits.supposed(policy);
    const { revocations, rings } = borrowed;
    const jwt = new JwtProver(
      ({ name, keys }) => sources.get(name) ?? new FileKeys(keys.kind === 'file' ? keys.keys : []),
      revocations,
    );
    const basic = new BasicProver(withRests(this.#passwords.check, () => borrowed.ticks()));
    const sessions = new SessionProver(rings, revocations);
    this.#provers = {
      ...POLICY_ALONE,
      jwt: (...asked) => jwt.prove(...asked),
      basic: (...asked) => basic.prove(...asked),
      session: (listener, credential, nowMs) => {
        if (!rings.has(listener.name)) throw new Undecidable('session_key_unknown');
        return sessions.prove(listener, credential, nowMs);
      },
    };
  }

  /** Begins to fetch the keys that are fetched. */
  start(): void {
    for (const source of this.#jwks) source.start();
  }

  async stop(): Promise<void> {
    for (const source of this.#jwks) source.stop();
    await this.#passwords.stop();
  }

  for(asked: SecondAsked): Means {
    const { owners } = this.#borrowed;
    return {
      prove: provedFor(asked, this.#provers),
      limiter: this.#limiter,
      holdBody: (_underway, wanted) => theSameBytes(wanted, asked.kept),
      owners: {
        // Its upstream may be called otherwise; what was made is the same.
        isOwner: (upstream, id, identity, nowMs) => {
          const name = [upstream, asked.upstream].find((one) => one !== null && owners.keeps(one));
          if (name === undefined || name === null) throw new Undecidable('owners_unknown');
          return owners.isOwner(name, id, identity, nowMs);
        },
        remember: () => Promise.resolve(),
        unnamed: () => undefined,
      },
    };
  }
}

/** Notes what is held for the policy in force, so that the second may look at the same bytes. */
export function noted(hold: HoldBody, note: (underway: object, kept: Kept) => void): HoldBody {
  return (underway, wanted) => {
    const keep = (body: HeldBody): HeldBody => {
      note(underway, { most: wanted.most, body });
      return body;
    };
    const body = hold(underway, wanted);
    return body instanceof Promise ? body.then(keep) : keep(body);
  };
}

function theSameBytes({ framing, most }: WantedBody, kept: Kept | null): HeldBody {
  const release = (): void => undefined;
  if (framing.kind === 'none' || (framing.kind === 'length' && framing.bytes === 0)) {
    return { ok: true, bytes: Buffer.alloc(0), release };
  }
  if (kept === null) throw new Undecidable('body_not_held');
  const { body } = kept;
  if (body.ok) {
    return body.bytes.length > most
      ? { ok: false, reason: 'body_too_large' }
      : { ok: true, bytes: body.bytes, release };
  }
  const alike = body.reason === 'body_too_large' ? most <= kept.most : body.reason !== 'body_budget_exhausted';
  if (!alike) throw new Undecidable('body_not_held');
  return body;
}

/**
 * The handshake was judged by the authorities of the policy in force. Where the second has others, a certificate says
 * nothing; and then neither does its absence, since clients choose one by the authorities that are named to them.
 */
function provedFor({ listener, second }: SecondAsked, provers: Provers): Means['prove'] {
  const prove = proveWith(provers);
  if (isJudgedAlike(listener, second)) return prove;
  const unlessByCertificate = (said: Authentication): Authentication => {
    const byConnection = said.ok ? said.carrier === 'address' : said.reason === 'credential_missing';
    if (byConnection) throw new Undecidable('certificate_unjudged');
    return said;
  };
  return (asked, caller, nowMs) => {
    if (!asked.route.authenticators.some((one) => one.type === 'mtls')) return prove(asked, caller, nowMs);
    const said = prove(asked, { ...caller, certificate: null }, nowMs);
    return said instanceof Promise ? said.then(unlessByCertificate) : unlessByCertificate(said);
  };
}

function isJudgedAlike(
  { clientCertificates: one }: HttpListener,
  { clientCertificates: other }: HttpListener,
): boolean {
  if (one === null || other === null) return other === null;
  const [a, b] = [one.authority, other.authority];
  return a.caPem === b.caPem && a.partialChain === b.partialChain && a.crlPems.join('\n') === b.crlPems.join('\n');
}

function fetchedKeys(policy: Policy, log: Borrowed['log']): ReadonlyMap<string, JwksSource> {
  const sources = new Map<string, JwksSource>();
  for (const authenticator of policy.authenticators.values()) {
    if (authenticator.type !== 'jwt' || authenticator.keys.kind !== 'url') continue;
    const { name } = authenticator;
    const source = new JwksSource({
      url: authenticator.keys.url,
      onFetched: (fetched) => {
        if (fetched.ok) return;
        log.warn('shadow.jwks_failed', `the keys of authenticator "${name}" of the shadow policy were not fetched`, {
          'guardbee.authenticator': constant(name),
          'guardbee.reason': constant(fetched.fault),
        });
      },
    });
    sources.set(name, source);
  }
  return sources;
}

/** bcrypt burns a core as long as somebody guesses. One question at a time, and pauses: null where there is no time. */
function withRests(check: PasswordCheck, ticks: () => number): PasswordCheck {
  let asking = false;
  let restsUntil = 0;
  return (question) => {
    const began = ticks();
    if (asking || began < restsUntil) return Promise.resolve(null);
    asking = true;
    return check(question).finally(() => {
      asking = false;
      const ended = ticks();
      restsUntil = ended + REST * (ended - began);
    });
  };
}
