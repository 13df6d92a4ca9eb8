import { Redis } from '@upstash/redis/cloudflare';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RedisServer } from '../../support/redis-server.ts';
import { type RedisRest, startRedisRest } from '../../support/redis-rest.ts';
import { skipReason } from '../../support/require.ts';

const missing = skipReason('redis-server');

/** What the tests of locks rest on: that it speaks to Upstash's own client as Upstash does. */
describe.skipIf(missing !== null)(`The REST bridge${missing === null ? '' : ` (${missing})`}`, () => {
  let server: RedisServer;
  let bridge: RedisRest;
  const client = (options: Partial<ConstructorParameters<typeof Redis>[0]> = {}) =>
    new Redis({ url: bridge.url, token: bridge.token, retry: { retries: 0 }, ...options });

  beforeAll(async () => {
    server = await RedisServer.start();
    bridge = await startRedisRest(server.url());
  });
  afterAll(async () => {
    await bridge.close();
    await server.stop();
  });

  it.each(['base64', false] as const)(
    'gives replies of every kind, encoded as %s',
    async (responseEncoding) => {
      const redis = client({ responseEncoding });
      expect(await redis.set('text', 'Grüße "❄"\n')).toBe('OK');
      expect(await redis.get('text')).toBe('Grüße "❄"\n');
      expect(await redis.get('nothing')).toBeNull();
      expect(await redis.exec(['INCR', `count ${responseEncoding}`])).toBe(1);
      expect(await redis.eval('return {1, {"a", false}, "OK"}', [], [])).toEqual([1, ['a', null], 'OK']);
    },
  );

  it('runs pipelines and transactions, with an error in its place', async () => {
    const redis = client();
    const pipeline = redis.pipeline().set('a', 'x').incr('a').get('a');
    const results = await pipeline.exec({ keepErrors: true });
    expect(results.map(({ result }) => result)).toEqual(['OK', undefined, 'x']);
    expect(results[1]?.error).toContain('not an integer');
    expect(await redis.multi().set('b', '1').incr('b').get('b').exec()).toEqual(['OK', 2, 2]);
  });

  it('answers errors as JSON: of Redis, of the protocol, and for a wrong token', async () => {
    await expect(client().exec(['NONSENSE'])).rejects.toThrow('ERR unknown command');
    await expect(client({ token: 'wrong' }).ping()).rejects.toThrow('WRONGPASS');
    const post = (path: string, body: string) =>
      fetch(`${bridge.url}${path}`, {
        method: 'POST',
        body,
        headers: { authorization: `Bearer ${bridge.token}` },
      });
    expect((await post('/', '[]')).status).toBe(400);
    expect((await post('/pipeline', '["PING"]')).status).toBe(400);
    expect(await (await post('/', 'not JSON')).json()).toEqual({ error: 'ERR failed to parse the commands' });
    expect((await post('/elsewhere', '["PING"]')).status).toBe(404);
  });

  it('answers 503 while its Redis is dead, and works again after that', async () => {
    await server.kill();
    await expect(client().ping()).rejects.toThrow('cannot be reached');
    await server.restart();
    await expect
      .poll(() =>
        client()
          .ping()
          .catch(() => null),
      )
      .toBe('PONG');
  });
});
