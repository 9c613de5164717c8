import { createHmac, randomBytes } from 'node:crypto';
import type { DenialReason } from '../denial.js';
import { addressGroup } from '../net/address-group.js';
import type { BasicAuthenticator, BasicUser } from '../policy/policy.js';
import type { Credential } from './credential.js';
import type { Identity } from './identity.js';
import type { Proof } from './provers.js';

/** bcrypt looks at no more than this; the rest of a longer password would count for nothing. */
const LONGEST_PASSWORD_BYTES = 72;
/** How long a right password is known without asking bcrypt again, and a wrong one. */
const RIGHT_FOR_MS = 10 * 60_000;
const WRONG_FOR_MS = 10_000;
const MOST_RIGHT = 10_000;
const MOST_WRONG = 2_000;

/** One question to bcrypt, and whose turn it takes. */
export interface PasswordQuestion {
  readonly password: string;
  readonly hash: string;
  /** Address, IPv6 by /64. */
  readonly address: string;
  /** Stands for the claimed name. */
  readonly name: string;
}

/** Is it the password of this hash. Null: there was no time or place to find out. Never rejects. */
export type PasswordCheck = (question: PasswordQuestion) => Promise<boolean | null>;

export type UserAndPassword =
  | { readonly ok: true; readonly name: string; readonly password: string }
  | { readonly ok: false; readonly reason: DenialReason };

const malformed: UserAndPassword = { ok: false, reason: 'credential_malformed' };
const invalid: UserAndPassword = { ok: false, reason: 'credential_invalid' };
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * `base64(user-id ":" password)` in UTF-8 (RFC 7617 §2). What is not of that form is malformed. What is, but holds
 * something that no password here can be, is a wrong password: whoever typed it is asked again.
 */
export function readUserAndPassword(text: string): UserAndPassword {
  const bytes = Buffer.from(text, 'base64');
  // Node skips what is no base64 and takes the other alphabet too; only one text stands for one pair.
  if (bytes.toString('base64') !== text) return malformed;
  const colon = bytes.indexOf(0x3a);
  if (colon < 0) return malformed;
  let name: string;
  let password: string;
  try {
    name = UTF8.decode(bytes.subarray(0, colon)).normalize('NFC');
    password = UTF8.decode(bytes.subarray(colon + 1));
  } catch {
    return invalid;
  }
  if (/\p{Cc}/u.test(name) || /\p{Cc}/u.test(password)) return invalid;
  if (password === '' || bytes.length - colon - 1 > LONGEST_PASSWORD_BYTES) return invalid;
  return { ok: true, name, password };
}

/**
 * Proves names and passwords. bcrypt is slow on purpose, so its answers are remembered, by a digest that nobody outside
 * of this process can compute; a pair that was seen before is decided in the same turn.
 */
export class BasicProver {
  readonly #check: PasswordCheck;
  readonly #key = randomBytes(32);
  // Apart from each other: a flood of wrong passwords pushes no right one out.
  readonly #right = new Remembered(MOST_RIGHT, RIGHT_FOR_MS);
  readonly #wrong = new Remembered(MOST_WRONG, WRONG_FOR_MS);
  /** The same question asked twice is asked once. */
  readonly #asking = new Map<string, Promise<boolean | null>>();

  constructor(check: PasswordCheck) {
    this.#check = check;
  }

