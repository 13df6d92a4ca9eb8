import type { Clock } from '../platform.ts';
import type { UpstreamFault } from './upstreams.ts';

/** What one upstream said. */
export type Verdict<T> =
  | { readonly kind: 'yes'; readonly value: T }
  | { readonly kind: 'no'; readonly reason: string | null }
  | { readonly kind: 'fault'; readonly fault: UpstreamFault };

/** One upstream in a race. */
export interface Contender<T> {
  /** Rejects only with the signal's reason, or with an error that ends the whole race. */
  ask(signal: AbortSignal): Promise<Verdict<T>>;
  /** Whether a worse success should wait for it. */
  readonly worthWaiting: boolean;
  /** A worse success has waited for it in vain. */
  lostHedge(): void;
  /** Frees the value of a verdict that came too late to be used. */
  discard?(value: T): void;
}

export type RaceResult<T> =
  | { readonly kind: 'won'; readonly index: number; readonly value: T }
  | { readonly kind: 'none'; readonly reasons: readonly string[]; readonly faults: readonly UpstreamFault[] };

export interface RaceOptions {
  readonly clock: Clock;
  readonly hedgeMs: number;
  /**
   * `together`: all are asked at once. `staggered`: the next one is asked when the one before it did not say
   * yes, or has not answered for the time of a hedge.
   */
  readonly start: 'together' | 'staggered';
  /** Milliseconds for all of it; those who have not answered by then see a `DeadlineError` as the reason. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/** The reason with which contenders are aborted whose time is over: for them it is a fault. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';
}

/** The reason with which losers are aborted: nothing about them is a fault. One for all: no stack is wanted. */
const LOST = new Error('Another upstream answered first');

/**
 * Asks the contenders, best first, and takes the best success. A worse one waits `hedgeMs` for better ones that are
 * still on their way, and wins then. What is not needed any more is aborted. (Staggered, each has had
 * its hedge before a worse one was asked, so the first success wins.)
 *
 * @throws what a contender's `ask` throws; the signal's reason when it is aborted
 */
export function race<T>(contenders: readonly Contender<T>[], options: RaceOptions): Promise<RaceResult<T>> {
  return new Race(contenders, options).run();
}

class Race<T> {
  readonly #contenders: readonly Contender<T>[];
  readonly #options: RaceOptions;
  readonly #verdicts: (Verdict<T> | undefined)[];
  /** One each, so that the losers are aborted and the winner, whose body is still to be read, is not. */
  readonly #aborters: AbortController[] = [];
  readonly #timers = new AbortController();
  readonly #outcome: PromiseWithResolvers<RaceResult<T>> = Promise.withResolvers();
  #over = false;
  #hedging = false;

  constructor(contenders: readonly Contender<T>[], options: RaceOptions) {
    this.#contenders = contenders;
    this.#options = options;
    this.#verdicts = contenders.map(() => undefined);
  }

  run(): Promise<RaceResult<T>> {
    const { signal, deadlineMs, start } = this.#options;
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (deadlineMs !== undefined) {
      const late = new DeadlineError(`no answer within ${deadlineMs} ms`);
      this.#after(deadlineMs, () => this.#aborters.forEach((aborter) => aborter.abort(late)));
    }
    if (this.#contenders.length === 0) this.#end(null, { kind: 'none', reasons: [], faults: [] });
    else if (start === 'staggered') this.#askNext();
    else this.#contenders.forEach(() => this.#askNext());
    return this.#outcome.promise;
  }

  #askNext(): void {
    const index = this.#aborters.length;
    const contender = this.#contenders[index];
    if (contender === undefined || this.#over) return;
    const aborter = new AbortController();
    this.#aborters.push(aborter);
    const { signal, start, hedgeMs } = this.#options;
    contender.ask(signal === undefined ? aborter.signal : AbortSignal.any([signal, aborter.signal])).then(
      (verdict) => {
        this.#verdicts[index] = verdict;
        if (!this.#over) this.#judge();
        else if (verdict.kind === 'yes') contender.discard?.(verdict.value);
      },
      (error: unknown) => this.#fail(error),
    );
    if (start === 'staggered' && index + 1 < this.#contenders.length) {
      this.#after(hedgeMs, () => {
        if (this.#aborters.length === index + 1) this.#askNext();
      });
    }
  }

  #judge(): void {
    const best = this.#best();
    if (best >= 0) {
      const wait =
        this.#options.start === 'together' &&
        this.#betterPending(best).some(({ worthWaiting }) => worthWaiting);
      if (!wait) this.#win(best);
      else this.#hedge();
      return;
    }
    const unasked = this.#aborters.length < this.#contenders.length;
    if (unasked && this.#verdicts[this.#aborters.length - 1] !== undefined) this.#askNext();
    else if (this.#verdicts.every((verdict) => verdict !== undefined)) this.#end(null, none(this.#verdicts));
  }

  #hedge(): void {
    if (this.#hedging) return;
    this.#hedging = true;
    this.#after(this.#options.hedgeMs, () => {
      const best = this.#best();
      for (const contender of this.#betterPending(best)) contender.lostHedge();
      this.#win(best);
    });
  }

  #best(): number {
    return this.#verdicts.findIndex((verdict) => verdict?.kind === 'yes');
  }

  #betterPending(index: number): readonly Contender<T>[] {
    return this.#contenders.slice(0, index).filter((_, at) => this.#verdicts[at] === undefined);
  }

  #win(index: number): void {
    const verdict = this.#verdicts[index];
    if (verdict?.kind === 'yes') this.#end(index, { kind: 'won', index, value: verdict.value });
  }

  #end(winner: number | null, result: RaceResult<T>): void {
    this.#close(winner);
    this.#outcome.resolve(result);
  }

  #fail(error: unknown): void {
    this.#close(null);
    this.#outcome.reject(error);
  }

  #close(winner: number | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#timers.abort(LOST);
    for (const [index, aborter] of this.#aborters.entries()) if (index !== winner) aborter.abort(LOST);
  }

  readonly #onAbort = (): void => this.#fail(this.#options.signal?.reason);

  #after(milliseconds: number, act: () => void): void {
    this.#options.clock.sleep(milliseconds, this.#timers.signal).then(
      () => {
        if (!this.#over) act();
      },
      () => undefined,
    );
  }
}

function none<T>(verdicts: readonly (Verdict<T> | undefined)[]): RaceResult<T> {
  const reasons: string[] = [];
  const faults: UpstreamFault[] = [];
  for (const verdict of verdicts) {
    if (verdict?.kind === 'no' && verdict.reason !== null) reasons.push(verdict.reason);
    if (verdict?.kind === 'fault') faults.push(verdict.fault);
  }
  return { kind: 'none', reasons, faults };
}
