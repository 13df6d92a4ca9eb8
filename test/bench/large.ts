import { startRemote } from './child-process.ts';
import type { ClientAnswer, ClientCall, StreamCall, StreamResult } from './client-process.ts';
import type { GeneratedNar, GeneratorAnswer, GeneratorCall } from './generator-process.ts';
import { say } from './places.ts';
import { measureOf, median, rowOf } from './rows.ts';
import type { Row } from './rows.ts';
import { peakRss } from './server-process.ts';
import { runsOf, withClient, withSnowcap } from './setting.ts';
import type { BenchOptions, Client } from './setting.ts';

const MB = 1e6;
const GIB = 1024 ** 3;

/** One run: streams of large NARs through an empty Snowcap, from an upstream that makes them as they are read. */
interface LargeRun {
  readonly nars: readonly GeneratedNar[];
  readonly streams: readonly StreamResult[];
  /** Requests that the upstream got for bodies. */
  readonly upstreamRequests: number;
  /** Bytes. */
  readonly peakRss: number;
}

export interface LargeCase {
  readonly upstream: Omit<Extract<GeneratorCall, { kind: 'start' }>, 'kind'>;
  /** Which stream reads which NAR, when, and whether it is hashed. */
  readonly streams: readonly { readonly nar: number; readonly afterMs: number; readonly hash: boolean }[];
}

/** 16 clients on one cold NAR of 2 GiB: how much memory Snowcap takes. One body in 16 is hashed, all are counted. */
export async function measureLargeNar(options: BenchOptions): Promise<readonly Row[]> {
  const runs = await repeat(options, 'memory', {
    upstream: { sizes: [2 * GIB], bytesPerSecond: null, firstByteMs: 0 },
    streams: Array.from({ length: 16 }, (_, index) => ({ nar: 0, afterMs: index * 20, hash: index === 0 })),
  });
  const name = '16 clients, one cold 2 GiB NAR';
  return [
    rowOf(measureOf('memory', `${name}: peak RSS`, 'MB', { atMost: 200 }), runs.map(rssInMb)),
    rowOf(measureOf('memory', `${name}: wrong bodies`, 'count', { exactly: 0 }), runs.map(wrongBodies)),
    rowOf(measureOf('memory', `${name}: upstream requests`, 'count'), runs.map(requestsOf)),
    rowOf(measureOf('memory', `${name}: time`, 's'), runs.map(secondsOf)),
  ];
}

/** 8 clients on 8 cold NARs of 500 MB each at once. */
export async function measureManyLargeNars(options: BenchOptions): Promise<readonly Row[]> {
  const runs = await repeat(options, 'parallel', {
    upstream: { sizes: Array.from({ length: 8 }, () => 500 * MB), bytesPerSecond: null, firstByteMs: 0 },
    streams: Array.from({ length: 8 }, (_, index) => ({ nar: index, afterMs: 0, hash: true })),
  });
  const name = '8 clients, 8 cold 500 MB NARs';
  return [
    rowOf(measureOf('parallel', `${name}: peak RSS`, 'MB', { atMost: 200 }), runs.map(rssInMb)),
    rowOf(measureOf('parallel', `${name}: wrong bodies`, 'count', { exactly: 0 }), runs.map(wrongBodies)),
    rowOf(measureOf('parallel', `${name}: time`, 's'), runs.map(secondsOf)),
  ];
}

/**
 * 64 clients on one cold NAR of 200 MB behind a slow upstream (10 MB/s, 300 ms to the first byte): 16 at once,
 * before there is a byte, and the others in the two seconds after.
 */
export async function measureFollowers(options: BenchOptions): Promise<readonly Row[]> {
  const runs = await repeat(options, 'followers', {
    upstream: { sizes: [200 * MB], bytesPerSecond: 10 * MB, firstByteMs: 300 },
    streams: Array.from({ length: 64 }, (_, index) => ({
      nar: 0,
      afterMs: index < 16 ? 0 : (index - 15) * 40,
      hash: true,
    })),
  });
  const name = '64 clients, one cold 200 MB NAR';
  return [
    rowOf(
      measureOf('followers', `${name}: upstream requests`, 'count', { exactly: 1 }),
      runs.map(requestsOf),
    ),
    rowOf(
      measureOf('followers', `${name}: latest first byte`, 'ms', { atMost: 50 }),
      runs.map((run) => Math.max(...firstByteWaits(run))),
    ),
    rowOf(
      measureOf('followers', `${name}: median first byte`, 'ms'),
      runs.map((run) => median(firstByteWaits(run))),
    ),
    rowOf(measureOf('followers', `${name}: wrong bodies`, 'count', { exactly: 0 }), runs.map(wrongBodies)),
    rowOf(measureOf('followers', `${name}: peak RSS`, 'MB'), runs.map(rssInMb)),
    rowOf(measureOf('followers', `${name}: time`, 's'), runs.map(secondsOf)),
  ];
}

