import { type LeaseService, type LockPlatform, LockServiceError } from '../lease-service.ts';

/**
 * Leases in several Redises that know nothing of each other (https://redis.io/docs/latest/develop/clients/patterns/distributed-locks/):
 * a lease is held where a majority of them say so, and within its time, which the lease itself counts from before
 * the first request. All are asked at once; as soon as the answer is certain it is given, and those that are late catch up
 * behind it. So a minority may be dead or slow, and nobody waits for it.
 *
 * A try that got no majority is given back everywhere. It was refused where a majority answered, and is an error
 * where not: then nobody can hold the lock, and work goes on uncoordinated.
 *
 * @param services of an odd number, best; at least three
 */
export function createRedlock(services: readonly LeaseService[], platform: LockPlatform): LeaseService {
  const majority = Math.floor(services.length / 2) + 1;
  const description = `redlock:${services.map((service) => service.description).join(',')}`;
  /** Takes that not all have answered yet, by token. */
  const unsettled = new Map<string, readonly Promise<boolean>[]>();

  /** @throws LockServiceError where too few answered */
  function decide(asked: readonly Promise<boolean>[]): Promise<boolean> {
    const { promise, resolve, reject } = Promise.withResolvers<boolean>();
    const faults: unknown[] = [];
    let yes = 0;
    let no = 0;
    const look = (): void => {
      const open = asked.length - yes - no - faults.length;
      if (yes >= majority) resolve(true);
      else if (yes + open >= majority) return;
      else if (yes + no >= majority) resolve(false);
      else if (yes + no + open < majority) reject(unreachable(faults));
    };
    for (const answer of asked) {
      answer.then(
        (said) => {
          if (said) yes += 1;
          else no += 1;
          look();
        },
        (error: unknown) => {
          faults.push(error);
          look();
        },
      );
    }
    return promise;
  }

  function unreachable(faults: readonly unknown[]): Error {
    return new LockServiceError(`${faults.length} of ${services.length} lock services are at fault`, {
      cause: new AggregateError(faults),
    });
  }

  /** Where it was taken, also where that is answered only later. */
  function giveBack(name: string, token: string, asked: readonly Promise<boolean>[]): void {
    const released = services.map(async (service, at) => {
      if ((await asked[at]) === true) await service.release(name, token);
    });
    platform.defer('give back a lock that came late', Promise.allSettled(released));
  }

  return {
    description,
    async take(name, token, leaseMs) {
      const asked = services.map((service) => service.take(name, token, leaseMs));
      unsettled.set(token, asked);
      void Promise.allSettled(asked).then(() => unsettled.delete(token));
      try {
        if (await decide(asked)) return true;
      } catch (error) {
        giveBack(name, token, asked);
        throw error;
      }
      giveBack(name, token, asked);
      return false;
    },
    extend: (name, token, leaseMs) => decide(services.map((service) => service.extend(name, token, leaseMs))),
    async release(name, token) {
      const asked = unsettled.get(token);
      // What is released now may yet be taken.
      if (asked !== undefined) giveBack(name, token, asked);
      await decide(services.map((service) => service.release(name, token).then(() => true)));
    },
    async ping() {
      await decide(services.map((service) => service.ping().then(() => true)));
    },
    onRelease(listener) {
      for (const service of services) service.onRelease?.(listener);
    },
    async close() {
      await Promise.all(services.map((service) => service.close()));
    },
  };
}
