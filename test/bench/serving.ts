import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { missingTool } from '../support/require.ts';
import type { BenchCache } from './closure.ts';
import { say } from './places.ts';
import type { DirectObject } from './backend.ts';
import { measureOf, median, rowOf } from './rows.ts';
import type { Measure, Row } from './rows.ts';
import { cpuSeconds, untilIdle } from './server-process.ts';
import type { MeasuredServer } from './server-process.ts';
import { runsOf, speed, withBothServers, withServer } from './setting.ts';
import type { BenchOptions, Client } from './setting.ts';

const PASSES = 10;
const LOAD_MS = 3000;

/** Narinfos from a warm cache: one after the other, and as many as can be had over 16 connections. */
export function measureNarInfos(options: BenchOptions): Promise<readonly Row[]> {
  return withBothServers(options, async ({ cache, nginx, snowcap, place, client }) => {
    await warm(client, cache, snowcap);
    const runs = runsOf(options, 5);
    const paths = cache.narInfoPaths;
    const served: Served = { nginx: { ...nginx, paths }, snowcap: { ...snowcap, paths } };
    if (place?.direct) served.store = await readDirectly(place.direct, paths);
    const passes = (all: readonly string[]): readonly string[] =>
      Array.from({ length: PASSES }, () => all).flat();
    const times = await alternate(runs, served, ({ port, paths: all }) =>
      drain(client, port, passes(all), 1),
    );
    const rates = await alternate(runs, served, ({ port, paths: all }) =>
      requestsPerSecond(client, port, all),
    );
    const rows = [
      ...compared(
        {
          section: 'narinfo',
          name: `${PASSES * paths.length} narinfos, 1 connection`,
          unit: 'ms',
          target: speed(options, { atMost: 1.5 }),
        },
        times,
      ),
      ...compared(
        {
          section: 'narinfo',
          name: 'narinfos per second, 16 connections',
          unit: 'req/s',
          target: speed(options, { atLeast: 0.35 }),
        },
        rates,
      ),
    ];
    if (place === null) return rows;
    const cpu = await cpuOfEach(snowcap, PASSES * paths.length, () =>
      drain(client, snowcap.port, passes(paths), 16),
    );
    return [...rows, rowOf(measureOf('narinfo', 'CPU of each narinfo', 'ms'), [cpu])];
  });
}

/** Every NAR once from a warm cache, over 1 and over 16 connections. */
export function measureNars(options: BenchOptions): Promise<readonly Row[]> {
  return withBothServers(options, async ({ cache, nginx, snowcap, place, client }) => {
    await warm(client, cache, snowcap);
    const paths = cache.narPaths;
    const served: Served = { nginx: { ...nginx, paths }, snowcap: { ...snowcap, paths } };
    const direct = place?.direct ?? null;
    if (direct !== null) served.store = await readDirectly(direct, paths);
    const rows = await narRows(options, client, served, '');
    if (place === null) return rows;
    const cpu = await cpuOfEach(snowcap, paths.length, () => drain(client, snowcap.port, paths, 16));
    rows.push(rowOf(measureOf('nars', 'CPU of each NAR', 'ms'), [cpu]));
    if (direct === null) return rows;
    const instance = (settings: Readonly<Record<string, string>>): Promise<MeasuredServer> =>
      place.start({ upstream: nginx.url, publicKey: cache.publicKey, profile: options.profile, settings });
    // What small NARs cost once they are not in memory: other instances of the same cache.
    await withServer(instance({ SNOWCAP_NAR_INFO_TTL: '0' }), async (other) => {
      const all = { ...served, snowcap: { ...other, paths } };
      rows.push(...(await narRows(options, client, all, ', nothing from memory')));
    });
    await withServer(instance({ SNOWCAP_NAR_DELIVERY: 'redirect' }), async (other) => {
      rows.push(...(await redirectRows(options, client, other, paths)));
    });
    return rows;
  });
}

async function narRows(options: BenchOptions, client: Client, served: Served, note: string): Promise<Row[]> {
  const rows: Row[] = [];
  for (const [connections, most] of [
    [1, 1.3],
    [16, 1.5],
  ] as const) {
    const times = await alternate(runsOf(options, 9), served, ({ port, paths }) =>
      drain(client, port, paths, connections),
    );
    const name = `every NAR once, ${connections} connection${connections === 1 ? '' : 's'}${note}`;
    rows.push(
      ...compared({ section: 'nars', name, unit: 'ms', target: speed(options, { atMost: most }) }, times),
    );
  }
  return rows;
}

