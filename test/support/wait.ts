/** How long a test waits for something that should happen at once. Generous: two cores, many files at a time. */
export const PATIENCE_MS = 10_000;

/** Rejects, saying what was waited for, where `promise` takes longer than `timeoutMs`. */
export async function within<T>(promise: Promise<T>, what: string, timeoutMs = PATIENCE_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`waited ${String(timeoutMs)} ms for ${what}`));
    }, timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * For what sends no event, such as a file or another process's file descriptors: asks again and again until `check`
 * returns something other than null, undefined and false. Where there is an event, wait for the event.
 */
export async function waitUntil<T>(
  check: () => T | null | undefined | false | Promise<T | null | undefined | false>,
  what: string,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== null && value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`waited ${String(timeoutMs)} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Lets any number of callers wait for a condition on something that changes: each change calls `changed()`. */
export class Watchers {
  readonly #waiting = new Set<() => void>();

  changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Resolves with the first value of `look` that is neither null nor undefined, now or after a change. */
  async until<T>(look: () => T | null | undefined, what: () => string, timeoutMs = PATIENCE_MS): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(attempt);
      };
      const attempt = (): void => {
        try {
          const value = look();
          if (value === null || value === undefined) return;
          settle();
          resolve(value);
        } catch (error) {
          settle();
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      const timer = setTimeout(() => {
        settle();
        reject(new Error(`waited ${String(timeoutMs)} ms for ${what()}`));
      }, timeoutMs);
      this.#waiting.add(attempt);
      attempt();
    });
  }
}
