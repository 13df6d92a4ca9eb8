import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache, until } from '../support/test-cache.ts';

let liar: FaultServer;
let honest: FaultServer;
let snowcap: TestCache;
let victim: SignedPath;
let bait: SignedPath;

/**
 * `URL`, `FileHash` and `FileSize` are outside what is signed: an upstream that has no key at all can hand on the signed
 * facts of one path with the NAR of another.
 */
beforeEach(async () => {
  liar = await startFaultServer();
  honest = await startFaultServer();
  snowcap = await startTestCache({
    upstreams: [`${liar.url}?priority=1`, `${honest.url}?priority=2`],
    storage: 'file',
  });
});

afterEach(async () => {
  await snowcap.close();
  await liar.close();
  await honest.close();
});

async function prepare(compression: 'xz' | 'zstd'): Promise<void> {
  victim = await signedPath({ name: 'victim', seed: 1, size: 9_000, compression });
  bait = await signedPath({ name: 'bait', seed: 2, size: 9_000, compression });
  publish(honest, victim);
  publish(honest, bait);
  const field = (name: string): string => new RegExp(`^${name}: .*$`, 'm').exec(victim.narInfo)?.[0] ?? '';
  const lie = bait.narInfo
    .replace(/^URL: .*$/m, field('URL'))
    .replace(/^FileHash: .*$/m, field('FileHash'))
    .replace(/^FileSize: .*$/m, field('FileSize'));
  liar.route(`/${bait.hash}.narinfo`, { body: lie });
  liar.route(`/${victim.url}`, { body: victim.body });
}

async function expectVictim(): Promise<void> {
  const key = await servedKey(snowcap, victim);
  const { status, bytes } = await download(`${snowcap.url}/${key}`);
  expect(status).toBe(200);
  expect(bytes.equals(victim.body)).toBe(true);
  await snowcap.settled();
}

describe.each(['xz', 'zstd'] as const)(
  'law 5: an upstream that gives the NAR of one path as that of another (%s)',
  (compression) => {
    it('does not make the other path missing, asked for before its body', async () => {
      await prepare(compression);
      await servedKey(snowcap, bait);
      await expectVictim();
    });

    it('nor afterwards, when the body was found to be wrong for the first', async () => {
      await prepare(compression);
      const key = await servedKey(snowcap, bait);
      await download(`${snowcap.url}/${key}`);
      await snowcap.settled();
      if (compression === 'xz') {
        await until(async () => (await snowcap.services.metadata.getNar(key))?.nar.state === 'quarantined');
      }
      await expectVictim();
      const { bytes } = await download(`${snowcap.url}/${await servedKey(snowcap, victim)}`);
      expect(bytes.equals(victim.body)).toBe(true);
      expect((await snowcap.services.metadata.totals()).presentNars).toBeGreaterThan(0);
    });

    it('and the URL that the other path got by it stays good with an empty index (law 3)', async () => {
      await prepare(compression);
      await servedKey(snowcap, bait);
      const key = await servedKey(snowcap, victim);
      expect(key).not.toBe(victim.url);
      const fresh = await startTestCache({ upstreams: [honest.url], storage: 'file' });
      const { status, bytes } = await download(`${fresh.url}/${key}`);
      await fresh.close();
      expect(status).toBe(200);
      expect(bytes.equals(victim.body)).toBe(true);
    });

    it('nor where the other path was known first', async () => {
      await prepare(compression);
      await expectVictim();
      const verified = async (): Promise<boolean> =>
        (await snowcap.services.metadata.getNar(victim.url))?.nar.verification === 'nar';
      await until(verified);
      const seen = await download(`${snowcap.url}/${await servedKey(snowcap, bait)}`);
      // Whose NAR it is has been seen: the lie is refused, and the honest upstream is believed.
      expect(seen.bytes.equals(bait.body)).toBe(true);
      await expectVictim();
    });
  },
);
