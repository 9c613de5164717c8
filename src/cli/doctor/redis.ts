import type { Policy } from '../../policy/policy.js';
import type { SentinelState } from '../../state/redis-look.js';
import { type Finding, failed, ok, skipped, warn } from './finding.js';

const ACCEPT_LOSS = 'revoke again what must be, then run "guardbee revoke --accept-loss"';

/** @param secretsRead false: nothing of the secrets is known, nor the URL */
export async function lookAtRedis({ redis, stateDir }: Policy, secretsRead: boolean): Promise<Finding[]> {
  if (redis === null) return [];
  const check = 'redis';
  if (!secretsRead) {
    return [skipped(check, 'not asked: not all secrets of the policy could be read', 'mend what is said of them')];
  }
  // Its client is loaded where there is something to ask.
  const asked = await import('../../state/redis-look.js');
  const look = await asked.lookAtRedis(redis, stateDir);
  if (look.kind === 'silent') {
    return [
      failed(check, `it cannot be asked: ${look.why}`, 'see that it runs, and that its URL and password are right'),
    ];
  }
  const { version, isReplica, evicts, sentinel } = look;
  const findings = [
    isReplica
      ? failed(check, 'it is a replica, which may be behind', 'give the URL of the primary')
      : ok(check, `it answers (${version ?? 'its version is told only to those who may ask'})`),
  ];
  if (evicts !== null) {
    findings.push(
      warn(
        check,
        `it drops keys when its memory is full (maxmemory-policy ${evicts}), revocations among them`,
        'set maxmemory-policy noeviction',
      ),
    );
  }
  findings.push(judgeSentinel(sentinel));
  return findings;
}

function judgeSentinel(state: SentinelState): Finding {
  const check = 'redis sentinel';
  switch (state) {
    case 'none':
      return ok(check, 'none yet: it is set at the first start that shares revocations');
    case 'of_others':
      return ok(check, 'there, set by another guardbee; this one has not begun to use it');
    case 'same':
      return ok(check, 'the one that was remembered, so nothing was lost');
    case 'accepted':
      return ok(check, 'a new one, after a loss that somebody has accepted');
    case 'missing':
      return failed(check, 'missing: the store was emptied, and with it what was revoked', ACCEPT_LOSS);
    case 'another':
      return failed(
        check,
        'not the one that was remembered: this is another store',
        `see state.redis.url; or ${ACCEPT_LOSS}`,
      );
    case 'unknown':
      return warn(
        check,
        'not known: what was remembered cannot be read',
        'run doctor as the user that guardbee runs as',
      );
  }
}
