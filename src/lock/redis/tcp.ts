import { createClient, ErrorReply } from '@redis/client';
import { LockServiceError } from '../lease-service.ts';
import type { LockManager } from '../lock-manager.ts';
import type { CommandSender } from './command-sender.ts';
import { createLocksOver, type RedisOptions } from './locks-over.ts';
import { refusal } from './refusal.ts';

export interface RedisLocksOptions extends RedisOptions {
  /** `redis[s]://[[user]:password@]host[:port][/database]`: one, or three or more for Redlock. */
  readonly urls: readonly string[];
}

/** How long a connection may take to be made, in milliseconds. */
const CONNECT_LIMIT_MS = 5_000;
/** A connection on which an answer is that late is given up: the other end may be gone without a word. */
const ANSWER_LIMIT_MS = 5_000;
/** So many commands may wait for their answers on one connection; more fail at once. */
const MOST_WAITING = 10_000;
/** After a connection for messages broke, how long none is made, in milliseconds: looking again does as well. */
const LISTEN_AGAIN_MS = 5_000;

type Client = ReturnType<typeof connectionTo>;

/**
 * Locks in Redis over TCP, on Node. Connects with the first lock, and again with the first one after a
 * connection broke. Those who wait hear of releases by a second connection.
 *
 * @throws Error for a URL that is none, for two of them, and for the same Redis twice
 */
export function createRedisLocks(options: RedisLocksOptions): LockManager {
  return createLocksOver(
    options.urls.map((url) => new TcpSender(url)),
    options,
  );
}

class TcpSender implements CommandSender {
  readonly description: string;
  readonly #url: string;
  #client: Client | null = null;
  #connecting: Promise<Client> | null = null;
  #listening: Client | null = null;
  #listenAgainAt = 0;
  #closed = false;

  constructor(url: string) {
    const place = parsed(url);
    this.#url = place.href;
    const database = place.pathname.slice(1) || '0';
    this.description = `${place.protocol}${place.hostname}:${place.port || '6379'}/${database}`;
  }

  async send(command: readonly [string, ...string[]]): Promise<unknown> {
    let client: Client | null = null;
    const limit = setTimeout(() => this.#drop(client ?? this.#client), ANSWER_LIMIT_MS);
    limit.unref();
    try {
      client = await this.#connected();
      return await client.sendCommand([...command]);
    } catch (error) {
      throw this.#faultOf(error);
    } finally {
      clearTimeout(limit);
    }
  }

  listen(channel: string, listener: (message: string) => void): void {
    if (this.#listening !== null || this.#closed || performance.now() < this.#listenAgainAt) return;
    const client = connectionTo(this.#url);
    this.#listening = client;
    const end = (): void => {
      client.destroy();
      if (this.#listening !== client) return;
      this.#listening = null;
      this.#listenAgainAt = performance.now() + LISTEN_AGAIN_MS;
    };
    client.on('error', end);
    client.unref();
    // Who waits looks now and then all the same, so it does not matter why this does not work.
    client
      .connect()
      .then(() => client.subscribe(channel, listener), end)
      .catch(end);
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#listening?.destroy();
    this.#listening = null;
    this.#drop(this.#client);
    return Promise.resolve();
  }

  #connected(): Promise<Client> {
    if (this.#closed) return Promise.reject(new LockServiceError(`${this.description} is closed`));
    this.#connecting ??= this.#connect();
    return this.#connecting;
  }

  async #connect(): Promise<Client> {
    const client = connectionTo(this.#url);
    this.#client = client;
    client.on('error', () => {
      this.#forget(client);
      // Not at once: what waits on it is to fail with this error.
      queueMicrotask(() => client.destroy());
    });
    try {
      await client.connect();
      return client;
    } catch (error) {
      this.#drop(client);
      throw error;
    }
  }

  /** The commands that wait on it fail, and the next one makes another. */
  #drop(client: Client | null): void {
    this.#forget(client);
    client?.destroy();
  }

  #forget(client: Client | null): void {
    if (this.#client !== client) return;
    this.#client = null;
    this.#connecting = null;
  }

  #faultOf(error: unknown): Error {
    if (error instanceof LockServiceError) return error;
    if (error instanceof ErrorReply) return refusal(this.description, error.message);
    const why = error instanceof Error ? error.message : 'unknown reason';
    return new LockServiceError(`${this.description} cannot be reached: ${why}`, { cause: error });
  }
}

function connectionTo(url: string) {
  return createClient({
    url,
    // The oldest protocol, which every Redis and every proxy speaks.
    RESP: 2,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    disableOfflineQueue: true,
    commandsQueueMaxLength: MOST_WAITING,
    // When to connect again, and whether, is decided above.
    socket: { connectTimeout: CONNECT_LIMIT_MS, reconnectStrategy: false },
  });
}

/** @throws Error that does not tell the URL, which may have a password */
function parsed(url: string): URL {
  const place = URL.parse(url);
  if (place === null || !/^rediss?:$/.test(place.protocol) || place.hostname === '') {
    throw new Error('Invalid URL of a Redis: expected redis://host:port/database');
  }
  if (!/^\/?\d*$/.test(place.pathname)) {
    throw new Error(
      `Invalid database ${JSON.stringify(place.pathname.slice(1))} of ${place.host}: expected a number`,
    );
  }
  try {
    decodeURIComponent(place.username + place.password);
  } catch {
    throw new Error(`Invalid user or password of ${place.host}: write "%" as %25`);
  }
  return place;
}
