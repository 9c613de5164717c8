/** Of figures taken over time, whether they rise. */
export interface Trend {
  readonly first: number;
  readonly last: number;
  readonly highest: number;
  /** Least squares over what came after the warm-up, per minute. */
  readonly slopePerMinute: number;
  /** Minutes that the slope is of. */
  readonly minutes: number;
  readonly meaning: 'flat' | 'rising' | 'too short to tell';
}

/** The first quarter is warm-up: caches fill, and the compiler compiles. */
const WARM_UP = 0.25;
/** A slope over less says how a program starts, not how it lives. */
const SHORTEST_MINUTES = 1;

/**
 * @param samples in the order of their times
 * @param tolerated how much the line may rise from warm-up to end and still be called flat
 */
export function trendOf(samples: readonly (readonly [seconds: number, value: number])[], tolerated: number): Trend {
  const values = samples.map(([, value]) => value);
  const settled = samples.slice(Math.floor(samples.length * WARM_UP));
  const minutes = ((settled.at(-1)?.[0] ?? 0) - (settled[0]?.[0] ?? 0)) / 60;
  const slope = leastSquaresSlope(settled) * 60;
  return {
    first: values[0] ?? 0,
    last: values.at(-1) ?? 0,
    highest: values.reduce((highest, value) => Math.max(highest, value), 0),
    slopePerMinute: slope,
    minutes,
    meaning: minutes < SHORTEST_MINUTES ? 'too short to tell' : slope * minutes > tolerated ? 'rising' : 'flat',
  };
}

/** In units of the value for each second; 0 where there are no two times. */
function leastSquaresSlope(samples: readonly (readonly [seconds: number, value: number])[]): number {
  const mean = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length;
  const middle = mean(samples.map(([seconds]) => seconds));
  const level = mean(samples.map(([, value]) => value));
  let products = 0;
  let squares = 0;
  for (const [seconds, value] of samples) {
    products += (seconds - middle) * (value - level);
    squares += (seconds - middle) ** 2;
  }
  return squares === 0 ? 0 : products / squares;
}