/** Redirects to the store, not followed. */
async function redirectRows(
  options: BenchOptions,
  client: Client,
  snowcap: MeasuredServer,
  paths: readonly string[],
): Promise<readonly Row[]> {
  const rates: number[] = [];
  for (let run = 0; run <= runsOf(options, 5); run++) {
    const rate = await requestsPerSecond(client, snowcap.port, paths, 307);
    if (run > 0) rates.push(rate);
  }
  const metrics = await (await fetch(`${snowcap.url}/metrics`)).text();
  const sent = /^snowcap_body_bytes_total\{route="nar"\} (\d+)$/m.exec(metrics)?.[1] ?? '0';
  const best = measureOf('nars', 'redirects per second, 16 connections', 'req/s');
  return [
    rowOf(best, [median(rates)]),
    rowOf(measureOf('nars', 'redirects: bytes of NARs through Snowcap', 'count', { exactly: 0 }), [
      Number(sent),
    ]),
  ];
}

/** Who is measured in turn, and what is asked of whom. */
interface Served {
  readonly nginx: Contestant;
  /** The store itself, where it can be read. */
  store?: Contestant;
  readonly snowcap: Contestant;
}

interface Contestant {
  readonly port: number;
  readonly paths: readonly string[];
}

/** The objects behind these paths, as the store itself serves them. */
async function readDirectly(
  direct: (key: string) => Promise<DirectObject>,
  paths: readonly string[],
): Promise<Contestant> {
  const objects = await Promise.all(paths.map((path) => direct(path.slice(1))));
  return { port: objects[0]?.port ?? 0, paths: objects.map(({ path }) => path) };
}

type Figures = Readonly<Record<'nginx' | 'store' | 'snowcap', number[]>>;

/** A row against nginx, which has the target, and one against the store where that was measured. */
function compared(measure: Omit<Measure, 'reference'>, figures: Figures): readonly Row[] {
  const rows = [rowOf({ ...measure, reference: 'nginx' }, figures.snowcap, figures.nginx)];
  if (figures.store.length > 0) {
    const name = `${measure.name}: against the store`;
    rows.push(rowOf({ ...measure, name, target: null, reference: 'store' }, figures.snowcap, figures.store));
  }
  return rows;
}

/** Milliseconds of CPU that a server takes for each of so many requests. */
async function cpuOfEach(
  { pid }: MeasuredServer,
  requests: number,
  work: () => Promise<unknown>,
): Promise<number> {
  const before = await cpuSeconds(pid);
  await work();
  return (((await cpuSeconds(pid)) - before) * 1000) / requests;
}

/** Fetches everything through Snowcap, waits until its fills are stored, and once more for what caches keep. */
async function warm(client: Client, cache: BenchCache, snowcap: MeasuredServer): Promise<void> {
  say('warming up');
  for (let pass = 0; pass < 2; pass++) {
    await drain(client, snowcap.port, cache.narInfoPaths, 4);
    await drain(client, snowcap.port, cache.narPaths, 4);
    await untilIdle(snowcap.pid);
  }
}

/** Measures all in turn, so that a slow moment of the machine meets all. The first round does not count. */
async function alternate(
  runs: number,
  { nginx, store, snowcap }: Served,
  measure: (contestant: Contestant) => Promise<number>,
): Promise<Figures> {
  const figures: Figures = { nginx: [], store: [], snowcap: [] };
  for (let run = 0; run <= runs; run++) {
    const ofNginx = await measure(nginx);
    const ofStore = store === undefined ? null : await measure(store);
    const ofSnowcap = await measure(snowcap);
    if (run === 0) continue;
    figures.nginx.push(ofNginx);
    if (ofStore !== null) figures.store.push(ofStore);
    figures.snowcap.push(ofSnowcap);
  }
  return figures;
}

async function drain(
  client: Client,
  port: number,
  paths: readonly string[],
  connections: number,
): Promise<number> {
  return (await client.call({ kind: 'drain', port, paths, connections, status: 200 })).milliseconds;
}

/** By wrk, or by the bench's own client where wrk is not installed. */
async function requestsPerSecond(
  client: Client,
  port: number,
  paths: readonly string[],
  status = 200,
): Promise<number> {
  if (missingTool(['wrk']) !== null) {
    const answer = await client.call({
      kind: 'load',
      port,
      paths,
      connections: 16,
      milliseconds: LOAD_MS,
      status,
    });
    return (answer.requests / answer.milliseconds) * 1000;
  }
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-bench-wrk-'));
  try {
    const script = join(directory, 'paths.lua');
    await writeFile(script, wrkScript(paths));
    const { stdout } = await promisify(execFile)('wrk', [
      '-t1',
      '-c16',
      `-d${LOAD_MS / 1000}s`,
      '-s',
      script,
      `http://127.0.0.1:${port}`,
    ]);
    if (/Non-2xx|Socket errors/.test(stdout)) throw new Error(`Not all answers were good:\n${stdout}`);
    return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1] ?? NaN);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function wrkScript(paths: readonly string[]): string {
  return `
local paths = { ${paths.map((path) => `"${path}"`).join(', ')} }
local requests = {}
local at = 0
init = function()
  for index, path in ipairs(paths) do requests[index] = wrk.format("GET", path) end
end
request = function()
  at = at % #requests + 1
  return requests[at]
end
`;
}
