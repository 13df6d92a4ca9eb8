import { describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import type { Behaviour } from '../support/fault-server.ts';
import { publish as publishAt } from '../support/signed-path.ts';
import type { SignedPath } from '../support/signed-path.ts';
import type { RuntimeContract } from './runtime.contract.ts';
import { fetchFollowing, store, useSite } from './site.ts';

const SIZE = 400_000;

/** How an upstream fails to give the body that its narinfo promises. */
const LIES: readonly (readonly [string, (path: SignedPath) => Behaviour])[] = [
  ['flips a bit', () => ({ flipBitAt: 200_000 })],
  ['flips the last bit', ({ body }) => ({ flipBitAt: body.length - 1 })],
  ['ends early', () => ({ truncateAt: 200_000 })],
  ['resets the connection', () => ({ resetAt: 200_000 })],
  ['ends early without a length', () => ({ truncateAt: 200_000, contentLength: 'close' })],
  [
    'sends more, chunked',
    ({ body }) => ({ body: Buffer.concat([body, Buffer.alloc(100)]), contentLength: 'chunked' }),
  ],
];

/** Law 1 and law 5, as far as they can be seen from outside: a fault is never a clean end nor a 404. */
export function testFaults(contract: RuntimeContract): void {
  describe('faults', () => {
    const lying = useSite(contract);
    const dead = useSite(contract);

    it.each(LIES)('gives no clean body where the upstream %s, and the right one later', async (_, lie) => {
      const { snowcap, upstream, publish } = lying();
      const path = await publish({ size: SIZE });
      publishAt(upstream, path, { ...lie(path), ranges: false });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      const seen = await Promise.all([1, 2].map(() => download(`${snowcap.url}${path.narRoute}`)));
      for (const { status, ended, bytes } of seen) {
        if (status === 200) {
          expect(ended).toBe('broken');
          expect(bytes.length).toBeLessThan(path.body.length);
        } else {
          expect([502, 504]).toContain(status);
          expect(bytes.toString()).toMatch(/^[a-z_]+: /);
        }
      }
      publishAt(upstream, path);
      const after = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(after).toMatchObject({ status: 200, ended: 'clean' });
      expect(after.sha256).toBe(path.sha256);
    });

    it('serves what it has while its upstream is dead, and answers 502 for the rest, never 404', async () => {
      const { snowcap, upstream, publish } = dead();
      const path = await publish({ name: 'kept', size: SIZE });
      await store(dead(), path);
      await upstream.down();

      for (const route of [`/${'1'.repeat(32)}.narinfo`, `/nar/${'1'.repeat(52)}.nar.xz`]) {
        const answer = await download(`${snowcap.url}${route}`);
        expect(answer, route).toMatchObject({ status: 502, ended: 'clean' });
        expect(answer.headers['cache-control']).toBe('no-store');
      }
      const narInfo = await download(`${snowcap.url}${path.narInfoRoute}`);
      expect(narInfo).toMatchObject({ status: 200, ended: 'clean' });
      const nar = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(nar).toMatchObject({ status: 200, ended: 'clean' });
      expect(nar.sha256).toBe(path.sha256);
    });
  });
}
