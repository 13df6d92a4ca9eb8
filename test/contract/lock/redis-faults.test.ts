import { readFile } from 'node:fs/promises';
import { createClient } from '@redis/client';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Lease, LockManager } from '../../../src/lock/lock-manager.ts';
import { createRedisLocks } from '../../../src/lock/redis/tcp.ts';
import { createUpstashLocks } from '../../../src/lock/redis/upstash.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';
import { RedisServer } from '../../support/redis-server.ts';
import { type RedisRest, startRedisRest } from '../../support/redis-rest.ts';
import { skipReason } from '../../support/require.ts';
import { until } from '../../support/test-cache.ts';
import { createFakeClock } from './fake-clock.ts';
import { type TestPlatform, testPlatform } from './lock-platform.ts';

/** Long enough for any machine: what is late in these tests is so by a clock that they set. */
const ANSWER_MS = 20_000;
const ONCE = { leaseMs: 60_000, waitMs: 0 };
const PASSWORD = 'redis-password';
const TOKEN = 'rest-token';

const missing = skipReason('redis-server');

describe.skipIf(missing !== null)(`One Redis at fault${missing === null ? '' : ` (${missing})`}`, () => {
  let server: RedisServer;
  let bridge: RedisRest;

  beforeAll(async () => {
    server = await RedisServer.start({ password: PASSWORD });
    bridge = await startRedisRest(server.url(), TOKEN);
  });
  afterEach(async () => {
    bridge.fault = null;
    server.resume();
    await server.command('FLUSHALL');
  });
  afterAll(async () => {
    await bridge.close();
    await server.stop();
  });

  const holder = (name: string): Promise<unknown> => server.command('GET', `snowcap:${name}`);

  /** Whether somebody listens for releases. */
  const heard = async (): Promise<boolean> =>
    String(await server.command('PUBSUB', 'NUMSUB', 'snowcap:released')).endsWith(',1');

  /** Locks over one of the transports, closed after the test. */
  function open(transport: 'REST' | 'TCP', platform: TestPlatform, url = server.url()): LockManager {
    const options = { platform, answerMs: ANSWER_MS };
    const locks =
      transport === 'REST'
        ? createUpstashLocks({ ...options, endpoints: [bridge] })
        : createRedisLocks({ ...options, urls: [url] });
    onTestFinished(() => locks.close());
    return locks;
  }

  describe('over REST', () => {
    it('takes one command for each step', async () => {
      const locks = open('REST', testPlatform(systemClock));
      const before = bridge.commands.length;
      const lease = held(await locks.acquire('a', ONCE));
      expect(await lease.extend(60_000)).toBe(true);
      await lease.release();
      const sent = bridge.commands.slice(before);
      expect(sent.map(([command]) => command)).toEqual(['EVAL', 'EVAL', 'EVAL']);
      expect(sent.every((command) => command[3] === 'snowcap:a')).toBe(true);
    });

    it('a lock whose answer was lost is ours: the request is sent again with the same token', async () => {
      const locks = open('REST', testPlatform(systemClock));
      bridge.fault = once({ kind: 'lost' });
      const lease = held(await locks.acquire('a', ONCE));
      expect(await holder('a')).toBe(lease.token);
      expect(await lease.extend(60_000)).toBe(true);
    });

    it('an extension and a release whose answers were lost hold all the same', async () => {
      const locks = open('REST', testPlatform(systemClock));
      const lease = held(await locks.acquire('a', ONCE));
      bridge.fault = once({ kind: 'lost' });
      expect(await lease.extend(60_000)).toBe(true);
      bridge.fault = once({ kind: 'lost' });
      await lease.release();
      expect(await holder('a')).toBeNull();
      held(await locks.acquire('a', ONCE));
    });

    it.each([
      { kind: 'refused' },
      { kind: 'status', status: 500 },
      { kind: 'status', status: 503 },
      { kind: 'body', body: '<html>bad gateway</html>' },
      { kind: 'body', body: '{"result":"surprise"}' },
    ] as const)('what breaks once, $kind, is not seen', async (fault) => {
      const locks = open('REST', testPlatform(systemClock));
      bridge.fault = once(fault);
      const lease = await locks.acquire('a', ONCE);
      expect(await holder('a')).toBe(lease?.token);
    });

    it('a request that is executed twice gives one lock', async () => {
      const locks = open('REST', testPlatform(systemClock));
      bridge.fault = () => ({ kind: 'twice' });
      const lease = held(await locks.acquire('a', ONCE));
      expect(await locks.acquire('a', ONCE)).toBeNull();
      expect(await lease.extend(60_000)).toBe(true);
      await lease.release();
      held(await locks.acquire('a', ONCE));
    });

    it.each([
      { kind: 'delayed', milliseconds: 300 },
      { kind: 'late', milliseconds: 300 },
      { kind: 'silent' },
    ] as const)(
      'goes wrong within its time where Redis is $kind, and the lock is given back',
      async (fault) => {
        const clock = createFakeClock();
        const platform = testPlatform(clock);
        const locks = open('REST', platform);
        bridge.fault = once(fault);
        const acquiring = failure(locks.acquire('a', ONCE));
        await until(() => bridge.underWay > 0);
        await clock.advance(ANSWER_MS);
        expect(await acquiring).toContain(`gave no answer within ${ANSWER_MS} ms`);
        if (fault.kind !== 'silent') await platform.settled();
        await until(async () => (await holder('a')) === null);
        held(await locks.acquire('a', ONCE));
      },
    );

    it('a request that is executed after all is over costs others one lease, and no more', async () => {
      const locks = open('REST', testPlatform(systemClock));
      const lease = held(await locks.acquire('a', ONCE));
      const request = bridge.commands.at(-1) ?? [];
      await lease.release();
      await server.command(...request);
      expect(await locks.acquire('a', ONCE)).toBeNull();
      expect(await server.command('PTTL', 'snowcap:a')).toBeLessThanOrEqual(ONCE.leaseMs);
      await server.command('PEXPIRE', 'snowcap:a', '1');
      await until(() => locks.acquire('a', ONCE).then(Boolean));
    });

    it('says that a token is wrong, without telling it', async () => {
      const locks = createUpstashLocks({
        platform: testPlatform(systemClock),
        endpoints: [{ url: bridge.url, token: 'wrong-token' }],
      });
      const error = await failure(locks.acquire('a', ONCE));
      expect(error).toMatch(/^LockRefusedError: upstash:127\.0\.0\.1:\d+ refused: WRONGPASS/);
      expect(error).toContain('the user, password or token is wrong');
      expect(error).not.toContain('wrong-token');
    });

    it('tells no command, token or page in its errors', async () => {
      const locks = open('REST', testPlatform(systemClock));
      for (const fault of [
        { kind: 'status', status: 500 },
        { kind: 'body', body: '<html>page</html>' },
        { kind: 'refused' },
      ] as const) {
        bridge.fault = () => fault;
        const error = await failure(locks.acquire('a', ONCE));
        expect(error).toMatch(/^LockServiceError: upstash:127\.0\.0\.1/);
        expect(error).not.toMatch(new RegExp(`EVAL|redis\\.call|page|${TOKEN}|command was`));
      }
    });
  });

  describe('over TCP', () => {
    it('goes wrong within its time while Redis stands still, and gives back what that one does later', async () => {
      const clock = createFakeClock();
      const platform = testPlatform(clock);
      const locks = open('TCP', platform);
      const first = held(await locks.acquire('first', ONCE));
      server.pause();
      const acquiring = failure(locks.acquire('a', ONCE));
      await clock.advance(ANSWER_MS);
      expect(await acquiring).toContain(`gave no answer within ${ANSWER_MS} ms`);
      server.resume();
      await platform.settled();
      expect(await holder('a')).toBeNull();
      expect(await holder('first')).toBe(first.token);
      held(await locks.acquire('a', ONCE));
    });

    it('a holder whose Redis stood still for longer than the lease has lost it', async () => {
      const clock = createFakeClock();
      const options = { platform: testPlatform(clock), answerMs: ANSWER_MS, monotonic: () => clock.now() };
      const locks = createRedisLocks({ ...options, urls: [server.url()] });
      onTestFinished(() => locks.close());
      const lease = held(await locks.acquire('a', { leaseMs: 10_000, waitMs: 0 }));
      server.pause();
      const extending = lease.extend(10_000);
      await clock.advance(11_000);
      expect(lease.lost.aborted).toBe(true);
      server.resume();
      expect(await extending).toBe(false);
      await lease.release();
      expect(await holder('a')).toBeNull();
    });

    it('connects again at the next lock after its connection broke', async () => {
      const locks = open('TCP', testPlatform(systemClock));
      const lease = held(await locks.acquire('a', ONCE));
      await server.command('CLIENT', 'KILL', 'TYPE', 'normal');
      expect(await lease.extend(60_000)).toBe(true);
      await server.command('CLIENT', 'KILL', 'TYPE', 'normal');
      expect(await locks.acquire('a', ONCE)).toBeNull();
    });

    it('fails at once while Redis is dead, is left alone then, and works again when it is back', async () => {
      const own = await RedisServer.start();
      onTestFinished(() => own.stop());
      const platform = testPlatform(systemClock);
      const locks = open('TCP', platform, own.url());
      const before = held(await locks.acquire('a', ONCE));
      await own.kill();
      await expect(locks.ping()).rejects.toThrow('cannot be reached');
      for (let time = 0; time < 5; time += 1) {
        expect(await failure(locks.acquire('b', ONCE))).toMatch(/cannot be reached|left alone/);
      }
      expect(await failure(before.extend(60_000))).toContain('left alone');
      await before.release();
      await own.restart();
      await until(() => locks.acquire('a', ONCE).then(Boolean, () => false));
      await locks.ping();
      expect(platform.logs.map(({ message }) => message)).toEqual([
        'A lock service is at fault: work goes on without it',
        'A lock service answers again',
      ]);
      expect(platform.circuits.get(locks.description)).toBe(0);
    });

    it('tells one who waits of the release at once, whoever released it', async () => {
      const clock = createFakeClock();
      const one = open('TCP', testPlatform(clock));
      const other = open('REST', testPlatform(systemClock));
      for (let round = 0; round < 3; round += 1) {
        const lease = held(await (round === 1 ? one : other).acquire('a', ONCE));
        const waiting = one.acquire('a', { leaseMs: 60_000, waitMs: 60_000 });
        await until(heard);
        await lease.release();
        // No time passes: it does not look by itself.
        const next = held(await waiting);
        expect(await holder('a')).toBe(next.token);
        await next.release();
      }
    });

    it('releases where its user may not publish, and says what a user needs who may not even lock', async () => {
      const user = async (name: string, ...rules: readonly string[]): Promise<LockManager> => {
        await server.command('ACL', 'SETUSER', name, 'on', '>user-password', '~snowcap:*', ...rules);
        const url = `redis://${name}:user-password@127.0.0.1:${server.port}/0`;
        return open('TCP', testPlatform(systemClock), url);
      };
      const silent = await user('silent', '+eval', '+get', '+set', '+del', '+pexpire');
      const lease = held(await silent.acquire('a', ONCE));
      await lease.release();
      expect(await holder('a')).toBeNull();
      const reader = await user('reader', '+eval', '+get');
      const error = await failure(reader.acquire('a', ONCE));
      expect(error).toContain('let its user run EVAL');
      expect(error).not.toContain('user-password');
    });

    it('needs no more of a user than docs/locks.md says, and hears of releases with that', async () => {
      const page = await readFile(new URL('../../../docs/locks.md', import.meta.url), 'utf8');
      const rule = /^ACL SETUSER snowcap .*$/m.exec(page)?.[0].split(' ') ?? [];
      await server.command(...rule);
      const clock = createFakeClock();
      const url = `redis://snowcap:password@127.0.0.1:${server.port}/0`;
      const locks = open('TCP', testPlatform(clock), url);
      await locks.ping();
      const lease = held(await locks.acquire('a', ONCE));
      const waiting = locks.acquire('a', { leaseMs: 60_000, waitMs: 60_000 });
      await until(heard);
      expect(await lease.extend(60_000)).toBe(true);
      await lease.release();
      expect(await waiting).not.toBeNull();
    });

    it('says that a password is wrong or missing, without telling any', async () => {
      for (const [user, code] of [
        ['', 'NOAUTH'],
        [':wrong-password@', 'WRONGPASS'],
        ['nobody:wrong-password@', 'WRONGPASS'],
      ] as const) {
        const locks = open('TCP', testPlatform(systemClock), `redis://${user}127.0.0.1:${server.port}`);
        const error = await failure(locks.acquire('a', ONCE));
        expect(error).toMatch(
          new RegExp(`^LockRefusedError: redis:127.0.0.1:${server.port}/0 refused: ${code}`),
        );
        expect(error).toMatch(/give its password|is wrong/);
        expect(error).not.toContain('wrong-password');
        await expect(locks.ping()).rejects.toThrow(code);
      }
    });

    it('says that it is a replica, in acquire and in ping', async () => {
      const replica = await RedisServer.start({ arguments: ['--replicaof', `127.0.0.1 ${server.port}`] });
      onTestFinished(() => replica.stop());
      const locks = open('TCP', testPlatform(systemClock), replica.url());
      expect(await failure(locks.acquire('a', ONCE))).toMatch(/READONLY.*name the primary/s);
      await expect(locks.ping()).rejects.toThrow('READONLY');
    });

    it('uses the database of its URL, and speaks with a Redis that is a place by itself', async () => {
      const locks = open('TCP', testPlatform(systemClock), server.url(3));
      const lease = held(await locks.acquire('a', ONCE));
      expect(await holder('a')).toBeNull();
      const client = createClient({ url: server.url(3), RESP: 2 });
      await client.connect();
      expect(await client.get('snowcap:a')).toBe(lease.token);
      expect(await client.pTTL('snowcap:a')).toBeGreaterThan(50_000);
      client.destroy();
    });
  });

  it('is named without a secret, and refused where it is none', () => {
    const platform = testPlatform(systemClock);
    const tcp = (...urls: readonly string[]) => createRedisLocks({ platform, urls }).description;
    const rest = (...urls: readonly string[]) =>
      createUpstashLocks({ platform, endpoints: urls.map((url) => ({ url, token: TOKEN })) }).description;
    expect(tcp('redis://user:secret@db.example/2')).toBe('redis:db.example:6379/2');
    expect(tcp('rediss://:secret@[::1]:7000')).toBe('rediss:[::1]:7000/0');
    expect(tcp('redis://a', 'redis://b', 'redis://c:1/1')).toBe(
      'redlock:redis:a:6379/0,redis:b:6379/0,redis:c:1/1',
    );
    expect(rest('https://eu.upstash.example')).toBe('upstash:eu.upstash.example');
    for (const [wrong, why] of [
      [() => tcp(), 'Cannot lock with no Redis'],
      [() => tcp('redis://:secret@a', 'redis://:secret@b'), 'give one Redis, or three or more'],
      [
        () => tcp('redis://:secret@a', 'redis://b', 'redis://:secret@a:6379/0'),
        'twice: give each Redis once',
      ],
      [() => tcp('http://:secret@a'), 'Invalid URL of a Redis'],
      [() => tcp('secret'), 'Invalid URL of a Redis'],
      [() => tcp('redis://:secret@a/x'), 'Invalid database "x" of a'],
      [() => tcp('redis://:secret%@a'), 'write "%" as %25'],
      [() => rest('secret'), 'Invalid URL of an Upstash Redis'],
      [() => rest('redis://:secret@a'), 'Invalid URL of an Upstash Redis'],
      [() => rest('https://user:secret@a'), 'give the token by itself'],
      [
        () => createUpstashLocks({ platform, endpoints: [{ url: 'https://a', token: 'secret\n' }] }),
        'Invalid token of upstash:a',
      ],
    ] as const) {
      expect(wrong).toThrow(why);
      expect(wrong).not.toThrow('secret');
    }
  });
});

function held(lease: Lease | null): Lease {
  if (lease === null) throw new Error('Expected to get the lock');
  return lease;
}

/** What went wrong, with its causes; `nothing` where nothing did. */
async function failure(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'nothing';
  } catch (error) {
    let text = '';
    for (let at = error; at instanceof Error; at = at.cause) text += `${String(at)}\n`;
    return text;
  }
}

/** That fault at the first request, and none afterwards. */
function once<Fault>(fault: Fault): () => Fault | null {
  let met = false;
  return () => {
    if (met) return null;
    met = true;
    return fault;
  };
}
