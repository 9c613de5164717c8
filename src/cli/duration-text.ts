const UNITS: readonly (readonly [unit: string, ms: number])[] = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['m', 60_000],
  ['s', 1000],
];

/** As the reference writes it. Seconds up to two minutes, since that is how people compare timeouts. */
export function duration(ms: number): string {
  if (ms === Infinity) return 'none';
  for (const [unit, size] of UNITS)
    if (ms >= size * (unit === 'm' ? 2 : 1) && ms % size === 0) return `${ms / size}${unit}`;
  return `${ms}ms`;
}
