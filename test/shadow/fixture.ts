import assert from 'node:assert/strict';
import type { Guard } from '../support/guard.js';
import { request } from '../support/raw-client.js';
import { waitUntil } from '../support/wait.js';

export interface Counts {
  readonly same: number;
  readonly differs: number;
  readonly undecided: number;
}

/** A page of the admin listener, which the policy must have. */
export async function metricsPage(guard: Guard, path = '/metrics'): Promise<string> {
  const admin = await guard.process.waitForLog((line) => line['event.name'] === 'admin.open');
  const answer = await request({ port: Number(new URL(String(admin['url.full'])).port) }, { path });
  assert.equal(answer.status, 200);
  return answer.text();
}

/** What came of asking the second policy on a listener, once it was asked `atLeast` so often. */
export async function countsOf(guard: Guard, listener: string, atLeast: number): Promise<Counts> {
  return await waitUntil(
    async () => {
      const page = await metricsPage(guard);
      const count = (outcome: keyof Counts): number => {
        const row = `guardbee_shadow_decisions_total{listener="${listener}",outcome="${outcome}"} `;
        const line = page.split('\n').find((one) => one.startsWith(row));
        assert.ok(line !== undefined, `no ${row}`);
        return Number(line.slice(row.length));
      };
      const counts = { same: count('same'), differs: count('differs'), undecided: count('undecided') };
      return counts.same + counts.differs + counts.undecided >= atLeast ? counts : null;
    },
    `${String(atLeast)} decisions of the shadow policy on ${listener}`,
  );
}
