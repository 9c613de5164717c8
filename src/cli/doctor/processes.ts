import type { Policy } from '../../policy/policy.js';
import { coresFor } from '../../workers/cores.js';
import { type Finding, ok, warn } from './finding.js';
import type { Running } from './running.js';

/** How many processes serve, and whether there is a core for each. @param root of the file system; `/` but in tests */
export async function lookAtProcesses(
  { processes }: Pick<Policy, 'processes'>,
  running: Running | null,
  root = '/',
): Promise<Finding[]> {
  const check = 'processes';
  // Where none runs, what doctor itself may use tells what guardbee would have here.
  const cores = await coresFor(running?.pid ?? 'self', root);
  const there = cores === 1 ? 'there is one core' : `there are ${String(cores)} cores`;
  if (processes === 'auto') return [ok(check, `auto is ${String(cores)} here: ${there}`)];
  const asked = `the policy asks for ${String(processes)}, and ${there}`;
  return [
    processes <= cores
      ? ok(check, asked)
      : warn(
          check,
          `${asked}: more of them take memory and serve no faster`,
          `processes: auto, or a quota of ${String(processes)} cores (CPUQuota= in the unit, --cpus for a container) where the machine has them`,
        ),
  ];
}
