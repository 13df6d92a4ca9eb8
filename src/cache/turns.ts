/** Lets so much work run at once; the rest waits for its turn, in the order in which it came. */
export interface Turns {
  /**
   * Runs the work when its turn has come, and gives its result or error.
   *
   * @param weight how much of what there is it takes; what takes more than all runs alone
   * @default 1
   */
  take<Result>(work: () => Promise<Result>, weight?: number): Promise<Result>;
}

/** @param most the sum of the weights of what runs at once */
export function createTurns(most: number): Turns {
  const waiting: { readonly weight: number; readonly begin: () => void }[] = [];
  let running = 0;

  const fits = (weight: number): boolean => running === 0 || running + weight <= most;

  function passOn(): void {
    for (let next = waiting[0]; next !== undefined && fits(next.weight); next = waiting[0]) {
      waiting.shift();
      running += next.weight;
      next.begin();
    }
  }

  return {
    async take(work, weight = 1) {
      // Nobody who comes now is before those who wait.
      if (waiting.length === 0 && fits(weight)) running += weight;
      else await new Promise<void>((resolve) => waiting.push({ weight, begin: resolve }));
      try {
        return await work();
      } finally {
        running -= weight;
        passOn();
      }
    },
  };
}
