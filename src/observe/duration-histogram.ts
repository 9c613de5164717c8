/** Upper bounds in seconds, as OpenTelemetry advises for HTTP. */
const BOUNDS: readonly number[] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

/** Observations by bucket, as another process counted them. */
export interface Durations {
  readonly buckets: Float64Array;
  readonly sum: number;
}

/** The observations of one set of labels. */
export class DurationSeries {
  /** By the smallest bound that holds them; the last one holds the rest. */
  readonly buckets = new Float64Array(BOUNDS.length + 1);
  sum = 0;

  observe(seconds: number): void {
    // A clock that was set back must not make a total go down.
    const value = seconds > 0 ? seconds : 0;
    let index = 0;
    while (index < BOUNDS.length && value > (BOUNDS[index] ?? 0)) index++;
    this.buckets[index] = (this.buckets[index] ?? 0) + 1;
    this.sum += value;
  }

  /** All of them; there are none then. */
  take(): Durations {
    const taken = { buckets: this.buckets.slice(), sum: this.sum };
    this.buckets.fill(0);
    this.sum = 0;
    return taken;
  }

  add({ buckets, sum }: Durations): void {
    for (const [index, count] of buckets.entries()) this.buckets[index] = (this.buckets[index] ?? 0) + count;
    this.sum += sum;
  }
}

/**
 * A histogram in Prometheus' text format. prom-client's own looks its labels up with every observation, which costs
 * half a microsecond each, and cannot be filled from numbers that were counted elsewhere.
 */
export class DurationHistogram {
  readonly #name: string;
  readonly #help: string;
  readonly #labels: readonly string[];

  constructor(name: string, help: string, labels: readonly string[]) {
    this.#name = name;
    this.#help = help;
    this.#labels = labels;
  }

  text(all: readonly { readonly labels: readonly string[]; readonly series: DurationSeries }[]): string {
    const lines = [`# HELP ${this.#name} ${this.#help}`, `# TYPE ${this.#name} histogram`];
    for (const { labels, series } of all) {
      const shared = this.#labels.map((name, index) => `${name}="${escapeLabel(labels[index] ?? '')}"`).join(',');
      const before = shared === '' ? '' : `${shared},`;
      let count = 0;
      for (const [index, inBucket] of series.buckets.entries()) {
        count += inBucket;
        const bound = BOUNDS[index];
        lines.push(`${this.#name}_bucket{${before}le="${bound === undefined ? '+Inf' : String(bound)}"} ${count}`);
      }
      lines.push(`${this.#name}_sum{${shared}} ${series.sum}`, `${this.#name}_count{${shared}} ${count}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

function escapeLabel(value: string): string {
  return value.replace(/[\\"\n]/g, (character) => (character === '\n' ? '\\n' : `\\${character}`));
}
