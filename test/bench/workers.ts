import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startBundledWorker } from '../support/bundled-worker.ts';
import { startRemote } from './child-process.ts';
import type { StreamCall } from './client-process.ts';
import type { GeneratorAnswer, GeneratorCall } from './generator-process.ts';
import { type LargeCase, readStreams } from './large.ts';
import { say } from './places.ts';
import { type Measure, rowOf, type Row } from './rows.ts';
import { type BenchOptions, withClient } from './setting.ts';

const MB = 1e6;
const LARGE = 500 * MB;
const CLIENTS = 8;

/** What Cloudflare lets an isolate have, in bytes. */
const ISOLATE_BYTES = 128 * 2 ** 20;

/** Of the isolate of the Worker alone: the simulated R2, D1 and queue are others, in the same process. In bytes. */
interface Heap {
  /** Objects that live or are not collected yet. */
  readonly usedSize: number;
  /** What V8 keeps for them. */
  readonly totalSize: number;
  /** Buffers, which are outside of the heap and count all the same. */
  readonly backingStorageSize: number;
}

interface WorkerRun {
  /** The most that the heap and the buffers of the isolate took together, in bytes. */
  readonly peakIsolate: number;
  /** The most that the process took beyond what it took before, in bytes: all isolates and the buffers of workerd. */
  readonly peakProcess: number;
  readonly wrong: number;
  readonly upstreamRequests: number;
  readonly seconds: number;
}

/** 8 clients on 8 cold NARs of 500 MB, and 8 on the same one, through the bundled Worker over R2 and D1. */
export async function measureWorkersMemory(options: BenchOptions): Promise<readonly Row[]> {
  if (options.control) return [];
  return [
    ...rowsOf('8 clients, 8 cold 500 MB NARs', await runOnce(CLIENTS)),
    ...rowsOf('8 clients, one cold 500 MB NAR', await runOnce(1)),
  ];
}

function rowsOf(name: string, run: WorkerRun): readonly Row[] {
  const row = (what: string, unit: Measure['unit'], target: Measure['target'], value: number): Row =>
    rowOf({ section: 'workers', name: `${name}: ${what}`, unit, reference: null, target }, [value]);
  say(`workers: ${name}: ${run.seconds.toFixed(1)} s, isolate ${(run.peakIsolate / MB).toFixed(0)} MB`);
  return [
    row('peak of the isolate', 'MB', { atMost: ISOLATE_BYTES / MB }, run.peakIsolate / MB),
    row('peak of the process', 'MB', null, run.peakProcess / MB),
    row('wrong bodies', 'count', { exactly: 0 }, run.wrong),
    row('upstream requests', 'count', null, run.upstreamRequests),
    row('time', 's', null, run.seconds),
  ];
}

async function runOnce(nars: number): Promise<WorkerRun> {
  const upstream: LargeCase['upstream'] = {
    sizes: Array.from({ length: nars }, () => LARGE),
    bytesPerSecond: null,
    firstByteMs: 0,
  };
  const generator = startRemote<GeneratorCall, GeneratorAnswer>('generator-process.ts');
  const state = await mkdtemp(join(tmpdir(), 'snowcap-bench-worker-'));
  try {
    const made = await generator.call({ kind: 'start', ...upstream });
    const worker = await startBundledWorker({
      state,
      inspected: true,
      settings: {
        SNOWCAP_UPSTREAMS: `http://127.0.0.1:${made.port}`,
        SNOWCAP_TRUSTED_PUBLIC_KEYS: made.publicKey,
        SNOWCAP_LOG_LEVEL: 'warn',
      },
    });
    try {
      const port = Number(new URL(worker.url).port);
      const paths = made.nars.map(({ narInfoPath }) => narInfoPath);
      await withClient((client) => client.call({ kind: 'drain', port, paths, connections: 1, status: 200 }));
      const heap = await watchHeap(await worker.workerd.getInspectorURL());
      const rss = await watchRss();
      const calls = Array.from({ length: CLIENTS }, (_, index): StreamCall => {
        return { path: made.nars[index % nars]?.narPath ?? '', afterMs: 0, hash: true };
      });
      const began = performance.now();
      const streams = await readStreams(port, calls);
      const seconds = (performance.now() - began) / 1000;
      const { requests } = await generator.call({ kind: 'counts' });
      const right = new Set(made.nars.map(({ sha256 }) => sha256));
      return {
        peakIsolate: heap.stop(),
        peakProcess: rss.stop(),
        wrong: streams.filter(({ sha256 }) => sha256 === null || !right.has(sha256)).length,
        upstreamRequests: requests.reduce((sum, count) => sum + count, 0),
        seconds,
      };
    } finally {
      await worker.stop();
    }
  } finally {
    await generator.stop();
    await rm(state, { recursive: true, force: true });
  }
}

interface Watch {
  /** Ends it. @returns the peak, in bytes */
  stop(): number;
}

const EVERY_MS = 100;

/** Asks V8, through the inspector, what the isolate of the Worker takes. */
async function watchHeap(inspector: URL): Promise<Watch> {
  const listed = await fetch(`http://${inspector.host}/json`);
  const targets = (await listed.json()) as readonly { readonly id: string }[];
  const worker = targets.find(({ id }) => id.startsWith('core:user:'));
  if (worker === undefined) throw new Error('The Worker cannot be inspected');
  const socket = new WebSocket(`${inspector.origin}/${worker.id}`);
  await new Promise((resolve, reject) => {
    socket.addEventListener('open', resolve);
    socket.addEventListener('error', () => reject(new Error(`The inspector at ${inspector.href} is closed`)));
  });
  let peak = 0;
  socket.addEventListener('message', ({ data }) => {
    const { result } = JSON.parse(String(data)) as { result?: Partial<Heap> };
    if (result?.usedSize !== undefined) {
      peak = Math.max(peak, result.usedSize + (result.backingStorageSize ?? 0));
    }
  });
  let id = 0;
  const timer = setInterval(() => {
    id += 1;
    socket.send(JSON.stringify({ id, method: 'Runtime.getHeapUsage' }));
  }, EVERY_MS);
  return {
    stop() {
      clearInterval(timer);
      socket.close();
      return peak;
    },
  };
}

/** What the workerd processes below this one take beyond what they take now. */
async function watchRss(): Promise<Watch> {
  const before = await workerdRss();
  let peak = 0;
  const timer = setInterval(() => {
    void workerdRss().then((rss) => (peak = Math.max(peak, rss - before)));
  }, EVERY_MS);
  return {
    stop() {
      clearInterval(timer);
      return peak;
    },
  };
}

/** Linux only, as the bench is. */
async function workerdRss(): Promise<number> {
  const children = await readFile(`/proc/self/task/${process.pid}/children`, 'utf8');
  let bytes = 0;
  for (const pid of children.trim().split(' ')) {
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    if (!/^Name:\s+workerd$/m.test(status)) continue;
    bytes += Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024;
  }
  return bytes;
}
