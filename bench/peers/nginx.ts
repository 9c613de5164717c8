import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { PROXY_CORE, freePort, start } from '../program.js';
import type { Peer } from './peer.js';

/** TLS, the token by exact comparison, the same networks, a JSON log without the credential; one worker. */
export const nginx: Peer = {
  name: 'nginx',
  package: 'nginx',
  http2: true,
  start: async ({ dir, certFile, keyFile, token, servicePort }) => {
    const port = await freePort();
    const home = mkdtempSync(join(dir, 'nginx-'));
    const file = join(home, 'nginx.conf');
    writeFileSync(
      file,
      `daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid ${home}/pid;
error_log ${home}/error.log crit;
events { worker_connections 16384; }
http {
  client_body_temp_path ${home}/body;
  proxy_temp_path ${home}/proxy;
  fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi;
  scgi_temp_path ${home}/scgi;
  log_format json escape=json '{"time":"$time_iso8601","client":"$remote_addr","method":"$request_method","path":"$uri",'
    '"status":$status,"bytes":$body_bytes_sent,"seconds":$request_time,"id":"$request_id"}';
  access_log ${home}/access.log json buffer=32k flush=100ms;
  map_hash_bucket_size 256;
  map $http_authorization $known { default 0; "Bearer ${token}" 1; }
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream service { server 127.0.0.1:${String(servicePort)}; keepalive 256; keepalive_requests 1000000000; }
  server {
    listen 127.0.0.1:${String(port)} ssl http2 backlog=8192;
    ssl_certificate ${certFile};
    ssl_certificate_key ${keyFile};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    allow 127.0.0.1;
    allow 10.0.0.0/8;
    deny all;
    location / {
      if ($known = 0) { return 401; }
      proxy_pass http://service;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Authorization "";
      proxy_set_header X-Request-Id $request_id;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 1h;
    }
  }
}
`,
      { mode: 0o600 },
    );
    const running = await start({
      command: ['nginx', '-p', home, '-c', file],
      core: PROXY_CORE,
      ready: () => answers(port),
    });
    return { url: `https://127.0.0.1:${String(port)}`, credential: token, running };
  },
};

/** Does somebody accept connections there? */
export function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
