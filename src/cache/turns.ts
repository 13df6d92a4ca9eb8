/** Lets so many works run at once; the others wait for their turn, in the order in which they came. */
export interface Turns {
  /** Runs the work when its turn has come, and gives its result or error. */
  take<Result>(work: () => Promise<Result>): Promise<Result>;
}

/** @param most how many works run at once */
export function createTurns(most: number): Turns {
  const waiting: (() => void)[] = [];
  let running = 0;
  return {
    async take(work) {
      if (running < most) running += 1;
      else await new Promise<void>((resolve) => waiting.push(resolve));
      try {
        return await work();
      } finally {
        // The turn passes on to the next as it is, so that nobody who comes now is before it.
        const next = waiting.shift();
        if (next === undefined) running -= 1;
        else next();
      }
    },
  };
}
