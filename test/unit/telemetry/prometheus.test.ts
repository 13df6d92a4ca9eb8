import { describe, expect, it } from 'vitest';
import { COUNTERS, GAUGES, HISTOGRAMS } from '../../../src/telemetry/metrics.ts';
import { createPrometheusMetrics } from '../../../src/telemetry/prometheus.ts';

async function linesOf(metrics: ReturnType<typeof createPrometheusMetrics>): Promise<readonly string[]> {
  return (await metrics.exposition()).body.split('\n');
}

describe('the metrics for Prometheus', () => {
  it('name everything of the tables, with help and type, before anything was recorded', async () => {
    const lines = await linesOf(createPrometheusMetrics());
    for (const [type, table] of [
      ['counter', COUNTERS],
      ['gauge', GAUGES],
      ['histogram', HISTOGRAMS],
    ] as const) {
      for (const [name, { help }] of Object.entries(table)) {
        expect(lines).toContain(`# HELP ${name} ${help}`);
        expect(lines).toContain(`# TYPE ${name} ${type}`);
      }
    }
  });

  it('add up counters by label set, and the same after having been read', async () => {
    const metrics = createPrometheusMetrics();
    const hit = { route: 'nar', status: '200', outcome: 'hit' };
    metrics.count('snowcap_requests_total', hit);
    metrics.count('snowcap_requests_total', { outcome: 'hit', status: '200', route: 'nar' });
    metrics.count('snowcap_requests_total', { ...hit, status: '404' }, 5);
    await metrics.exposition();
    metrics.count('snowcap_requests_total', hit);
    const lines = await linesOf(metrics);
    expect(lines).toContain('snowcap_requests_total{route="nar",status="200",outcome="hit"} 3');
    expect(lines).toContain('snowcap_requests_total{route="nar",status="404",outcome="hit"} 5');
  });

  it('keep label sets apart whose values run into one another', async () => {
    const metrics = createPrometheusMetrics();
    metrics.count('snowcap_storage_operations_total', { operation: 'a', outcome: 'bc' });
    metrics.count('snowcap_storage_operations_total', { operation: 'ab', outcome: 'c' });
    const lines = await linesOf(metrics);
    expect(lines.filter((line) => line.startsWith('snowcap_storage_operations_total{'))).toHaveLength(2);
  });

  it('set gauges to the last value', async () => {
    const metrics = createPrometheusMetrics();
    metrics.gauge('snowcap_buffer_bytes', 10);
    metrics.gauge('snowcap_buffer_bytes', 4);
    metrics.gauge('snowcap_upstream_circuit_open', 1, { upstream: 'https://a' });
    const lines = await linesOf(metrics);
    expect(lines).toContain('snowcap_buffer_bytes 4');
    expect(lines).toContain('snowcap_upstream_circuit_open{upstream="https://a"} 1');
  });

  it('sort observations into buckets', async () => {
    const metrics = createPrometheusMetrics();
    for (const seconds of [0.0004, 0.02, 0.02, 40]) {
      metrics.observe('snowcap_request_seconds', seconds, { route: 'narinfo' });
    }
    const lines = await linesOf(metrics);
    expect(lines).toContain('snowcap_request_seconds_bucket{le="0.0005",route="narinfo"} 1');
    expect(lines).toContain('snowcap_request_seconds_bucket{le="0.025",route="narinfo"} 3');
    expect(lines).toContain('snowcap_request_seconds_bucket{le="30",route="narinfo"} 3');
    expect(lines).toContain('snowcap_request_seconds_count{route="narinfo"} 4');
  });

  it('lose no observation of many, nor count one twice that was read before', async () => {
    const metrics = createPrometheusMetrics();
    for (let round = 1; round <= 3; round++) {
      for (let count = 0; count < 700; count++) {
        metrics.observe('snowcap_request_seconds', 0.25, { route: 'nar' });
      }
      const lines = await linesOf(metrics);
      expect(lines).toContain(`snowcap_request_seconds_count{route="nar"} ${700 * round}`);
      expect(lines).toContain(`snowcap_request_seconds_sum{route="nar"} ${175 * round}`);
    }
  });

  it('leave out labels that the tables do not name, and leave empty those that are not given', async () => {
    const metrics = createPrometheusMetrics();
    metrics.count('snowcap_fills_total', { result: 'stored', typo: 'x' });
    metrics.count('snowcap_fills_total');
    const lines = await linesOf(metrics);
    expect(lines).toContain('snowcap_fills_total{result="stored"} 1');
    expect(lines).toContain('snowcap_fills_total{result=""} 1');
  });

  it('bring those of the process, and are told apart from those of another registry', async () => {
    const first = createPrometheusMetrics();
    const second = createPrometheusMetrics();
    first.count('snowcap_fills_total', { result: 'stored' });
    const { contentType, body } = await second.exposition();
    expect(contentType).toMatch(/^text\/plain; version=/);
    expect(body).toMatch(/^process_resident_memory_bytes \d/m);
    expect(body).not.toContain('stored');
  });
});
