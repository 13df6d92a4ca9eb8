/**
 * Counters and gauges under Prometheus names, independent of any library. A label set is given at
 * each call; the names are fixed in `COUNTERS`, `HISTOGRAMS` and `GAUGES`, so that a typing error does not make a
 * new series, and so are the label names that a driver records.
 */
export interface Metrics {
  /** Adds `by` (default 1) to a counter. */
  count(name: CounterName, labels?: Labels, by?: number): void;
  /** Records one observation of a histogram; durations are in seconds, sizes in bytes. */
  observe(name: HistogramName, value: number, labels?: Labels): void;
  /** Sets a gauge. */
  gauge(name: GaugeName, value: number, labels?: Labels): void;
}

export type Labels = Readonly<Record<string, string>>;
export type CounterName = keyof typeof COUNTERS;
export type HistogramName = keyof typeof HISTOGRAMS;
export type GaugeName = keyof typeof GAUGES;

export const COUNTERS = {
  snowcap_requests_total: {
    help: 'Requests answered, by route, status and what happened',
    labels: ['route', 'status', 'outcome'],
  },
  snowcap_body_bytes_total: { help: 'Body bytes sent to clients', labels: ['route'] },
  snowcap_fills_total: { help: 'Fills by how they ended', labels: ['result'] },
  snowcap_fill_bytes_total: { help: 'Bytes read from upstreams by fills', labels: ['upstream'] },
  snowcap_verification_failures_total: {
    help: 'Bodies and narinfos refused, by what was wrong',
    labels: ['reason'],
  },
  snowcap_upstream_requests_total: {
    help: 'Requests to upstreams, by outcome',
    labels: ['upstream', 'kind', 'outcome'],
  },
  snowcap_storage_operations_total: { help: 'Storage operations', labels: ['operation', 'outcome'] },
  snowcap_index_queries_total: { help: 'Index queries and batches', labels: ['operation', 'outcome'] },
  snowcap_lock_faults_total: {
    help: 'Times that the lock service could not be asked: work went on uncoordinated',
    labels: ['operation'],
  },
  snowcap_lock_operations_total: {
    help: 'Requests to lock services, by what came of them (skipped: the service is left alone after faults)',
    labels: ['operation', 'outcome'],
  },
  snowcap_eviction_runs_total: { help: 'Evictions by how they ended', labels: ['outcome'] },
  snowcap_evicted_nars_total: { help: 'NARs evicted, by what they were', labels: ['kind'] },
  snowcap_evicted_bytes_total: { help: 'Bytes of the NARs evicted, by what they were', labels: ['kind'] },
  snowcap_spans_total: { help: 'Spans of traces, by what became of them', labels: ['result'] },
  snowcap_background_failures_total: { help: 'Deferred work that failed', labels: ['what'] },
} as const;

export const HISTOGRAMS = {
  snowcap_request_seconds: {
    help: 'Time until the answer begins, by route',
    labels: ['route'],
  },
} as const;

export const GAUGES = {
  snowcap_fills_in_flight: { help: 'Fills under way in this process', labels: [] },
  snowcap_buffer_bytes: { help: 'Bytes reserved of SNOWCAP_BUFFER_LIMIT', labels: [] },
  snowcap_spool_bytes: { help: 'Bytes reserved of SNOWCAP_SPOOL_LIMIT', labels: [] },
  snowcap_present_bytes: { help: 'Sum of the NARs present in the index', labels: [] },
  snowcap_present_nars: { help: 'NARs present in the index', labels: [] },
  snowcap_lock_circuit_open: {
    help: '1 while a lock service is left alone after faults, and work goes on without it',
    labels: ['service'],
  },
  snowcap_upstream_circuit_open: { help: '1 while the circuit of an upstream is open', labels: ['upstream'] },
} as const;

/** Records nothing. */
export const noMetrics: Metrics = { count() {}, observe() {}, gauge() {} };
