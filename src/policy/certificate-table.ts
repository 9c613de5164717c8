import type { CertificateMatch } from './certificate-name.js';
import type { Holder } from './policy.js';

/** The names in a certificate, each in the form that `certificate-name.ts` gives it. */
export interface CertificateNames {
  readonly dns: readonly string[];
  readonly uris: readonly string[];
  readonly emails: readonly string[];
  /** Null where it has none, or several. */
  readonly commonName: string | null;
  /** SHA-256 of the SubjectPublicKeyInfo, base64. */
  readonly spki: string;
}

export interface CertificateIdentity {
  readonly match: CertificateMatch;
  readonly holder: Holder;
}

/**
 * Who a client certificate stands for, by its names. A look-up costs the names of the certificate, however many
 * identities there are. Where several fit, the first of the list is it.
 */
export class CertificateTable {
  readonly #identities: readonly CertificateIdentity[];
  readonly #byName = new Map<string, number>();

  constructor(identities: readonly CertificateIdentity[]) {
    this.#identities = identities;
    for (const [index, { match }] of identities.entries()) {
      const key = keyOf(match.kind, match.value);
      if (!this.#byName.has(key)) this.#byName.set(key, index);
    }
  }

  get size(): number {
    return this.#identities.length;
  }

  find(names: CertificateNames): Holder | null {
    let first = Infinity;
    const look = (kind: CertificateMatch['kind'], value: string): void => {
      first = Math.min(first, this.#byName.get(keyOf(kind, value)) ?? Infinity);
    };
    for (const name of names.dns) look('san_dns', name);
    for (const uri of names.uris) look('san_uri', uri);
    for (const email of names.emails) look('san_email', email);
    if (names.commonName !== null) look('cn', names.commonName);
    look('spki', names.spki);
    return this.#identities[first]?.holder ?? null;
  }

  entries(): readonly CertificateIdentity[] {
    return this.#identities;
  }
}

function keyOf(kind: CertificateMatch['kind'], value: string): string {
  return `${kind} ${value}`;
}
