import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROXY_CORE, freePort, start } from '../program.js';
import { answers } from './nginx.js';
import type { Peer } from './peer.js';

/** TLS, the token by exact comparison, the same networks, a JSON log without the credential. */
export const caddy: Peer = {
  name: 'Caddy',
  package: 'caddy',
  http2: true,
  start: async ({ dir, certFile, keyFile, token, servicePort }) => {
    const port = await freePort();
    const file = join(dir, 'Caddyfile');
    writeFileSync(
      file,
      `{
	admin off
	auto_https off
}
https://127.0.0.1:${String(port)}, https://localhost:${String(port)} {
	bind 127.0.0.1
	tls ${certFile} ${keyFile}
	log {
		output file ${join(dir, 'caddy.log')} {
			roll_disabled
		}
		format filter {
			wrap json
			fields {
				request>headers delete
			}
		}
	}
	@elsewhere not remote_ip 127.0.0.1 10.0.0.0/8
	abort @elsewhere
	@known header Authorization "Bearer ${token}"
	handle @known {
		reverse_proxy 127.0.0.1:${String(servicePort)} {
			header_up -Authorization
			flush_interval -1
		}
	}
	handle {
		respond 401
	}
}
`,
      { mode: 0o600 },
    );
    const running = await start({
      command: ['caddy', 'run', '--adapter', 'caddyfile', '--config', file],
      core: PROXY_CORE,
      ready: () => answers(port),
      env: { HOME: dir, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir },
    });
    return { url: `https://127.0.0.1:${String(port)}`, credential: token, running };
  },
};
