import type { Caller } from '../identity/caller.js';
import type { HttpListener, Listener } from '../policy/policy.js';
import type { Surroundings } from './handle.js';

/**
 * What a listener serves by at present. A reload puts others in their place, by assignment; each request reads them
 * once, when it begins, and keeps what it read.
 */
export interface Terms<L extends Listener = Listener> {
  readonly listener: L;
  readonly around: Surroundings;
  /** The handshake of this connection was judged by authorities that are no longer asked. */
  outdated(caller: Caller): boolean;
}

export type HttpTerms = Terms<HttpListener>;
