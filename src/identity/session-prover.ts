import type { HttpListener } from '../policy/policy.js';
import type { Credential } from './credential.js';
import type { Identity, Revocable } from './identity.js';
import type { Proof } from './provers.js';
import type { Revocations, Standing } from './revocation.js';
import { type Session, type SessionKey, proveSession, sessionIssuer } from './session.js';

/** Sessions whose proof is remembered, for each listener. */
const REMEMBERED = 4096;

interface Known {
  readonly proof: Proof & { ok: true };
  readonly renewed: Session;
}

/**
 * Proves session cookies. What was proved once is remembered by its digest for as long as the policy is in force, so
 * that the second sight costs a look-up; whether it was revoked is asked each time.
 */
export class SessionProver {
  readonly #keys: ReadonlyMap<string, readonly SessionKey[]>;
  readonly #revocations: Revocations;
  /** By the listener of one policy: another policy may say otherwise of the same cookie. */
  readonly #known = new WeakMap<HttpListener, Map<string, Known>>();

  /** @param keys by the name of the listener; the first of each signs */
  constructor(keys: ReadonlyMap<string, readonly SessionKey[]>, revocations: Revocations) {
    this.#keys = keys;
    this.#revocations = revocations;
  }

  /** The ring of a listener. */
  keysOf(listener: HttpListener): readonly SessionKey[] {
    return this.#keys.get(listener.name) ?? [];
  }

  prove(listener: HttpListener, credential: Credential, nowMs: number): Proof | Promise<Proof> {
    const known = this.#look(listener, credential, nowMs);
    return 'renewed' in known ? this.#notRevoked(known.proof, nowMs) : known;
  }

  /** The same session, to be sealed with the first key of the ring. Null: the cookie is no longer good. */
  renewed(listener: HttpListener, credential: Credential, nowMs: number): Session | null {
    const known = this.#look(listener, credential, nowMs);
    return 'renewed' in known ? known.renewed : null;
  }

  #look(listener: HttpListener, credential: Credential, nowMs: number): Known | (Proof & { ok: false }) {
    let cache = this.#known.get(listener);
    if (cache === undefined) {
      cache = new Map();
      this.#known.set(listener, cache);
    }
    const found = cache.get(credential.sha256);
    if (found !== undefined) {
      if (nowMs < found.proof.identity.expiresAtMs) return found;
      cache.delete(credential.sha256);
      return { ok: false, reason: 'credential_expired' };
    }
    const proof = proveSession(listener, this.keysOf(listener), credential.reveal(), nowMs);
    if (!proof.ok) return proof;
    // Only what we sealed ourselves gets here, so nobody can push others out by making cookies up.
    if (cache.size >= REMEMBERED) for (const oldest of cache.keys()) if (cache.delete(oldest)) break;
    const known: Known = { proof: { ok: true, identity: proof.identity }, renewed: proof.renewed };
    cache.set(credential.sha256, known);
    return known;
  }

  #notRevoked(proof: Proof & { ok: true }, nowMs: number): Proof | Promise<Proof> {
    const waiting: Promise<Proof | null>[] = [];
    for (const revocable of proof.identity.revocables) {
      const judge = (standing: Standing): Proof | null => verdict(standing, revocable.settings.onUnavailable);
      const standing = this.#revocations.standing(revocable, nowMs);
      if (standing instanceof Promise) {
        waiting.push(standing.then(judge));
        continue;
      }
      const refused = judge(standing);
      if (refused !== null) return refused;
    }
    if (waiting.length === 0) return proof;
    return Promise.all(waiting).then((all) => all.find((one) => one !== null) ?? proof);
  }
}

/** Null: nothing against it. */
function verdict(standing: Standing, onUnavailable: 'deny' | 'allow'): Proof | null {
  if (standing === 'good') return null;
  if (standing === 'revoked') return { ok: false, reason: 'credential_revoked' };
  return onUnavailable === 'allow' ? null : { ok: false, reason: 'credential_unverifiable' };
}

/** What of an identity is its session's own, to be revoked at logout. Null: it has no session. */
export function sessionOf(identity: Identity, { name }: HttpListener): Revocable | null {
  const [first] = identity.revocables;
  return first?.issuer === sessionIssuer(name) ? first : null;
}
