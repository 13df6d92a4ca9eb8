import type { LockPlatform } from '../../../src/lock/lease-service.ts';
import type { Clock } from '../../../src/platform.ts';
import type { LogFields } from '../../../src/telemetry/logger.ts';

/** What locks need of a runtime, and what they told it. */
export interface TestPlatform extends LockPlatform {
  readonly logs: readonly { readonly message: string; readonly fields: LogFields }[];
  /** As `take ok`, with how often. */
  readonly operations: ReadonlyMap<string, number>;
  /** By service. */
  readonly circuits: ReadonlyMap<string, number>;
  /** Resolves when all that was deferred so far is done. */
  settled(): Promise<void>;
}

/** Jitter is half of what it may be. */
export function testPlatform(clock: Clock): TestPlatform {
  const logs: { message: string; fields: LogFields }[] = [];
  const operations = new Map<string, number>();
  const circuits = new Map<string, number>();
  const deferred: Promise<unknown>[] = [];
  const log = (message: string, fields: LogFields = {}): void => void logs.push({ message, fields });
  const logger = { debug: log, info: log, warn: log, error: log, with: () => logger };
  return {
    clock,
    random: () => 0.5,
    logger,
    metrics: {
      count(name, labels = {}, by = 1) {
        const key = `${labels['operation']} ${labels['outcome']}`;
        if (name === 'snowcap_lock_operations_total') operations.set(key, (operations.get(key) ?? 0) + by);
      },
      observe() {},
      gauge(name, value, labels = {}) {
        if (name === 'snowcap_lock_circuit_open') circuits.set(labels['service'] ?? '', value);
      },
    },
    defer: (_, work) => void deferred.push(work),
    logs,
    operations,
    circuits,
    async settled() {
      await Promise.all(deferred);
    },
  };
}
