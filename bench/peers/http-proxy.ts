import { sha256Hex } from '../../src/secret/digest.js';
import { PROXY_CORE, beside, start } from '../program.js';
import type { Peer } from './peer.js';

/** What people write today: TLS and the same token check; no log, no metrics, no rules. */
export const httpProxy: Peer = {
  name: 'http-proxy',
  package: null,
  http2: false,
  start: async ({ certFile, keyFile, token, service }) => {
    const running = await start({
      command: [
        process.execPath,
        beside('./peers/http-proxy-baseline.js'),
        certFile,
        keyFile,
        sha256Hex(token),
        service,
      ],
      core: PROXY_CORE,
      until: /^\d+\n/,
    });
    return { url: `https://127.0.0.1:${running.said.trim()}`, credential: token, running };
  },
};
