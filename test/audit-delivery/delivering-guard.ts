import { type Guard, startGuard } from '../support/guard.js';
import { testCertificates } from '../support/certificates.js';
import { type PolicyValue, writeFileIn } from '../support/policy-builder.js';
import { request, type RawResponse } from '../support/raw-client.js';
import type { RecordingUpstream } from '../support/recording-upstream.js';

export const TOKEN = 'c0llector-t0ken-9b1d7e';

/** guardbee with a trail that goes to a collector, and with admin pages. */
export async function startDeliveringGuard(
  url: string,
  upstream: RecordingUpstream,
  deliver: Readonly<Record<string, PolicyValue>> = {},
  audit: Readonly<Record<string, PolicyValue>> = {},
  env: Readonly<Record<string, string>> = {},
): Promise<Guard> {
  const { ca } = await testCertificates();
  const tls: Record<string, PolicyValue> = url.startsWith('https:') ? { ca: 'collector-ca.pem' } : {};
  return await startGuard({
    upstream: upstream.url,
    env,
    prepare: (directory) => {
      writeFileIn(directory, 'collector-ca.pem', ca, 0o644);
      writeFileIn(directory, 'collector.token', `${TOKEN}\n`);
    },
    top: {
      admin: { bind: '127.0.0.1:0' },
      audit: {
        dir: 'log',
        ...audit,
        deliver: {
          url,
          token: { file: 'collector.token' },
          ...tls,
          batch: { interval: '100ms' },
          ...deliver,
        },
      },
    },
  });
}

/** A page of the admin listener, whatever its status. */
export async function adminPage(guard: Guard, path: string): Promise<RawResponse> {
  const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  return await request({ port: Number(new URL(String(admin['url.full'])).port) }, { path });
}

/** A sample of the metrics page; NaN where there is none. */
export async function metric(guard: Guard, sample: string): Promise<number> {
  const page = await adminPage(guard, '/metrics');
  const line = page
    .text()
    .split('\n')
    .find((one) => one.startsWith(`${sample} `));
  return line === undefined ? Number.NaN : Number(line.slice(sample.length + 1));
}
