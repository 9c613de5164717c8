import type { Revocable } from '../identity/identity.js';
import { type Revocation, isBefore } from './store.js';

interface Issuer {
  /** `jti` → until when, epoch milliseconds. */
  readonly jtis: Map<string, number>;
  readonly subjects: Map<string, { readonly beforeMs: number; readonly untilMs: number }>;
}

/** Revocations in memory. Two maps for each issuer, so that no text of one can be taken for another's. */
export class RevocationMemory {
  readonly #issuers = new Map<string, Issuer>();
  #size = 0;

  /** Entries, those that are over included until `forgetEnded`. */
  get size(): number {
    return this.#size;
  }

  /** A later moment and a later end win; nothing is taken back. False: it was known already. */
  add(revocation: Revocation): boolean {
    let issuer = this.#issuers.get(revocation.issuer);
    if (issuer === undefined) {
      issuer = { jtis: new Map(), subjects: new Map() };
      this.#issuers.set(revocation.issuer, issuer);
    }
    if (revocation.kind === 'jti') {
      const known = issuer.jtis.get(revocation.jti);
      if (known !== undefined && known >= revocation.untilMs) return false;
      if (known === undefined) this.#size += 1;
      issuer.jtis.set(revocation.jti, revocation.untilMs);
      return true;
    }
    const known = issuer.subjects.get(revocation.subject);
    if (known !== undefined && known.beforeMs >= revocation.beforeMs && known.untilMs >= revocation.untilMs) {
      return false;
    }
    if (known === undefined) this.#size += 1;
    issuer.subjects.set(revocation.subject, {
      beforeMs: Math.max(known?.beforeMs ?? -Infinity, revocation.beforeMs),
      untilMs: Math.max(known?.untilMs ?? -Infinity, revocation.untilMs),
    });
    return true;
  }

  /** Is it void by what is known here. */
  has(of: Revocable, nowMs: number): boolean {
    const issuer = this.#issuers.get(of.issuer);
    if (issuer === undefined) return false;
    if (of.jti !== null) {
      const untilMs = issuer.jtis.get(of.jti);
      if (untilMs !== undefined && nowMs < untilMs) return true;
    }
    if (of.subject === null) return false;
    const all = issuer.subjects.get(of.subject);
    return all !== undefined && nowMs < all.untilMs && isBefore(of, all.beforeMs);
  }

  /** In the order in which they came. */
  *entries(): Generator<Revocation> {
    for (const [issuer, { jtis, subjects }] of this.#issuers) {
      for (const [jti, untilMs] of jtis) yield { kind: 'jti', issuer, jti, untilMs };
      for (const [subject, { beforeMs, untilMs }] of subjects) {
        yield { kind: 'subject', issuer, subject, beforeMs, untilMs };
      }
    }
  }

  /** Lets go of what no longer matters. */
  forgetEnded(nowMs: number): void {
    for (const [issuer, { jtis, subjects }] of this.#issuers) {
      for (const [jti, untilMs] of jtis) if (untilMs <= nowMs && jtis.delete(jti)) this.#size -= 1;
      for (const [subject, { untilMs }] of subjects) {
        if (untilMs <= nowMs && subjects.delete(subject)) this.#size -= 1;
      }
      if (jtis.size + subjects.size === 0) this.#issuers.delete(issuer);
    }
  }

  list(nowMs: number, most: number): { readonly entries: readonly Revocation[]; readonly total: number } {
    this.forgetEnded(nowMs);
    const entries = [...this.entries()];
    return { entries: entries.slice(-most).reverse(), total: entries.length };
  }
}
