import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { publish as publishAt } from '../support/signed-path.ts';
import type { RuntimeContract } from './runtime.contract.ts';
import { fetchFollowing, store } from './site.ts';
import type { Site } from './site.ts';

/** Bytes: more than is held back at the end of a body, so that it goes out in pieces. */
const SIZE = 600_000;

/** NARs that go through Snowcap: the whole, parts, and what is told of them without a body. */
export function testBodies(contract: RuntimeContract, site: () => Site): void {
  describe('NARs through it', () => {
    it.each(['none', 'zstd', 'xz', 'gzip', 'br', 'bzip2'] as const)(
      'gives a NAR that it did not have, compressed with %s, and then without asking for it',
      async (compression) => {
        const { snowcap, upstream, publish } = site();
        const path = await publish({ name: `nar-${compression}`, size: SIZE, compression, prose: true });
        await download(`${snowcap.url}${path.narInfoRoute}`);
        const miss = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
        expect(miss).toMatchObject({ status: 200, ended: 'clean', redirects: [] });
        expect(miss.sha256).toBe(path.sha256);
        expect(miss.headers['content-type']).toBe('application/x-nix-nar');
        expect(miss.headers['accept-ranges']).toBe('bytes');

        await store(site(), path);
        const asked = upstream.requestsTo(path.narRoute).length;
        const hit = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
        expect(hit).toMatchObject({ status: 200, ended: 'clean', size: path.body.length });
        expect(hit.sha256).toBe(path.sha256);
        expect(upstream.requestsTo(path.narRoute).length).toBe(asked);
      },
    );

    it('gives a NAR whose narinfo nobody asked for', async () => {
      const { snowcap, publish } = site();
      const path = await publish({
        name: 'nar-alone',
        size: 5000,
        fileFields: false,
        url: ({ hash }) => `nar/${hash}.nar`,
      });
      const key = `nar/${path.hash}-${path.narHash.slice('sha256:'.length)}.nar`;
      const answer = await fetchFollowing(`${snowcap.url}/${key}`);
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      expect(answer.sha256).toBe(path.sha256);
    });

    it.each(['none', 'zstd'] as const)('gives a NAR (%s) whose length nobody tells', async (compression) => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({
        name: `unmeasured-${compression}`,
        size: SIZE,
        compression,
        prose: true,
        fileFields: false,
        url: ({ hash }) => `nar/${hash}.nar`,
      });
      publishAt(upstream, path, { contentLength: 'chunked', ranges: false });
      const text = (await download(`${snowcap.url}${path.narInfoRoute}`)).bytes.toString();
      const route = `/${/^URL: (.*)$/m.exec(text)?.[1] ?? ''}`;
      for (let round = 0; round < 2; round += 1) {
        const answer = await fetchFollowing(`${snowcap.url}${route}`);
        expect(answer).toMatchObject({ status: 200, ended: 'clean', size: path.body.length });
        expect(answer.sha256).toBe(path.sha256);
      }
    });

    it('sends a body on while the upstream still sends it', async (context) => {
      const { streaming } = contract.unsupported ?? {};
      if (streaming !== undefined) context.skip(streaming);
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: 'flowing', size: SIZE });
      const begun = Promise.withResolvers<void>();
      publishAt(upstream, path, { stallAt: SIZE / 2, until: begun.promise });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      const answer = await download(`${snowcap.url}${path.narRoute}`, { onProgress: () => begun.resolve() });
      expect(answer).toMatchObject({ status: 200, ended: 'clean' });
      expect(answer.bytes.equals(path.body)).toBe(true);
    });

    it('takes ranges of a stored NAR: its start, its middle, its end, and beyond its end', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'in-parts', size: SIZE });
      await store(site(), path);
      const { length } = path.body;
      const parts: readonly (readonly [string, number, number])[] = [
        ['bytes=0-99', 0, 100],
        ['bytes=250000-449999', 250_000, 450_000],
        [`bytes=${length - 10}-`, length - 10, length],
        ['bytes=-70000', length - 70_000, length],
        [`bytes=100-${length + 1000}`, 100, length],
      ];
      for (const [range, start, end] of parts) {
        const answer = await download(`${snowcap.url}${path.narRoute}`, { headers: { Range: range } });
        expect(answer, range).toMatchObject({ status: 206, ended: 'clean' });
        expect(answer.headers['content-range']).toBe(`bytes ${start}-${end - 1}/${length}`);
        expect(answer.bytes.equals(path.body.subarray(start, end)), range).toBe(true);
      }
      const beyond = await download(`${snowcap.url}${path.narRoute}`, {
        headers: { Range: `bytes=${length}-` },
      });
      expect(beyond).toMatchObject({ status: 416, ended: 'clean' });
      expect(beyond.headers['content-range']).toBe(`bytes */${length}`);
    });

    it('takes a range of a NAR that it does not have', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'in-parts-and-cold', size: SIZE });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      const answer = await download(`${snowcap.url}${path.narRoute}`, {
        headers: { Range: 'bytes=1000-300999' },
      });
      expect(answer).toMatchObject({ status: 206, ended: 'clean' });
      expect(answer.bytes.equals(path.body.subarray(1000, 301_000))).toBe(true);
    });

    it('answers 304 to those who have the NAR already', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'had-already', size: SIZE });
      await store(site(), path);
      const { headers } = await download(`${snowcap.url}${path.narRoute}`);
      const answer = await download(`${snowcap.url}${path.narRoute}`, {
        headers: { 'If-None-Match': headers.etag ?? 'no etag' },
      });
      expect(answer).toMatchObject({ status: 304, ended: 'clean' });
      expect(answer.bytes.length).toBe(0);
    });

    it.each(['cold', 'stored'])('answers HEAD for a %s NAR, without its body', async (state) => {
      const { snowcap, upstream, publish } = site();
      const path = await publish({ name: `head-${state}`, size: SIZE });
      if (state === 'stored') await store(site(), path);
      else await download(`${snowcap.url}${path.narInfoRoute}`);
      const asked = upstream.requestsTo(path.narRoute, 'GET').length;
      const head = await download(`${snowcap.url}${path.narRoute}`, { method: 'HEAD' });
      expect(head).toMatchObject({ status: 200, ended: 'clean' });
      expect(head.bytes.length).toBe(0);
      expect([undefined, String(path.body.length)]).toContain(head.headers['content-length']);
      expect(upstream.requestsTo(path.narRoute, 'GET').length).toBe(asked);
    });

    it('waits for a client that reads slowly, and gives it the whole', async () => {
      const { snowcap, publish } = site();
      const path = await publish({ name: 'read-slowly', size: 4_000_000 });
      await download(`${snowcap.url}${path.narInfoRoute}`);
      let over = false;
      const slow = fetchFollowing(`${snowcap.url}${path.narRoute}`, { bytesPerSecond: 2_000_000 }).finally(
        () => {
          over = true;
        },
      );
      await sleep(100);
      // Meanwhile others are not held up.
      const quick = await fetchFollowing(`${snowcap.url}${path.narRoute}`);
      expect(quick.sha256).toBe(path.sha256);
      expect(over).toBe(false);
      const { ended, sha256 } = await slow;
      expect({ ended, sha256 }).toEqual({ ended: 'clean', sha256: path.sha256 });
    });
  });
}
