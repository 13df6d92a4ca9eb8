import { createClient } from '@redis/client';
import type { LockManager } from '../../../src/lock/lock-manager.ts';
import type { LockOptions } from '../../../src/lock/lease-service.ts';
import { createRedisLocks } from '../../../src/lock/redis/tcp.ts';
import { createUpstashLocks } from '../../../src/lock/redis/upstash.ts';
import { RedisServer } from '../../support/redis-server.ts';
import { type RedisRest, startRedisRest } from '../../support/redis-rest.ts';

/** Some Redises, and both ways to each of them. */
export interface Redises {
  readonly servers: readonly RedisServer[];
  readonly bridges: readonly RedisRest[];
  /** Locks over the first `count` of them. */
  locks(transport: Transport, count: number, options: LockOptions, prefix?: string): LockManager;
  /** Lets time pass for the keys of all of them. */
  elapse(milliseconds: number): Promise<void>;
  stop(): Promise<void>;
}

export type Transport = 'REST' | 'TCP';

const ELAPSE = `for _, key in ipairs(redis.call('keys', '*')) do
  local left = redis.call('pttl', key) - ARGV[1]
  if left <= 0 then redis.call('del', key) else redis.call('pexpire', key, left) end
end`;

export async function startRedises(count: number): Promise<Redises> {
  const servers: RedisServer[] = [];
  const bridges: RedisRest[] = [];
  const controls: Awaited<ReturnType<typeof control>>[] = [];
  for (let number = 0; number < count; number += 1) {
    const server = await RedisServer.start({ password: 'redis-password' });
    servers.push(server);
    bridges.push(await startRedisRest(server.url()));
    controls.push(await control(server));
  }
  return {
    servers,
    bridges,
    locks(transport, size, options, prefix) {
      const named = { ...options, ...(prefix === undefined ? {} : { prefix }) };
      return transport === 'REST'
        ? createUpstashLocks({ ...named, endpoints: bridges.slice(0, size) })
        : createRedisLocks({ ...named, urls: servers.slice(0, size).map((server) => server.url()) });
    },
    async elapse(milliseconds) {
      await Promise.all(
        controls.map((client) => client.sendCommand(['EVAL', ELAPSE, '0', String(milliseconds)])),
      );
    },
    async stop() {
      for (const client of controls) client.destroy();
      for (const bridge of bridges) await bridge.close();
      for (const server of servers) await server.stop();
    },
  };
}

async function control(server: RedisServer) {
  const client = createClient({ url: server.url(), RESP: 2 });
  client.on('error', () => undefined);
  await client.connect();
  return client;
}
