import type { Clock } from '../../src/platform.ts';
import { systemClock } from '../../src/telemetry/system-clock.ts';
import type { SignedPath } from './signed-path.ts';

/** The same object with some of its methods replaced; the others stay bound to it. */
export function withMethods<T extends object>(target: T, methods: Partial<T>): T {
  return new Proxy(target, {
    get(object, name): unknown {
      const replaced: unknown = Reflect.get(methods, name);
      if (replaced !== undefined) return replaced;
      const member: unknown = Reflect.get(object, name, object);
      return typeof member === 'function' ? member.bind(object) : member;
    },
  });
}

/** The key under which a Snowcap gives the NAR of a path: it is asked for the narinfo. */
export async function servedKey(
  snowcap: { get(path: string): Promise<Response> },
  { hash }: Pick<SignedPath, 'hash'>,
): Promise<string> {
  const response = await snowcap.get(`/${hash}.narinfo`);
  const text = await response.text();
  const url = /^URL: (.*)$/m.exec(text)?.[1];
  if (url === undefined) throw new Error(`No URL in the answer ${response.status}: ${text}`);
  return url;
}

/** The real clock, which a test can set forward. */
export interface ShiftedClock extends Clock {
  /** Lets `milliseconds` pass for those who look at the time. Waits under way are as long as before. */
  advance(milliseconds: number): void;
  /** How long each wait was to be, in milliseconds, in order. */
  readonly waits: readonly number[];
}

/** @param hurried whether a wait of so many milliseconds ends at once. Default none */
export function shiftedClock(hurried: (milliseconds: number) => boolean = () => false): ShiftedClock {
  let shift = 0;
  const waits: number[] = [];
  return {
    waits,
    now: () => systemClock.now() + shift,
    sleep(milliseconds, signal) {
      waits.push(milliseconds);
      return systemClock.sleep(hurried(milliseconds) ? 0 : milliseconds, signal);
    },
    advance(milliseconds) {
      shift += milliseconds;
    },
  };
}
