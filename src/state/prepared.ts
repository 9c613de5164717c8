/** What is ready to go over to another policy. One of the two is called, once. */
export interface Prepared {
  /** Goes over; nothing can fail any more. */
  commit(): void;
  /** Another part could not be had: lets go of what was opened for it. */
  abandon(): Promise<void>;
}

export function preparedAll(parts: readonly Prepared[]): Prepared {
  return {
    commit: () => {
      for (const part of parts) part.commit();
    },
    abandon: async () => {
      for (const part of parts) await part.abandon();
    },
  };
}

/** Prepares one after the other; where one can't be had, those before it are let go of. */
export async function prepareAll(steps: readonly (() => Promise<Prepared>)[]): Promise<Prepared> {
  const parts: Prepared[] = [];
  try {
    for (const step of steps) parts.push(await step());
  } catch (error) {
    await preparedAll(parts).abandon();
    throw error;
  }
  return preparedAll(parts);
}
