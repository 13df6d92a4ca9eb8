import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { COUNTERS, GAUGES, HISTOGRAMS } from './metrics.ts';
import type { CounterName, GaugeName, HistogramName, Labels, Metrics } from './metrics.ts';

/** Metrics that can be read by Prometheus. */
export interface PrometheusMetrics extends Metrics {
  /** Everything recorded so far, with the process's own metrics, in the text format of Prometheus. */
  exposition(): Promise<{ readonly contentType: string; readonly body: string }>;
}

/** Upper bounds of histograms in seconds: from a narinfo out of memory to a NAR that waited for an upstream. */
const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/**
 * Metrics on prom-client, in a registry of their own. A label that the tables of `metrics.ts` do not
 * name is left out; one that is not given is empty.
 *
 * Recording is cheap: a sum per label set is kept here and handed to the library when somebody reads
 * (the library builds a key of all labels at each call, and cannot keep it).
 */
export function createPrometheusMetrics(): PrometheusMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const counters = mapTable(COUNTERS, (name, description) => registerCounter(registry, name, description));
  const gauges = mapTable(GAUGES, (name, description) => registerGauge(registry, name, description));
  const histograms = mapTable(HISTOGRAMS, (name, description) =>
    registerHistogram(registry, name, description),
  );
  return {
    count: (name: CounterName, labels: Labels = NO_LABELS, by = 1) => {
      const sum = counters.get(name)?.cell(labels);
      if (sum !== undefined) sum.value += by;
    },
    gauge: (name: GaugeName, value: number, labels: Labels = NO_LABELS) => {
      const sum = gauges.get(name)?.cell(labels);
      if (sum !== undefined) sum.value = value;
    },
    observe: (name: HistogramName, value: number, labels: Labels = NO_LABELS) => {
      histograms.get(name)?.cell(labels).observe(value);
    },
    exposition: async () => ({ contentType: registry.contentType, body: await registry.metrics() }),
  };
}

const NO_LABELS: Labels = {};

/** Observations of one label set that are kept back, at most. */
const MOST_WAITING = 512;

interface Description {
  readonly help: string;
  readonly labels: readonly string[];
}

/** What is recorded under one label set. */
class Cells<Cell> {
  readonly #labels: readonly string[];
  readonly #create: (labels: Record<string, string>) => Cell;
  readonly #all: { readonly labels: Record<string, string>; readonly cell: Cell }[] = [];
  /** By the values of the labels, one after the other: building a key of them all would cost more than the sum. */
  readonly #root: Branch<Cell> = { next: new Map(), cell: undefined };

  constructor(labels: readonly string[], create: (labels: Record<string, string>) => Cell) {
    this.#labels = labels;
    this.#create = create;
  }

  cell(given: Labels): Cell {
    let branch = this.#root;
    for (const label of this.#labels) {
      const value = given[label] ?? '';
      let next = branch.next.get(value);
      if (next === undefined) {
        next = { next: new Map(), cell: undefined };
        branch.next.set(value, next);
      }
      branch = next;
    }
    return (branch.cell ??= this.#created(given));
  }

  entries(): Iterable<{ readonly labels: Record<string, string>; readonly cell: Cell }> {
    return this.#all;
  }

  #created(given: Labels): Cell {
    const labels = Object.fromEntries(this.#labels.map((label) => [label, given[label] ?? '']));
    const cell = this.#create(labels);
    this.#all.push({ labels, cell });
    return cell;
  }
}

interface Branch<Cell> {
  readonly next: Map<string, Branch<Cell>>;
  cell: Cell | undefined;
}

interface Sum {
  value: number;
}

function registerCounter(registry: Registry, name: string, { help, labels }: Description): Cells<Sum> {
  const cells = new Cells<Sum>(labels, () => ({ value: 0 }));
  new Counter({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      this.reset();
      for (const { labels: of, cell } of cells.entries()) this.inc(of, cell.value);
    },
  });
  return cells;
}

function registerGauge(registry: Registry, name: string, { help, labels }: Description): Cells<Sum> {
  const cells = new Cells<Sum>(labels, () => ({ value: 0 }));
  new Gauge({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      for (const { labels: of, cell } of cells.entries()) this.set(of, cell.value);
    },
  });
  return cells;
}

function registerHistogram(
  registry: Registry,
  name: string,
  { help, labels }: Description,
): Cells<Observations> {
  const cells = new Cells(labels, (of) => new Observations(histogram.labels(of)));
  const histogram = new Histogram({
    name,
    help,
    labelNames: [...labels],
    buckets: SECONDS,
    registers: [registry],
    collect() {
      for (const { cell } of cells.entries()) cell.handOver();
    },
  });
  return cells;
}

/** Observations of one label set on their way to the library, which is quicker with many in a row than with one a request. */
class Observations {
  readonly #to: { observe(value: number): void };
  readonly #waiting = new Float64Array(MOST_WAITING);
  #count = 0;

  constructor(to: { observe(value: number): void }) {
    this.#to = to;
  }

  observe(value: number): void {
    this.#waiting[this.#count++] = value;
    if (this.#count === MOST_WAITING) this.handOver();
  }

  handOver(): void {
    for (const value of this.#waiting.subarray(0, this.#count)) this.#to.observe(value);
    this.#count = 0;
  }
}

/** One value per name of a table, under the same names. */
function mapTable<Value>(
  table: Readonly<Record<string, Description>>,
  make: (name: string, description: Description) => Value,
): ReadonlyMap<string, Value> {
  return new Map(Object.entries(table).map(([name, description]) => [name, make(name, description)]));
}
