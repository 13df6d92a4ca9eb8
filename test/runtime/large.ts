import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startRemote } from '../bench/child-process.ts';
import type { GeneratedNar, GeneratorAnswer, GeneratorCall } from '../bench/generator-process.ts';
import { download } from '../support/download.ts';
import type { RunningRuntime, RuntimeContract } from './runtime.contract.ts';
import { fetchFollowing } from './site.ts';

const SIZE = 300_000_000;

/** A NAR that is larger than anything that may be held in memory, and than what some runtimes let through. */
export function testLargeNar(contract: RuntimeContract): void {
  const reason = contract.unsupported?.largeNar ?? null;
  describe.skipIf(reason !== null)(
    `a NAR of ${SIZE / 1e6} MB${reason === null ? '' : ` (${reason})`}`,
    () => {
      let generator: ReturnType<typeof startRemote<GeneratorCall, GeneratorAnswer>>;
      let snowcap: RunningRuntime | undefined;
      let nar: GeneratedNar;

      beforeAll(async () => {
        generator = startRemote<GeneratorCall, GeneratorAnswer>('generator-process.ts');
        const { port, publicKey, nars } = await generator.call({
          kind: 'start',
          sizes: [SIZE],
          bytesPerSecond: null,
          firstByteMs: 0,
        });
        const [first] = nars;
        if (first === undefined) throw new Error('Nothing was generated');
        nar = first;
        snowcap = await contract.start({
          upstreams: [`http://127.0.0.1:${port}`],
          trustedPublicKeys: [publicKey],
          delivery: 'auto',
        });
      });

      afterAll(async () => {
        await snowcap?.stop();
        await generator.stop();
      });

      it(`is ${contract.largeNar}, whole and right, cold and again`, async () => {
        const { url } = snowcap ?? { url: '' };
        expect((await download(`${url}${nar.narInfoPath}`)).status).toBe(200);
        for (const state of ['cold', 'again']) {
          const answer = await fetchFollowing(`${url}${nar.narPath}`);
          expect(answer, state).toMatchObject({ status: 200, ended: 'clean', size: nar.size });
          expect(answer.sha256, state).toBe(nar.sha256);
          expect(answer.redirects.length > 0, state).toBe(contract.largeNar === 'redirected');
        }
      });

      it('can be resumed near its end, as a client does whose connection broke', async () => {
        const { url } = snowcap ?? { url: '' };
        const start = nar.size - 1_000_000;
        const answer = await fetchFollowing(`${url}${nar.narPath}`, {
          headers: { Range: `bytes=${start}-` },
        });
        expect(answer).toMatchObject({ status: 206, ended: 'clean', size: nar.size - start });
        expect(answer.headers['content-range']).toBe(`bytes ${start}-${nar.size - 1}/${nar.size}`);
      });

      it('can be left in the middle without harm', async () => {
        const { url } = snowcap ?? { url: '' };
        let size = 0;
        const options = { leaveAfter: 5_000_000, onChunk: (chunk: Buffer) => void (size += chunk.length) };
        const { headers } = await download(`${url}${nar.narPath}`, options);
        if (headers.location === undefined) expect(size).toBeGreaterThanOrEqual(5_000_000);
        expect((await download(`${url}/nix-cache-info`)).status).toBe(200);
      });
    },
  );
}
