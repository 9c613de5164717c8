import type { DenialReason } from '../denial.js';
import type { Caller } from '../identity/caller.js';
import type { Identity } from '../identity/identity.js';
import { proveCertificate } from '../identity/mtls.js';
import type { Proof } from '../identity/provers.js';
import { formatAddress } from '../net/address.js';
import type { MtlsAuthenticator, TcpListener, Upstream } from '../policy/policy.js';
import { peerAllowed } from './admit.js';

/** Known to this file alone: a permit leads to its class by `constructor`, but not to this. */
const ADMITTED = Symbol('admitted');

/**
 * The answer "yes" to a connection. Only `admitConnection`, in this file, can make one (the class is not exported), and
 * the tunnel takes nothing else.
 */
class GrantedConnection {
  readonly allow = true;
  readonly #granted = true;
  readonly listener: TcpListener;
  /** Of the policy: what is counted is counted by it. */
  readonly upstream: Upstream;
  /** Where to connect: the upstream, or its port that belongs to the one that was connected to. */
  readonly target: Upstream;
  /** Canonical form; after trusted proxies. */
  readonly client: string;
  /** Null where nobody is asked. */
  readonly identity: Identity | null;

  constructor(by: typeof ADMITTED, listener: TcpListener, nth: number, client: string, identity: Identity | null) {
    if (by !== ADMITTED) throw new TypeError('only admitConnection makes permits');
    this.listener = listener;
    this.upstream = listener.upstream;
    this.target = upstreamAt(listener, nth);
    this.client = client;
    this.identity = identity;
    Object.freeze(this);
  }

  static is(value: unknown): boolean {
    return typeof value === 'object' && value !== null && #granted in value;
  }
}

export type ConnectionPermit = GrantedConnection;

/** For the one place that connects: the type says so already, this holds against a cast. */
export function assertConnectionPermit(permit: ConnectionPermit): void {
  if (!GrantedConnection.is(permit)) throw new TypeError('passing a connection on needs a permit');
}

export interface ConnectionRefusal {
  readonly allow: false;
  readonly reason: DenialReason;
  /** Canonical form; after trusted proxies. */
  readonly client: string;
  /** Known when it was proved who connects, and that was not enough. */
  readonly identity: Identity | null;
}

/** Says who connects; policy tests and `explain` put a supposed caller in its place. */
export type ProveConnection = (authenticator: MtlsAuthenticator, caller: Caller, nowMs: number) => Proof;

const proveByCertificate: ProveConnection = (authenticator, { certificate }, nowMs) =>
  certificate === null
    ? { ok: false, reason: 'credential_missing' }
    : proveCertificate(authenticator, certificate, nowMs);

/**
 * May it connect: the whole gate of a tcp listener, since nothing of what is said later is read. Read top to bottom; the
 * fall-through denies.
 * @param nth of the listener's ports, from 0
 */
export function admitConnection(
  listener: TcpListener,
  caller: Caller,
  nth: number,
  nowMs: number,
  prove: ProveConnection = proveByCertificate,
): ConnectionPermit | ConnectionRefusal {
  const address = caller.proxied?.source.address ?? caller.address;
  const client = formatAddress(address);
  const no = (reason: DenialReason, identity: Identity | null = null): ConnectionRefusal => ({
    allow: false,
    reason,
    client,
    identity,
  });
  if (!peerAllowed(listener, caller.address)) return no('address_denied');
  if (listener.from !== null && !listener.from.has(address)) return no('client_denied');
  if (listener.clientCertificates === null) return new GrantedConnection(ADMITTED, listener, nth, client, null);
  const proof = prove(listener.clientCertificates, caller, nowMs);
  if (!proof.ok) return no(proof.reason);
  for (const name of listener.anyOf) {
    if (proof.identity.grants.has(name)) {
      return new GrantedConnection(ADMITTED, listener, nth, client, proof.identity);
    }
  }
  return no('permission_missing', proof.identity);
}

/** The n-th port of a range leads to the n-th of the upstream's. */
function upstreamAt({ upstream, bind, lastPort }: TcpListener, nth: number): Upstream {
  if (!Number.isInteger(nth) || nth < 0 || nth > lastPort - bind.port) throw new RangeError('no such port');
  const { target } = upstream;
  if (target.kind !== 'tcp' || target.lastPort === undefined) return upstream;
  const { kind, host } = target;
  const port = target.port + nth;
  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  return { ...upstream, name: authority, authority, target: { kind, host, port } };
}
