import type { JwtAuthenticator } from '../policy/policy.js';
import type { VerificationKey } from '../policy/verification-key.js';
import { type ClaimedJws, readCompactJws } from './compact-jws.js';
import type { Credential } from './credential.js';
import type { Identity } from './identity.js';
import { judgeClaims } from './jwt-claims.js';
import type { KeySource } from './key-source.js';
import type { Proof } from './provers.js';
import type { Revocations, Standing } from './revocation.js';
import { TokenCache } from './token-cache.js';

const INVALID: Proof = { ok: false, reason: 'credential_invalid' };
const UNVERIFIABLE: Proof = { ok: false, reason: 'credential_unverifiable' };
const EXPIRED: Proof = { ok: false, reason: 'credential_expired' };
const REVOKED: Proof = { ok: false, reason: 'credential_revoked' };

/** Of one authenticator; an entry is some two kilobytes. */
const MOST_REMEMBERED = 10_000;

interface Judge {
  readonly keys: KeySource;
  readonly seen: TokenCache;
  /** First sights that are being verified, by digest: a token that comes ten times at once is verified once. */
  readonly underway: Map<string, Promise<Proof>>;
}

/**
 * Verifies tokens, and remembers those that were good. One of these for each policy version, so that no token is
 * remembered with the roles of an older one.
 */
export class JwtProver {
  readonly #judges = new WeakMap<JwtAuthenticator, Judge>();
  readonly #keysOf: (authenticator: JwtAuthenticator) => KeySource;
  readonly #revocations: Revocations;

  constructor(keysOf: (authenticator: JwtAuthenticator) => KeySource, revocations: Revocations) {
    this.#keysOf = keysOf;
    this.#revocations = revocations;
  }

  /** Who the token is from. At once where it was seen before; see `Provers`. Never rejects. */
  prove(authenticator: JwtAuthenticator, credential: Credential, nowMs: number): Proof | Promise<Proof> {
    const judge = this.#judgeFor(authenticator);
    const seen = judge.seen.find(credential.sha256, nowMs);
    if (seen !== null) {
      if (judge.keys.holds(seen.key)) return this.#unlessRevoked(seen.identity, nowMs);
      judge.seen.forget(credential.sha256);
    }
    let verified = judge.underway.get(credential.sha256);
    if (verified === undefined) {
      const text = credential.reveal();
      const jws = readCompactJws(text);
      if (jws === null || !authenticator.algorithms.includes(jws.algorithm)) return INVALID;
      verified = this.#verify(authenticator, judge, credential.sha256, text, jws, nowMs).finally(() => {
        judge.underway.delete(credential.sha256);
      });
      judge.underway.set(credential.sha256, verified);
    }
    return verified.then((proof) => {
      if (!proof.ok) return proof;
      // Whoever waited for keys with the first may have come a little later than it.
      return nowMs < proof.identity.expiresAtMs ? this.#unlessRevoked(proof.identity, nowMs) : EXPIRED;
    });
  }

  #judgeFor(authenticator: JwtAuthenticator): Judge {
    let judge = this.#judges.get(authenticator);
    if (judge === undefined) {
      judge = { keys: this.#keysOf(authenticator), seen: new TokenCache(MOST_REMEMBERED), underway: new Map() };
      this.#judges.set(authenticator, judge);
    }
    return judge;
  }

  async #verify(
    authenticator: JwtAuthenticator,
    judge: Judge,
    digest: string,
    text: string,
    jws: ClaimedJws,
    nowMs: number,
  ): Promise<Proof> {
    const keys = await judge.keys.fitting(jws.kid, jws.algorithm);
    if (keys === null) return UNVERIFIABLE;
    const key = await signer(text, jws, keys);
    if (key === null) return INVALID;
    // The claims are those that were taken apart from the very text whose signature is good.
    const judged = judgeClaims(authenticator, jws.claims, nowMs);
    if (!judged.ok) return judged;
    const { identity, fromMs, untilMs } = judged;
    judge.seen.remember(digest, { identity, key, fromMs, untilMs });
    return { ok: true, identity };
  }

  /** Asked at every sight: a token that was remembered is still one that may have been revoked. */
  #unlessRevoked(identity: Identity, nowMs: number): Proof | Promise<Proof> {
    const [revocable] = identity.revocables;
    if (revocable === undefined) return proved(identity);
    const said = (standing: Standing): Proof => {
      if (standing === 'good') return proved(identity);
      if (standing === 'revoked') return REVOKED;
      return revocable.settings.onUnavailable === 'allow' ? proved(identity) : UNVERIFIABLE;
    };
    const standing = this.#revocations.standing(revocable, nowMs);
    return standing instanceof Promise ? standing.then(said) : said(standing);
  }
}

/** One object for an identity: the path of a token seen before makes nothing new. */
const proofs = new WeakMap<Identity, Proof>();

function proved(identity: Identity): Proof {
  let proof = proofs.get(identity);
  if (proof === undefined) {
    proof = { ok: true, identity };
    proofs.set(identity, proof);
  }
  return proof;
}

/** The key whose signature it is, or null. The algorithm is one that the key is for, and no other is allowed. */
async function signer(
  text: string,
  { algorithm }: ClaimedJws,
  keys: readonly VerificationKey[],
): Promise<VerificationKey | null> {
  // At the first token: most guards start without one, and it takes a tenth of a start to load.
  const { compactVerify } = await import('jose/jws/compact/verify');
  for (const key of keys) {
    try {
      await compactVerify(text, key.key, { algorithms: [algorithm] });
      return key;
    } catch {
      // Of the next one, then. jose's errors carry what the token says, and are not for anybody's log.
    }
  }
  return null;
}
