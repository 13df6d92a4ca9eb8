import type { Clock } from '../../../src/platform.ts';

/** The life of one process of a run, which may end at any step that it takes. */
export interface Life {
  /** Dies as soon as it takes its `steps`-th step from now on; null: it lives on. */
  endAfter(steps: number | null): void;
  isOver(): boolean;
  /** Resolves when it is over. */
  readonly over: Promise<void>;
  /** To be awaited before each step: never resolves when the life is over. */
  readonly checkpoint: (step: string) => Promise<void> | void;
  /** The step at which it ended. */
  readonly lastStep: () => string | null;
  /** The same object as long as this life lasts: each call of a method is a step, and what is over learns of no answer. */
  mortal<T extends object>(what: string, target: T): T;
  /** The same clock as long as this life lasts: what waits then waits for ever, and keeps no timer. */
  mortalClock(clock: Clock): Clock;
  /** Steps taken so far. */
  readonly steps: () => number;
  /** Resolves when nothing is under way that was begun with a mortal object, or after a moment. */
  atRest(): Promise<void>;
}

/** A new one each time: whoever waits for it is forgotten with it. */
const never = (): Promise<never> => new Promise(() => undefined);
/** For calls that a checkpoint has stopped inside of a driver, and that never end. In milliseconds of the real clock. */
const MOMENT_MS = 30;

export function beginLife(): Life {
  let left = Number.POSITIVE_INFINITY;
  let taken = 0;
  let last: string | null = null;
  let end: () => void = () => undefined;
  const ended = new AbortController();
  const over = new Promise<void>((resolve) => {
    end = () => {
      ended.abort();
      resolve();
    };
  });
  const underWay = new Set<Promise<unknown>>();

  const checkpoint = (step: string): Promise<void> | void => {
    if (left <= 0) return never();
    left -= 1;
    taken += 1;
    if (left > 0) return undefined;
    last = step;
    end();
    return never();
  };

  async function call(
    member: (...given: unknown[]) => unknown,
    target: object,
    given: unknown[],
  ): Promise<unknown> {
    const result = Promise.resolve(Reflect.apply(member, target, given));
    const settled = result.then(noop, noop).finally(() => underWay.delete(settled));
    underWay.add(settled);
    const value = await result;
    return left <= 0 ? await never() : value;
  }

  return {
    endAfter(steps) {
      left = steps ?? Number.POSITIVE_INFINITY;
    },
    isOver: () => left <= 0,
    over,
    checkpoint,
    lastStep: () => last,
    steps: () => taken,
    mortal: (what, target) =>
      new Proxy(target, {
        get(object, name): unknown {
          const member: unknown = Reflect.get(object, name, object);
          if (!isMethod(member)) return member;
          if (name === 'list') return member.bind(object);
          return async (...given: unknown[]): Promise<unknown> => {
            await checkpoint(`${what}.${String(name)}`);
            return await call(member, object, given);
          };
        },
      }),
    mortalClock: (clock) => ({
      now: () => clock.now(),
      async sleep(milliseconds, signal) {
        const signals = signal === undefined ? [ended.signal] : [ended.signal, signal];
        try {
          await clock.sleep(milliseconds, AbortSignal.any(signals));
        } catch (error) {
          if (left <= 0) await never();
          throw error;
        }
      },
    }),
    async atRest() {
      await Promise.race([Promise.all(underWay), new Promise((resolve) => setTimeout(resolve, MOMENT_MS))]);
    },
  };
}

function isMethod(member: unknown): member is (...given: unknown[]) => unknown {
  return typeof member === 'function';
}

const noop = (): void => undefined;
