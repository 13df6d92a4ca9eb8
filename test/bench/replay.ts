import { closureTrace } from './replay/closure-trace.ts';
import { replayOptimum } from './replay/optimum.ts';
import { POLICIES } from './replay/policies.ts';
import { replay, type Replayed } from './replay/ranked-cache.ts';
import { distinctBytes, type Trace } from './replay/trace.ts';
import { zipfTrace } from './replay/zipf-trace.ts';
import { median } from './rows.ts';

/** Of the distinct bytes of a trace. */
const BUDGETS = [0.1, 0.25, 0.5];
/** Others than those that the steps were chosen with. */
const SEEDS = [11, 12, 13];
const ZIPF = { days: 50, requestsPerDay: 6000, objects: 20_000 };

const TRACES: readonly ((seed: number) => Trace)[] = [
  (seed) => zipfTrace({ ...ZIPF, seed, scans: true }),
  (seed) => zipfTrace({ ...ZIPF, seed, scans: false }),
  (seed) => closureTrace({ seed, weeks: 8 }),
];

const PLAYERS: Readonly<Record<string, (trace: Trace, budget: number) => Replayed>> = {
  ...Object.fromEntries(
    Object.entries(POLICIES).map(([name, rank]) => [
      name,
      (trace: Trace, budget: number): Replayed => replay(trace, budget, rank),
    ]),
  ),
  'optimum by bytes': (trace, budget) => replayOptimum(trace, budget, 'bytes'),
  'optimum by requests': (trace, budget) => replayOptimum(trace, budget, 'requests'),
};

/** Replays traces against the order of eviction (`src/database/eviction-order.ts`): medians over seeds, always the same. */
function main(): void {
  for (const traceOf of TRACES) {
    const traces = SEEDS.map((seed) => traceOf(seed));
    process.stdout.write(`\n${describe(traces)}\n\n${HEADING}\n`);
    for (const part of BUDGETS) {
      for (const [name, play] of Object.entries(PLAYERS)) {
        const replayed = traces.map((trace) => play(trace, distinctBytes(trace) * part));
        process.stdout.write(`${rowOf(part, name, replayed)}\n`);
      }
    }
  }
}

function describe(traces: readonly Trace[]): string {
  const [requests, objects, gigabytes] = [
    medianOf(traces, (trace) => trace.objects.length),
    medianOf(traces, (trace) => new Set(trace.objects).size),
    medianOf(traces, (trace) => distinctBytes(trace) / 1e9),
  ];
  const { name = '' } = traces[0] ?? {};
  return `${name}: ${requests} requests for ${objects} bodies of ${gigabytes.toFixed(1)} GB; medians of ${traces.length} seeds`;
}

const HEADING = 'budget  policy               hits      of bytes  upstream per 1000: requests        MB';

function rowOf(part: number, name: string, replayed: readonly Replayed[]): string {
  const percent = (figure: number): string => `${(100 * figure).toFixed(1)} %`;
  return [
    percent(part).replace('.0', '').padStart(6),
    name.padEnd(20),
    percent(medianOf(replayed, ({ hits, requests }) => hits / requests)).padStart(7),
    percent(medianOf(replayed, ({ hitBytes, bytes }) => hitBytes / bytes)).padStart(9),
    String(
      Math.round(medianOf(replayed, ({ hits, requests }) => (1000 * (requests - hits)) / requests)),
    ).padStart(26),
    medianOf(replayed, ({ hitBytes, bytes, requests }) => (bytes - hitBytes) / 1e3 / requests)
      .toFixed(0)
      .padStart(8),
  ].join('  ');
}

function medianOf<T>(list: readonly T[], figure: (one: T) => number): number {
  return median(list.map(figure));
}

main();