  /** @param client canonical address, after trusted proxies */
  prove(
    authenticator: BasicAuthenticator,
    credential: Credential,
    client: string,
    nowMs: number,
  ): Proof | Promise<Proof> {
    const read = readUserAndPassword(credential.reveal());
    if (!read.ok) return { ok: false, reason: read.reason };
    const { name, password } = read;
    const claimed = this.#digest('name', authenticator.name, name);
    const wrong: Proof = { ok: false, reason: 'credential_invalid', claimed };
    const user = authenticator.users.get(name) ?? null;
    const hash = user === null ? this.#decoy(authenticator, claimed) : user.hash.reveal();
    const digest = this.#digest('password', name, hash, password);
    if (user !== null && this.#right.has(digest, nowMs)) return { ok: true, identity: identityOf(authenticator, user) };
    if (this.#wrong.has(digest, nowMs)) return wrong;

    return this.#ask(digest, { password, hash, address: addressGroup(client), name: claimed }).then(
      (matches): Proof => {
        if (matches === null) return { ok: false, reason: 'credential_unverifiable' };
        if (matches && user !== null) {
          this.#right.add(digest, nowMs);
          return { ok: true, identity: identityOf(authenticator, user) };
        }
        this.#wrong.add(digest, nowMs);
        return wrong;
      },
    );
  }

  #ask(digest: string, question: PasswordQuestion): Promise<boolean | null> {
    const asking = this.#asking.get(digest);
    if (asking !== undefined) return asking;
    const asked = this.#check(question).finally(() => this.#asking.delete(digest));
    this.#asking.set(digest, asked);
    return asked;
  }

  /**
   * A name that nobody has takes as long as one that somebody has, or names could be told by the clock. Costs differ
   * where a file is old: an unknown name is given that of one of the users, always the same one.
   */
  #decoy(authenticator: BasicAuthenticator, claimed: string): string {
    let costs = costsOf.get(authenticator);
    if (costs === undefined) {
      costs = [...authenticator.users.values()].map(({ cost }) => cost);
      costsOf.set(authenticator, costs);
    }
    const cost = costs[Number.parseInt(claimed.slice(0, 8), 16) % Math.max(1, costs.length)] ?? 12;
    return `$2b$${String(cost).padStart(2, '0')}$${NOBODY}`;
  }

  /** Parts hold no NUL, but for the last. */
  #digest(kind: 'name' | 'password', ...parts: readonly string[]): string {
    return createHmac('sha256', this.#key)
      .update([kind, ...parts].join('\0'))
      .digest('hex');
  }
}

/** Salt and hash of nothing: what comes of it is not looked at. */
const NOBODY = `${'n'.repeat(21)}u${'n'.repeat(31)}`;

const costsOf = new WeakMap<BasicAuthenticator, readonly number[]>();

/** One object for a user, however often the password is shown. */
const identities = new WeakMap<BasicUser, Identity>();

function identityOf(authenticator: BasicAuthenticator, user: BasicUser): Identity {
  let identity = identities.get(user);
  if (identity === undefined) {
    identity = {
      ...user.holder,
      authenticator: authenticator.name,
      expiresAtMs: Number.POSITIVE_INFINITY,
      revocables: [],
    };
    identities.set(user, identity);
  }
  return identity;
}

/** Whoever proved to be this user, by one reading of the file, still does by another; null: not without being asked again. */
export function stillUser(now: BasicAuthenticator, before: BasicAuthenticator, { name }: Identity): Identity | null {
  const user = now.users.get(name);
  const was = before.users.get(name);
  return user !== undefined && user.hash.reveal() === was?.hash.reveal() ? identityOf(now, user) : null;
}

/** Digests that were seen lately; the one seen longest ago makes room. */
class Remembered {
  readonly #untilMs = new Map<string, number>();
  readonly #most: number;
  readonly #forMs: number;

  constructor(most: number, forMs: number) {
    this.#most = most;
    this.#forMs = forMs;
  }

  has(digest: string, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(digest);
    if (untilMs === undefined) return false;
    this.#untilMs.delete(digest);
    // A clock that was set back must not make anything last.
    if (nowMs >= untilMs || untilMs - nowMs > this.#forMs) return false;
    this.#untilMs.set(digest, untilMs);
    return true;
  }

  add(digest: string, nowMs: number): void {
    this.#untilMs.delete(digest);
    this.#untilMs.set(digest, nowMs + this.#forMs);
    if (this.#untilMs.size <= this.#most) return;
    const [oldest] = this.#untilMs.keys();
    if (oldest !== undefined) this.#untilMs.delete(oldest);
  }
}
