import { lookup } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { isLoopback, parsePeerAddress } from './address.js';

/** A name led to an address that is not this machine: DNS or /etc/hosts changed, or was never to be believed. */
export class NotThisMachineError extends Error {
  override readonly name = 'NotThisMachineError';
  readonly code = 'GUARDBEE_NOT_LOOPBACK';

  constructor() {
    super('not a loopback address');
  }
}

/** An address as a socket gives it; false for one that is gone. */
export function isThisMachine(address: string | undefined): boolean {
  const read = parsePeerAddress(address);
  return read !== null && isLoopback(read);
}

/** Looks a name up, for `connect`, and passes on addresses of this machine only. `localhost` is a name like others. */
export const lookupThisMachine: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      callback(error, []);
      return;
    }
    const [first] = addresses;
    const sound = addresses.every(({ address }) => isThisMachine(address));
    if (!sound || first === undefined) callback(new NotThisMachineError(), []);
    else if (options.all === true) callback(null, addresses);
    else callback(null, first.address, first.family);
  });
};
