import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROXY_CORE, freePort, start } from '../program.js';
import { answers } from './nginx.js';
import type { Peer } from './peer.js';

/** TLS, an ES256 signature verified for each request, the same networks, a JSON log without the credential; one thread. */
export const haproxy: Peer = {
  name: 'HAProxy, JWT',
  package: 'haproxy',
  http2: true,
  start: async ({ dir, jwt, jwtKeyFile, servicePort }) => {
    const port = await freePort();
    const file = join(dir, 'haproxy.cfg');
    const log = join(dir, 'haproxy.log');
    writeFileSync(
      file,
      `global
  maxconn 9000
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
frontend guard
  bind 127.0.0.1:${String(port)} ssl crt ${join(dir, 'both.pem')} alpn h2,http/1.1 ssl-min-ver TLSv1.2 backlog 8192
  log-format '{"time":"%T","client":"%ci","method":"%HM","path":"%HP","status":%ST,"bytes":%B,"ms":%Ta}'
  tcp-request connection reject unless { src 127.0.0.1 10.0.0.0/8 }
  http-request set-var(txn.bearer) http_auth_bearer
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_header_query('$.alg') -m str ES256 }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.iss') -m str bench }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_payload_query('$.aud') -m str bench }
  http-request deny deny_status 401 unless { var(txn.bearer),jwt_verify("ES256","${jwtKeyFile}") -m int 1 }
  http-request del-header Authorization
  default_backend service
backend service
  http-reuse always
  server service 127.0.0.1:${String(servicePort)}
`,
      { mode: 0o600 },
    );
    const running = await start({
      command: ['sh', '-c', 'exec haproxy -db -f "$0" >"$1"', file, log],
      core: PROXY_CORE,
      ready: () => answers(port),
    });
    return { url: `https://127.0.0.1:${String(port)}`, credential: jwt, running };
  },
};
