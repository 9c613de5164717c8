import type * as Prometheus from 'prom-client';
import type { Counter, Gauge, Registry } from 'prom-client';

/** Puts metrics into a registry that are read where they are counted. */
export class Register {
  readonly #prometheus: typeof Prometheus;
  readonly #registry: Registry;

  constructor(prometheus: typeof Prometheus, registry: Registry) {
    this.#prometheus = prometheus;
    this.#registry = registry;
  }

  counter(name: string, help: string, labels: readonly string[], read: Read): void {
    const metric: Counter = new this.#prometheus.Counter({
      name: `guardbee_${name}`,
      help,
      labelNames: labels,
      registers: [this.#registry],
      collect: () => {
        metric.reset();
        read((values, count) => {
          if (labels.length === 0) metric.inc(count);
          else metric.labels(...values).inc(count);
        });
      },
    });
  }

  gauge(name: string, help: string, labels: readonly string[], read: Read): void {
    const metric: Gauge = new this.#prometheus.Gauge({
      name: `guardbee_${name}`,
      help,
      labelNames: labels,
      registers: [this.#registry],
      collect: () => {
        metric.reset();
        read((values, value) => {
          metric.labels(...values).set(value);
        });
      },
    });
  }
}

export type Read = (put: (labels: readonly string[], value: number) => void) => void;