/**
 * Milliseconds that each stream waited for its first byte since it could have had one: since it arrived, or
 * since the first of all streams had one, whichever is later.
 */
function firstByteWaits({ streams }: LargeRun): readonly number[] {
  const leader = Math.min(...streams.map(({ firstByteAt }) => firstByteAt));
  return streams.map(({ arrivedAt, firstByteAt }) => firstByteAt - Math.max(arrivedAt, leader));
}

/** Streams whose length or hash is not that of a NAR that the upstream has. */
function wrongBodies({ nars, streams }: LargeRun): number {
  return streams.filter(
    ({ bytes, sha256 }) =>
      !nars.some((nar) => nar.size === bytes && (sha256 === null || sha256 === nar.sha256)),
  ).length;
}

const rssInMb = (run: LargeRun): number => run.peakRss / MB;
const requestsOf = (run: LargeRun): number => run.upstreamRequests;
const secondsOf = ({ streams }: LargeRun): number =>
  (Math.max(...streams.map(({ endedAt }) => endedAt)) -
    Math.min(...streams.map(({ arrivedAt }) => arrivedAt))) /
  1000;

async function repeat(
  options: BenchOptions,
  section: string,
  large: LargeCase,
): Promise<readonly LargeRun[]> {
  if (options.control) return [];
  const runs: LargeRun[] = [];
  for (let run = 0; run < runsOf(options, 3); run++) {
    const result = await runOnce(options, large);
    say(
      `${section}: ${secondsOf(result).toFixed(1)} s, peak RSS ${rssInMb(result).toFixed(0)} MB, ` +
        `${result.upstreamRequests} upstream requests`,
    );
    runs.push(result);
  }
  return runs;
}

async function runOnce(options: BenchOptions, { upstream, streams }: LargeCase): Promise<LargeRun> {
  const generator = startRemote<GeneratorCall, GeneratorAnswer>('generator-process.ts');
  try {
    const { port, publicKey, nars } = await generator.call({ kind: 'start', ...upstream });
    return await withSnowcap(options, `http://127.0.0.1:${port}`, publicKey, async (snowcap) => {
      // As a Nix client does: the narinfo first, so that the NAR is known.
      const paths = nars.map(({ narInfoPath }) => narInfoPath);
      await withClient((client) =>
        client.call({ kind: 'drain', port: snowcap.port, paths, connections: 1, status: 200 }),
      );
      const calls = streams.map(({ nar, afterMs, hash }): StreamCall => {
        return { path: nars[nar]?.narPath ?? '', afterMs, hash };
      });
      const results = await readStreams(snowcap.port, calls);
      const { requests } = await generator.call({ kind: 'counts' });
      return {
        nars,
        streams: results,
        upstreamRequests: requests.reduce((sum, count) => sum + count, 0),
        peakRss: await peakRss(snowcap.pid),
      };
    });
  } finally {
    await generator.stop();
  }
}

/** Client processes: several, so that one that hashes a burst does not keep others from seeing their first byte. */
const CLIENTS = 4;

/** Reads all of these at once. */
export async function readStreams(
  port: number,
  calls: readonly StreamCall[],
): Promise<readonly StreamResult[]> {
  const shares = Array.from({ length: CLIENTS }, (_, client) =>
    calls.filter((_call, index) => index % CLIENTS === client),
  );
  const clients = await Promise.all(shares.map(() => readyClient()));
  try {
    const answers = await Promise.all(
      clients.map((client, index) => client.call({ kind: 'streams', port, streams: shares[index] ?? [] })),
    );
    return answers.flatMap(({ streams }) => streams);
  } finally {
    await Promise.all(clients.map((client) => client.stop()));
  }
}

/** A client that has done something already, so that all of them begin at the same time. */
async function readyClient(): Promise<Client> {
  const client = startRemote<ClientCall, ClientAnswer>('client-process.ts');
  await client.call({ kind: 'streams', port: 0, streams: [] });
  return client;
}
