/** Until when each long-term line of Node gets security fixes: https://github.com/nodejs/release. */
const ENDS_OF_LIFE: ReadonlyMap<number, string> = new Map([
  [20, '2026-04-30'],
  [22, '2027-04-30'],
  [24, '2028-04-30'],
]);

const OLDEST = [20, 18, 1] as const;
const DAY_MS = 86_400_000;
/** Time to plan the move to the next line. */
const NOTICE_DAYS = 90;

export interface NodeVerdict {
  readonly status: 'ok' | 'warn' | 'failed';
  readonly detail: string;
  readonly fix: string | null;
}

/**
 * Is this version of Node one to put on a network.
 *
 * @param version as `process.versions.node` says it
 */
export function judgeNode(version: string, nowMs: number): NodeVerdict {
  const [major = 0, minor = 0, patch = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  const fix = adviceAt(nowMs);
  if (isOlder([major, minor, patch])) {
    return { status: 'failed', detail: `Node ${version} is older than ${OLDEST.join('.')}, which guardbee needs`, fix };
  }
  const until = ENDS_OF_LIFE.get(major);
  if (until === undefined) {
    return major % 2 === 1
      ? { status: 'warn', detail: `Node ${version} is not of a long-term line: fixes end after months`, fix }
      : { status: 'ok', detail: `Node ${version}`, fix: null };
  }
  const daysLeft = Math.ceil((Date.parse(until) + DAY_MS - nowMs) / DAY_MS);
  if (daysLeft <= 0) {
    return { status: 'failed', detail: `Node ${version}: line ${major} gets no security fixes since ${until}`, fix };
  }
  return daysLeft <= NOTICE_DAYS
    ? { status: 'warn', detail: `Node ${version}: line ${major} gets security fixes until ${until} only`, fix }
    : { status: 'ok', detail: `Node ${version}, with security fixes until ${until}`, fix: null };
}

function isOlder(version: readonly number[]): boolean {
  for (const [index, wanted] of OLDEST.entries()) {
    const have = version[index] ?? 0;
    if (have !== wanted) return have < wanted;
  }
  return false;
}

function adviceAt(nowMs: number): string {
  const newest = [...ENDS_OF_LIFE].filter(([, until]) => Date.parse(until) > nowMs + NOTICE_DAYS * DAY_MS).at(-1);
  return newest === undefined ? 'install a Node line that still gets fixes' : `install Node ${newest[0]}`;
}
