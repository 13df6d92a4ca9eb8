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
  /** Steps taken so far. */
  readonly steps: () => number;
  /** Resolves when nothing is under way that was begun with a mortal object, or after a moment. */
  atRest(): Promise<void>;
}

const NEVER = new Promise<never>(() => undefined);
/** For calls that a checkpoint has stopped inside of a driver, and that never end. In milliseconds of the real clock. */
const MOMENT_MS = 30;

export function beginLife(): Life {
  let left = Number.POSITIVE_INFINITY;
  let taken = 0;
  let last: string | null = null;
  let end: () => void = () => undefined;
  const over = new Promise<void>((resolve) => (end = resolve));
  const underWay = new Set<Promise<unknown>>();

  const checkpoint = (step: string): Promise<void> | void => {
    if (left <= 0) return NEVER;
    left -= 1;
    taken += 1;
    if (left > 0) return undefined;
    last = step;
    end();
    return NEVER;
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
    return left <= 0 ? await NEVER : value;
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
    async atRest() {
      await Promise.race([Promise.all(underWay), new Promise((resolve) => setTimeout(resolve, MOMENT_MS))]);
    },
  };
}

function isMethod(member: unknown): member is (...given: unknown[]) => unknown {
  return typeof member === 'function';
}

const noop = (): void => undefined;
