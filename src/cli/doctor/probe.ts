import { type Finding, warn } from './finding.js';

/** The longest that doctor waits for any one thing it asks. */
export const PROBE_MS = 3000;

/** One thing to look at, which may take time. */
export interface Probe {
  /** As its findings call it. */
  readonly check: string;
  /** Rejects only for a bug of ours. */
  readonly look: () => Promise<readonly Finding[]> | readonly Finding[];
}

/**
 * Looks at everything at once; what is found comes in the order of the probes. A probe that takes longer than
 * `PROBE_MS` is given up.
 *
 * @param tell told what is still being looked at, each time that is less
 */
export async function lookAtAll(
  probes: readonly Probe[],
  tell: (waitingFor: readonly string[]) => void,
): Promise<Finding[]> {
  const waiting = new Set(probes);
  const tellAll = (): void => tell([...waiting].map(({ check }) => check));
  tellAll();
  const found = await Promise.all(
    probes.map(async (probe) => {
      const findings = await within(PROBE_MS, probe);
      waiting.delete(probe);
      tellAll();
      return findings;
    }),
  );
  return found.flat();
}

async function within(limitMs: number, { check, look }: Probe): Promise<readonly Finding[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<readonly Finding[]>((resolve) => {
    timer = setTimeout(() => {
      resolve([
        warn(check, `not known: no answer within ${limitMs / 1000} s`, 'see what keeps it: a disk, a network, a name'),
      ]);
    }, limitMs);
  });
  try {
    return await Promise.race([look(), late]);
  } finally {
    clearTimeout(timer);
  }
}
