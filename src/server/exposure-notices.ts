import type { Log } from '../observe/log.js';
import type { Metrics } from '../observe/metrics.js';
import { constant } from '../observe/redact.js';
import type { Policy } from '../policy/policy.js';
import type { Exposure } from './exposure.js';

/** What is seen of the upstreams of a policy: in metrics, and in the log where one can be reached around guardbee. */
export function noticeExposures(
  all: readonly Exposure[],
  { upstreamExposure }: Policy,
  metrics: Metrics,
  log: Log,
): void {
  for (const exposure of all) {
    metrics.upstreamExposure(exposure.upstream, exposure.state);
    // Seen in the same table, so that nothing is ever sent to an upstream to find out whether it is there.
    if (exposure.listening !== null) metrics.upstreamUp(exposure.upstream, exposure.listening);
    if (exposure.state !== 'exposed') continue;
    const accepted = upstreamExposure.mode === 'firewalled';
    log[accepted ? 'info' : 'warn'](
      'upstream.exposed',
      `upstream ${exposure.upstream} can be reached around guardbee: ${exposure.why}`,
      {
        'guardbee.upstream': constant(exposure.upstream),
        'guardbee.addresses': constant(exposure.addresses.join(' ')),
      },
    );
  }
}
