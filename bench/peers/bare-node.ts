import { PROXY_CORE, beside, start } from '../program.js';
import type { Peer } from './peer.js';

/** No proxy, but what any proxy in Node takes at least: for requests, or for the bytes of a stream. */
const bare = (what: 'requests' | 'bytes'): Peer => ({
  name: 'bare Node',
  package: null,
  http2: false,
  start: async ({ certFile, keyFile, token, service }) => {
    const running = await start({
      command: [process.execPath, beside('./peers/bare-node-baseline.js'), what, certFile, keyFile, service],
      core: PROXY_CORE,
      until: /^\d+\n/,
    });
    return { url: `https://127.0.0.1:${running.said.trim()}`, credential: token, running };
  },
});

export const bareNode = bare('requests');
export const bareSockets = bare('bytes');
