import type { Peer } from './peer.js';

/** No TLS, no checks: what the machine and the load take. */
export const direct: Peer = {
  name: 'direct',
  package: null,
  http2: false,
  start: (setting) => Promise.resolve({ url: setting.service, credential: setting.token, running: null }),
};
