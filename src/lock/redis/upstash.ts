import { errors, Redis } from '@upstash/redis/cloudflare';
import { LockServiceError } from '../lease-service.ts';
import type { LockManager } from '../lock-manager.ts';
import type { CommandSender } from './command-sender.ts';
import { createLocksOver, type RedisOptions } from './locks-over.ts';
import { refusal } from './refusal.ts';

/** A Redis that is reached over HTTP, as Upstash's are. */
export interface UpstashEndpoint {
  /** `https://…` */
  readonly url: string;
  readonly token: string;
}

export interface UpstashLocksOptions extends RedisOptions {
  /** One, or three or more for Redlock. */
  readonly endpoints: readonly UpstashEndpoint[];
}

/** A request that nobody waits for any more is dropped after so many milliseconds. */
const REQUEST_LIMIT_MS = 5_000;

/**
 * Locks in Redis over REST, on any runtime that has fetch. Keeps no connection: it may be kept across the requests of
 * a Worker. REST cannot be told of a release, so the one who waits looks again.
 *
 * @throws Error for an endpoint that is no URL or has no token, for two of them, and for one twice
 */
export function createUpstashLocks(options: UpstashLocksOptions): LockManager {
  return createLocksOver(options.endpoints.map(createUpstashSender), options);
}

function createUpstashSender({ url, token }: UpstashEndpoint): CommandSender {
  const place = URL.parse(url);
  if (place === null || !/^https?:$/.test(place.protocol)) {
    throw new Error('Invalid URL of an Upstash Redis: expected https://…');
  }
  const description = `upstash:${place.host}${place.pathname.replace(/\/+$/, '')}`;
  if (place.username !== '' || place.password !== '') {
    throw new Error(`Invalid URL of ${description}: give the token by itself`);
  }
  // What a header cannot carry would be told in the error of each request.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Error(`Invalid token of ${description}`);
  const redis = new Redis({
    url: place.href,
    token,
    enableTelemetry: false,
    enableAutoPipelining: false,
    automaticDeserialization: false,
    // Once: who sends again, and for how long, is decided above.
    retry: { retries: 0 },
    signal: () => AbortSignal.timeout(REQUEST_LIMIT_MS),
  });
  return {
    description,
    async send(command) {
      try {
        return await redis.exec([...command]);
      } catch (error) {
        throw faultOf(description, error);
      }
    },
    close: () => Promise.resolve(),
  };
}

function faultOf(description: string, error: unknown): Error {
  // The library tells all that came, perhaps a page of HTML.
  if (error instanceof errors.UpstashJSONParseError) {
    return new LockServiceError(`${description} gave an answer that is no JSON`);
  }
  if (error instanceof errors.UpstashError) {
    // The library adds the whole command, with the token of the lease.
    const text = error.message.replace(/, command was: .*$/s, '');
    // Redis' own errors begin with a word of their own; others are of the service before it.
    if (/^([A-Z]{3,} |Unauthorized)/.test(text)) return refusal(description, text);
    return new LockServiceError(`${description} is at fault: ${text.slice(0, 200)}`);
  }
  return new LockServiceError(`${description} cannot be reached`, { cause: error });
}
