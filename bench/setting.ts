/** What all workloads of a run share: a folder, a certificate, a token, a signed token, and the service behind. */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ensureSelfSigned } from '../src/server/self-signed.js';
import { LOAD_CORE, type Running, beside, start } from './program.js';

export interface Setting {
  readonly dir: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly token: string;
  /** ES256, good for an hour. */
  readonly jwt: string;
  /** `count` others, none of which was made before. */
  jwts(count: number): string[];
  readonly jwtKeyFile: string;
  /** `http://127.0.0.1:PORT` */
  readonly service: string;
  readonly servicePort: number;
  stop(): Promise<void>;
}

export async function prepare(): Promise<Setting> {
  const dir = mkdtempSync(join(tmpdir(), 'guardbee-bench-'));
  let service: Running;
  try {
    service = await start({
      command: [process.execPath, beside('./service.js')],
      core: LOAD_CORE,
      until: /^\d+\n/,
    });
  } catch (error) {
    rmSync(dir, { recursive: true, force: true });
    throw error;
  }
  const tls = await ensureSelfSigned(join(dir, 'tls'), ['localhost', '127.0.0.1']);
  // HAProxy wants both in one file.
  writeFileSync(join(dir, 'both.pem'), readFileSync(tls.certFile, 'utf8') + readFileSync(tls.keyFile, 'utf8'), {
    mode: 0o600,
  });
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const jwtKeyFile = join(dir, 'jwt.pem');
  writeFileSync(jwtKeyFile, publicKey.export({ type: 'spki', format: 'pem' }), { mode: 0o600 });
  const now = Math.floor(Date.now() / 1000);
  const jwt = (id: string): string => {
    const claims = { iss: 'bench', aud: 'bench', sub: 'bench', roles: ['user'], jti: id, iat: now, exp: now + 3600 };
    const input = [{ alg: 'ES256', typ: 'JWT' }, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
    return `${input}.${signature.toString('base64url')}`;
  };
  let made = 0;
  const servicePort = Number(service.said.trim());
  return {
    dir,
    certFile: tls.certFile,
    keyFile: tls.keyFile,
    token: `gbee_${randomBytes(32).toString('base64url')}`,
    jwt: jwt('bench'),
    jwts: (count) => Array.from({ length: count }, () => jwt(`bench-${String(made++)}`)),
    jwtKeyFile,
    service: `http://127.0.0.1:${String(servicePort)}`,
    servicePort,
    stop: async () => {
      await service.stop();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
