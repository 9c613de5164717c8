import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sha256Hex } from '../../src/secret/digest.js';
import { PROXY_CORE, beside, start } from '../program.js';
import type { Setting } from '../setting.js';
import type { Guard, Peer } from './peer.js';

/** What differs from the policy that all of them share. */
export interface Terms {
  readonly name: string;
  /** Put before the route of the request, indented as it is. */
  readonly routes?: string;
  /** Keys of the listener, indented as they are. */
  readonly listener?: string;
  /** Sections of their own. */
  readonly more?: string;
  readonly networks?: readonly string[];
  /** Whoever comes from this machine is no one it lets in. */
  readonly deniesLoad?: boolean;
  readonly tokens?: readonly string[];
  readonly credential?: 'token' | 'jwt';
  /** Else the proxy's; null: any. */
  readonly core?: number | null;
}

/** Token or JWT, networks, routes, an access log, metrics: everything that is on in an ordinary policy. */
export function guardbee(terms: Terms): Peer {
  return {
    name: terms.name,
    package: null,
    http2: true,
    start: (setting) => run(setting, terms),
  };
}

export const plain = guardbee({ name: 'guardbee' });
export const jwt = guardbee({ name: 'guardbee, JWT', credential: 'jwt' });

let number = 0;

async function run(setting: Setting, terms: Terms): Promise<Guard> {
  const name = `guardbee-${String(number++)}`;
  const log = join(setting.dir, `${name}.log`);
  const policy = join(setting.dir, `${name}.yaml`);
  writeFileSync(policy, policyText(setting, terms, name), { mode: 0o600 });
  const listening = /"url\.full":"(https:[^"]+)"/;
  const said = (): string => readFileSync(log, { encoding: 'utf8', flag: 'a+' });
  const running = await start({
    command: [process.execPath, beside('../src/cli/guardbee.js'), 'run', '--policy', policy],
    core: terms.core === undefined ? PROXY_CORE : terms.core,
    // It logs to a file in this run, so its address is read from there.
    ready: () => Promise.resolve(listening.test(said())),
  });
  return {
    url: listening.exec(said())?.[1] ?? '',
    policy,
    credential: terms.credential === 'jwt' ? setting.jwt : setting.token,
    running,
  };
}

export function policyText(setting: Setting, terms: Terms, name: string): string {
  const tokens = [setting.token, ...(terms.tokens ?? [])].map(
    (token, index) => `{ name: bench-${String(index)}, roles: [user], sha256: ${sha256Hex(token)} }`,
  );
  return `version: 1
listeners:
  main:
    bind: 127.0.0.1:0
    tls: { cert: ${setting.certFile}, key: ${setting.keyFile} }
    allow_from: [${[...(terms.deniesLoad === true ? [] : ['127.0.0.1']), '10.0.0.0/8', ...(terms.networks ?? [])].join(', ')}]
    limits: { connections: 16000 }
${terms.listener ?? ''}    upstream: ${setting.service}
    authenticate: [keys, sso]
    routes:
      - { name: health, path: /health, methods: [GET], public: true }
      - { name: dev, path: /dev/**, deny: true }
${terms.routes ?? ''}      - { name: job, path: "/v1/jobs/{job_id}", methods: [GET], from: [127.0.0.1], require: access }
      - { name: rest, path: /**, methods: [GET, POST, PUT], require: access }
authenticators:
  keys: { type: bearer, tokens: [${tokens.join(', ')}] }
  sso: { type: jwt, issuer: bench, audience: bench, public_key: { file: ${setting.jwtKeyFile} }, roles_from: roles }
roles: { user: [access] }
state: { dir: ${join(setting.dir, name)} }
log: { file: ${join(setting.dir, `${name}.log`)} }
${terms.more ?? ''}`;
}
