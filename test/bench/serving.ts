import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { missingTool } from '../support/require.ts';
import type { BenchCache } from './closure.ts';
import { say } from './places.ts';
import { rowOf } from './rows.ts';
import type { Row } from './rows.ts';
import { untilIdle } from './server-process.ts';
import type { MeasuredServer } from './server-process.ts';
import { runsOf, withBothServers } from './setting.ts';
import type { BenchOptions, Client } from './setting.ts';

const PASSES = 10;
const LOAD_MS = 3000;

/** Narinfos from a warm cache: one after the other, and as many as can be had over 16 connections. */
export function measureNarInfos(options: BenchOptions): Promise<readonly Row[]> {
  return withBothServers(options, async ({ cache, nginx, snowcap, client }) => {
    await warm(client, cache, snowcap);
    const runs = runsOf(options, 5);
    const passes = Array.from({ length: PASSES }, () => cache.narInfoPaths).flat();
    const times = await alternate(runs, nginx, snowcap, ({ port }) => drain(client, port, passes, 1));
    const rates = await alternate(runs, nginx, snowcap, ({ port }) =>
      requestsPerSecond(client, port, cache.narInfoPaths),
    );
    return [
      rowOf(
        {
          section: 'narinfo',
          name: `${passes.length} narinfos, 1 connection`,
          unit: 'ms',
          reference: 'nginx',
          target: { atMost: 1.5 },
        },
        times.snowcap,
        times.nginx,
      ),
      rowOf(
        {
          section: 'narinfo',
          name: 'narinfos per second, 16 connections',
          unit: 'req/s',
          reference: 'nginx',
          target: { atLeast: 0.35 },
        },
        rates.snowcap,
        rates.nginx,
      ),
    ];
  });
}

/** Every NAR once from a warm cache, over 1 and over 16 connections. */
export function measureNars(options: BenchOptions): Promise<readonly Row[]> {
  return withBothServers(options, async ({ cache, nginx, snowcap, client }) => {
    await warm(client, cache, snowcap);
    const rows: Row[] = [];
    for (const [connections, most] of [
      [1, 1.3],
      [16, 1.5],
    ] as const) {
      const times = await alternate(runsOf(options, 9), nginx, snowcap, ({ port }) =>
        drain(client, port, cache.narPaths, connections),
      );
      rows.push(
        rowOf(
          {
            section: 'nars',
            name: `every NAR once, ${connections} connection${connections === 1 ? '' : 's'}`,
            unit: 'ms',
            reference: 'nginx',
            target: { atMost: most },
          },
          times.snowcap,
          times.nginx,
        ),
      );
    }
    return rows;
  });
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

/** Measures both in turn, so that a slow moment of the machine meets both. The first pair does not count. */
async function alternate(
  runs: number,
  nginx: MeasuredServer,
  snowcap: MeasuredServer,
  measure: (server: MeasuredServer) => Promise<number>,
): Promise<{ nginx: number[]; snowcap: number[] }> {
  const figures: { nginx: number[]; snowcap: number[] } = { nginx: [], snowcap: [] };
  for (let run = 0; run <= runs; run++) {
    const ofNginx = await measure(nginx);
    const ofSnowcap = await measure(snowcap);
    if (run === 0) continue;
    figures.nginx.push(ofNginx);
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
  return (await client.call({ kind: 'drain', port, paths, connections })).milliseconds;
}

/** By wrk, or by the bench's own client where wrk is not installed. */
async function requestsPerSecond(client: Client, port: number, paths: readonly string[]): Promise<number> {
  if (missingTool(['wrk']) !== null) {
    const answer = await client.call({ kind: 'load', port, paths, connections: 16, milliseconds: LOAD_MS });
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
