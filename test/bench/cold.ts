import { createNixStore } from '../support/nix-store.ts';
import { startRemote } from './child-process.ts';
import { openBenchCache } from './closure.ts';
import type { BenchCache } from './closure.ts';
import type { DelayCall } from './delay-process.ts';
import { monotonicNow } from './http-connection.ts';
import { startNginx } from './nginx.ts';
import { say } from './places.ts';
import { measureOf, rowOf } from './rows.ts';
import type { Row } from './rows.ts';
import { cpuSeconds } from './server-process.ts';
import { runsOf, speed, withServer, withSnowcap } from './setting.ts';
import type { BenchOptions } from './setting.ts';

/** Added round trip, and the number of runs: the short ones need more. */
const LATENCIES = [
  { latency: 0, runs: 5 },
  { latency: 20, runs: 3 },
] as const;

/** The closure copied by a real Nix client into an empty store: from the upstream, and through an empty Snowcap. */
export async function measureColdClosure(options: BenchOptions): Promise<readonly Row[]> {
  const cache = await openBenchCache(options.compression);
  return await withServer(startNginx(cache.directory), async (nginx) => {
    const rows: Row[] = [];
    // The first copy pays for files that are not in memory yet.
    if (!options.quick) await copyClosure(cache, nginx.url);
    for (const { latency, runs } of LATENCIES) {
      const proxy = startRemote<DelayCall, number>('delay-process.ts');
      try {
        const port =
          latency === 0 ? nginx.port : await proxy.call({ targetPort: nginx.port, roundTripMs: latency });
        rows.push(...(await compare(options, cache, `http://127.0.0.1:${port}`, latency, runs)));
      } finally {
        await proxy.stop();
      }
    }
    return rows;
  });
}

async function compare(
  options: BenchOptions,
  cache: BenchCache,
  upstream: string,
  latency: number,
  runs: number,
): Promise<readonly Row[]> {
  const direct: number[] = [];
  const through: number[] = [];
  const cpu: number[] = [];
  for (let run = 0; run < runsOf(options, runs); run++) {
    direct.push(await copyClosure(cache, upstream));
    through.push(
      options.control
        ? await copyClosure(cache, upstream)
        : await withSnowcap(options, upstream, cache.publicKey, async (snowcap) => {
            const before = await cpuSeconds(snowcap.pid);
            const seconds = await copyClosure(cache, snowcap.url);
            cpu.push((await cpuSeconds(snowcap.pid)) - before);
            return seconds;
          }),
    );
    say(
      `cold closure, +${latency} ms: ${direct.at(-1)?.toFixed(2)} s direct, ${through.at(-1)?.toFixed(2)} s`,
    );
  }
  const name = `cold closure of ${cache.narPaths.length} paths by nix copy, +${latency} ms`;
  const rows = [
    rowOf(
      { section: 'cold', name, unit: 's', reference: 'direct', target: speed(options, { atMost: 1.15 }) },
      through,
      direct,
    ),
  ];
  if (cpu.length > 0) rows.push(rowOf(measureOf('cold', `${name}: CPU`, 's'), cpu));
  return rows;
}

/** Seconds that a Nix client with nothing in its store needs. @throws Error where it fails */
async function copyClosure(cache: BenchCache, url: string): Promise<number> {
  const store = await createNixStore();
  try {
    const from = monotonicNow();
    const result = await store.copyFrom(url, [cache.root], {
      trustedPublicKeys: [cache.publicKey],
      timeoutMs: 600_000,
    });
    const seconds = (monotonicNow() - from) / 1000;
    if (result.code !== 0) throw new Error(`nix copy --from ${url} failed:\n${result.stderr}`);
    const { size } = await store.validPaths();
    if (size !== cache.narPaths.length)
      throw new Error(`nix copy took ${size} paths of ${cache.narPaths.length}`);
    return seconds;
  } finally {
    await store.remove();
  }
}
