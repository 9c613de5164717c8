import { addressText, askAdmin, summaryOf } from '../health.js';
import { type Finding, failed, ok, skipped } from './finding.js';

export async function lookAtReadiness(admin: { readonly host: string; readonly port: number }): Promise<Finding[]> {
  const check = 'ready';
  const at = addressText(admin);
  if (admin.port === 0) {
    return [skipped(check, 'not asked: the admin port is chosen at each start', 'give it a port of its own')];
  }
  const answer = await askAdmin(admin, '/readyz');
  if (answer.kind === 'silent') {
    return [skipped(check, `not asked: ${at}: ${answer.why}`, 'run guardbee, then ask again')];
  }
  return [
    answer.status === 200
      ? ok(check, `${at} says so`)
      : failed(
          check,
          `${at} answers ${answer.status}${failedOf(answer.body) ?? summaryOf(answer.body)}`,
          'see what it names, and the log',
        ),
  ];
}

/** The checks of `/readyz` that failed; null where it says none. */
function failedOf(body: unknown): string | null {
  if (typeof body !== 'object' || body === null || !('checks' in body)) return null;
  const { checks } = body;
  if (typeof checks !== 'object' || checks === null) return null;
  const said = Object.entries(checks).flatMap(([name, check]: [string, unknown]) => {
    if (typeof check !== 'object' || check === null) return [];
    const { status, detail } = check as Readonly<Record<string, unknown>>;
    return status === 'failed' && typeof detail === 'string' ? [`${name} (${detail})`] : [];
  });
  return said.length === 0 ? null : `: ${said.join(', ').slice(0, 1000)}`;
}
