import { isLoopback, parseAddress } from '../net/address.js';

/** Whether the host of a URL is this machine. @param hostname as `URL` has it: an IPv6 address in brackets */
export function namesLoopback(hostname: string): boolean {
  // `localhost` is looked up at each connect, and must then be this machine.
  if (hostname === 'localhost') return true;
  const address = parseAddress(hostname.replace(/^\[(.*)\]$/, '$1'));
  return address !== null && isLoopback(address);
}
