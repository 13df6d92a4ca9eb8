import { patience } from '../platform.ts';
import { type Admission, Circuit } from './circuit.ts';
import { type LeaseService, type LockOptions, LockRefusedError, LockServiceError } from './lease-service.ts';

/** Below what callers grant a lock service beyond their wait, so that its lateness is found here. */
const DEFAULT_ANSWER_MS = 750;
/** Before a request whose connection broke is sent once more, in milliseconds. */
const RETRY_MS = { least: 10, most: 50 };

type Operation = 'take' | 'extend' | 'release' | 'ping';

/**
 * A lock service that is waited for so long and no longer, and left alone while it is at fault.
 *
 * - What fails quickly is sent once more: a connection that broke tells nothing of the service.
 * - Nobody waits for an answer longer than `answerMs`.
 * - A lease whose answer never came may be held all the same. It is given back at once, and again if the answer
 *   comes after all: the first may have overtaken the request.
 * - After a few faults in a row requests fail at once, but for a probe now and then. One line is logged when that begins and
 *   one when it ends.
 */
export function guardLeases(leases: LeaseService, options: LockOptions): LeaseService {
  const { platform, monotonic = () => performance.now(), answerMs = DEFAULT_ANSWER_MS } = options;
  const { clock, logger, metrics } = platform;
  const { description } = leases;
  const circuit = new Circuit();

  function count(operation: Operation, outcome: string): void {
    metrics.count('snowcap_lock_operations_total', { operation, outcome });
  }

  function answered(): void {
    if (!circuit.answered()) return;
    metrics.gauge('snowcap_lock_circuit_open', 0, { service: description });
    logger.info('A lock service answers again', { service: description });
  }

  function failed(admission: Admission, error: unknown): void {
    if (!circuit.failed(admission, monotonic(), platform.random())) return;
    metrics.gauge('snowcap_lock_circuit_open', 1, { service: description });
    logger.warn('A lock service is at fault: work goes on without it', { service: description, error });
  }

  /** Sent once more where the first one breaks. @param signal aborted when nobody waits any more */
  async function send<Answer>(work: () => Promise<Answer>, signal: AbortSignal): Promise<Answer> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof LockRefusedError || signal.aborted) throw error;
      await clock.sleep(RETRY_MS.least + (RETRY_MS.most - RETRY_MS.least) * platform.random(), signal);
      return await work();
    }
  }

  /** @param undo gets what may yet be answered, when nobody waits for it any more */
  async function ask<Answer>(
    operation: Operation,
    work: () => Promise<Answer>,
    outcomeOf: (answer: Answer) => string,
    undo?: (sent: Promise<Answer>) => void,
  ): Promise<Answer> {
    // Whoever asks for its health wants the truth.
    const admission = operation === 'ping' ? 'request' : circuit.admit(monotonic());
    if (admission === null) {
      count(operation, 'skipped');
      throw new LockServiceError(`${description} was at fault a moment ago and is left alone`);
    }
    const over = new AbortController();
    const sent = send(work, over.signal);
    const enough = patience(clock, answerMs, over.signal).then(() => {
      throw new LockServiceError(`${description} gave no answer within ${answerMs} ms`);
    });
    try {
      const answer = await Promise.race([sent, enough]);
      count(operation, outcomeOf(answer));
      answered();
      return answer;
    } catch (error) {
      count(operation, 'fault');
      failed(admission, error);
      if (!(error instanceof LockRefusedError)) undo?.(sent);
      throw error;
    } finally {
      over.abort();
    }
  }

  async function giveBack(name: string, token: string, taken: Promise<boolean>): Promise<void> {
    const release = (): Promise<void> => leases.release(name, token).catch(() => undefined);
    await release();
    if (await taken.catch(() => false)) await release();
  }

  return {
    description,
    take: (name, token, leaseMs) =>
      ask(
        'take',
        () => leases.take(name, token, leaseMs),
        (had) => (had ? 'ok' : 'taken'),
        (sent) => platform.defer('give back a lock that came late', giveBack(name, token, sent)),
      ),
    extend: (name, token, leaseMs) =>
      ask(
        'extend',
        () => leases.extend(name, token, leaseMs),
        (still) => (still ? 'ok' : 'lost'),
      ),
    release: (name, token) =>
      ask(
        'release',
        () => leases.release(name, token),
        () => 'ok',
      ),
    ping: () =>
      ask(
        'ping',
        () => leases.ping(),
        () => 'ok',
      ),
    ...(leases.onRelease === undefined ? {} : { onRelease: leases.onRelease }),
    close: () => leases.close(),
  };
}
