import { type LeaseService, LockServiceError } from '../lease-service.ts';
import type { CommandSender } from './command-sender.ts';

// Each is one script, as nothing else is atomic over all ways to a Redis. KEYS[1] is the name, ARGV[1] the token,
// ARGV[2] the milliseconds or the channel. They use one key, so that a cluster takes them.

/** As SET NX PX, but it also succeeds where the value is our token already: the answer of the first request was lost. */
const TAKE = `local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1`;

const EXTEND = `if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])`;

/** Those who wait are told; a user that may not publish releases all the same. */
const RELEASE = `if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
redis.pcall('publish', ARGV[2], KEYS[1])
return 1`;

/** A Redis that only reads, or that may not run scripts, is of no use. */
const PING = `redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1`;
const PING_MS = 1_000;

/**
 * Leases in one Redis: a key each, whose value is the token, and which Redis itself removes when its time is over.
 * One command for each step.
 *
 * @param prefix before each key
 */
export function createRedisLeases(sender: CommandSender, prefix: string): LeaseService {
  const { description } = sender;
  const channel = `${prefix}released`;
  let listener: ((name: string) => void) | null = null;

  async function run(script: string, name: string, ...values: readonly string[]): Promise<boolean> {
    const reply = await sender.send(['EVAL', script, '1', prefix + name, ...values]);
    if (reply === 1 || reply === 0) return reply === 1;
    throw new LockServiceError(`${description} gave an answer that no script of ours gives`);
  }

  /** Only once somebody has to wait: most fills never do. */
  function listenForReleases(): void {
    if (listener === null) return;
    const told = listener;
    sender.listen?.(channel, (key) => {
      if (key.startsWith(prefix)) told(key.slice(prefix.length));
    });
  }

  return {
    description,
    async take(name, token, leaseMs) {
      const had = await run(TAKE, name, token, whole(leaseMs));
      if (!had) listenForReleases();
      return had;
    },
    extend: (name, token, leaseMs) => run(EXTEND, name, token, whole(leaseMs)),
    async release(name, token) {
      await run(RELEASE, name, token, channel);
    },
    async ping() {
      await run(PING, '.ping', '1', whole(PING_MS));
    },
    ...(sender.listen === undefined
      ? {}
      : {
          onRelease(told: (name: string) => void) {
            listener = told;
          },
        }),
    close: () => sender.close(),
  };
}

/** As the scripts want it; never less than was asked for. */
function whole(milliseconds: number): string {
  return String(Math.ceil(milliseconds));
}
