import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { type CollectedSpan, type OtlpCollector, startOtlpCollector } from '../support/otlp-collector.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, signedPath, upstreamPublicKey } from '../support/signed-path.ts';
import { SnowcapProcess } from '../support/snowcap-process.ts';
import { until } from '../support/test-cache.ts';

const SECRET = 'hunter2-of-the-collector';
const URL_SECRET = 'hunter3-of-the-upstream';

const opened: { close(): unknown }[] = [];
let collector: OtlpCollector;
let upstream: FaultServer;

async function start(
  service: string,
  upstreams: readonly string[],
  keys: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<SnowcapProcess> {
  const snowcap = await SnowcapProcess.start({
    upstreams,
    trustedPublicKeys: keys,
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      OTEL_EXPORTER_OTLP_HEADERS: `authorization=Bearer%20${SECRET}`,
      OTEL_SERVICE_NAME: service,
      SNOWCAP_SHUTDOWN_TIMEOUT: '5',
      ...env,
    },
  });
  opened.push({ close: () => snowcap.dispose() });
  return snowcap;
}

/** A trace of the client's own, as its header tells it. */
function clientTrace(digit: string): {
  readonly id: string;
  readonly parent: string;
  readonly headers: { traceparent: string };
} {
  const id = digit.repeat(32);
  const parent = digit.repeat(16);
  return { id, parent, headers: { traceparent: `00-${id}-${parent}-01` } };
}

/** Every span, as the names from the first one of the trace down to it. */
function pathsOf(spans: readonly CollectedSpan[], root: string): readonly string[] {
  const nameOf = (span: CollectedSpan): string => `${span.service}: ${span.name}`;
  const pathOf = (span: CollectedSpan): string => {
    if (span.parentSpanId === root) return nameOf(span);
    const parent = spans.find(({ spanId }) => spanId === span.parentSpanId);
    // One whose parent is nowhere, or which is its own ancestor, would not end up at the root.
    return parent === undefined ? `orphan > ${nameOf(span)}` : `${pathOf(parent)} > ${nameOf(span)}`;
  };
  return spans.map(pathOf);
}

/** Whether the spans of so many requests of a kind have come, and of so many fills. */
const ended =
  (request: string, requests: number, fills = 0) =>
  (spans: readonly CollectedSpan[]): boolean =>
    spans.filter(({ kind, name }) => kind === 'server' && name === request).length === requests &&
    spans.filter(({ name }) => name === 'fill').length === fills;

beforeEach(async () => {
  collector = await startOtlpCollector();
  upstream = await startFaultServer();
  opened.push(collector, upstream);
});

afterEach(async () => {
  for (const one of opened.splice(0).toReversed()) await one.close();
});

describe('a miss that goes through two instances', () => {
  it('is one connected trace for the narinfo and one for the NAR, without a secret in it', async () => {
    const path = await signedPath({ size: 300_000, compression: 'zstd' });
    publish(upstream, path);
    const a = await start(
      'a',
      [upstream.url.replace('//', `//ursula:${URL_SECRET}@`)],
      [await upstreamPublicKey()],
    );
    const b = await start('b', [a.url], [await a.publicKey()]);

    const forNarInfo = clientTrace('a');
    const answer = await b.get(`/${path.hash}.narinfo`, { headers: forNarInfo.headers });
    expect(answer.status).toBe(200);
    const key = /^URL: (.*)$/m.exec(await answer.text())?.[1] ?? '';
    const forNar = clientTrace('b');
    const nar = await download(`${b.url}/${key}`, { headers: forNar.headers });
    expect(nar.bytes.equals(path.body)).toBe(true);

    const narInfoTrace = pathsOf(
      await collector.trace(forNarInfo.id, ended('GET narinfo', 2)),
      forNarInfo.parent,
    );
    for (const expected of [
      'b: GET narinfo',
      'b: GET narinfo > b: index.getPath',
      'b: GET narinfo > b: index.recordPath',
      'b: GET narinfo > b: upstream GET narinfo',
      'b: GET narinfo > b: verify narinfo',
      'b: GET narinfo > b: upstream GET narinfo > a: GET narinfo',
      'b: GET narinfo > b: upstream GET narinfo > a: GET narinfo > a: index.getPath',
      'b: GET narinfo > b: upstream GET narinfo > a: GET narinfo > a: upstream GET narinfo',
      'b: GET narinfo > b: upstream GET narinfo > a: GET narinfo > a: verify narinfo',
    ]) {
      expect(narInfoTrace).toContain(expected);
    }
    const narSpans = await collector.trace(forNar.id, ended('GET nar', 2, 2));
    const narTrace = pathsOf(narSpans, forNar.parent);
    for (const instance of ['b: GET nar', 'b: GET nar > b: fill > b: upstream GET nar > a: GET nar']) {
      const service = instance.at(-'?: GET nar'.length) ?? '';
      for (const child of [
        'storage.get',
        'fill',
        'fill > index.getNar',
        'fill > lock.acquire',
        'fill > storage.head',
      ]) {
        expect(narTrace).toContain(`${instance} > ${child.replaceAll(/(^| > )/g, `$1${service}: `)}`);
      }
      for (const child of [
        'upstream GET nar',
        'verify',
        'commit',
        'commit > storage.put',
        'commit > index.markPresent',
      ]) {
        expect(narTrace).toContain(
          `${instance} > ${service}: fill > ${child.replaceAll(/(^| > )/g, `$1${service}: `)}`,
        );
      }
    }
    expect([...narInfoTrace, ...narTrace].filter((line) => line.startsWith('orphan'))).toEqual([]);
    for (const { kind, attributes } of narSpans.filter(({ kind }) => kind === 'server')) {
      expect({ kind, ...attributes }).toMatchObject({
        'http.request.method': 'GET',
        'http.route': 'nar',
        'http.response.status_code': 200,
        'http.response.body.size': path.body.length,
        'url.path': `/${key}`,
        'snowcap.outcome': 'fill',
      });
    }
    expect(narSpans.filter(({ failed }) => failed)).toEqual([]);
    // The server behind them gets the context too.
    const asked = upstream.requestsTo(`/${path.url}`).map(({ headers }) => headers['traceparent']);
    expect(asked).toHaveLength(1);
    expect(asked[0]).toMatch(new RegExp(`^00-${forNar.id}-[0-9a-f]{16}-01$`));
    // Log and trace find each other.
    for (const { logs } of [a, b]) {
      expect(logs.filter((line) => line['trace'] === forNar.id).map((line) => line.msg)).toEqual(['request']);
    }
    const said = collector.posts.map(({ body }) => body).join('\n');
    for (const secret of [SECRET, URL_SECRET, 'ursula']) {
      expect(said).not.toContain(secret);
      expect(a.output + b.output).not.toContain(secret);
    }
    expect(collector.posts.every(({ headers }) => headers.authorization === `Bearer ${SECRET}`)).toBe(true);
  });

  it('begins a trace where the client has none, and spares what is not sampled, in both', async () => {
    const path = await signedPath();
    publish(upstream, path);
    const a = await start('a', [upstream.url], [await upstreamPublicKey()]);
    const b = await start('b', [a.url], [await a.publicKey()]);
    const unsampled = { traceparent: `00-${'c'.repeat(32)}-${'c'.repeat(16)}-00` };
    expect((await b.get(`/${'0'.repeat(32)}.narinfo`, { headers: unsampled })).status).toBe(404);
    const unasked = upstream.requestsTo(`/${'0'.repeat(32)}.narinfo`)[0]?.headers['traceparent'];
    expect(unasked).toMatch(new RegExp(`^00-${'c'.repeat(32)}-[0-9a-f]{16}-00$`));
    await servedKey(b, path);
    await b.stop();
    await a.stop();
    const roots = collector.spans.filter(({ parentSpanId }) => parentSpanId === '');
    // The public key was asked for by this test.
    expect(roots.map(({ service, name }) => `${service}: ${name}`).toSorted()).toEqual([
      'a: GET pubkey',
      'b: GET narinfo',
    ]);
    expect(new Set(collector.spans.map(({ traceId }) => traceId)).size).toBe(2);
    expect(pathsOf(collector.spans, '').filter((line) => line.includes('orphan'))).toEqual([]);
  });

  it('links those who follow a fill to it', async () => {
    const path = await signedPath({ size: 400_000 });
    publish(upstream, path, { delayMs: 500 });
    const a = await start('a', [upstream.url], [await upstreamPublicKey()]);
    const key = await servedKey(a, path);
    const [first, second] = [clientTrace('1'), clientTrace('2')];
    const leading = download(`${a.url}/${key}`, { headers: first.headers });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await Promise.all([leading, download(`${a.url}/${key}`, { headers: second.headers })]);
    await a.stop();
    const fill = (await collector.trace(first.id, ended('GET nar', 1, 1))).find(
      ({ name }) => name === 'fill',
    );
    const following = await collector.trace(second.id, ended('GET nar', 1));
    expect(following.map(({ name }) => name)).toEqual(['GET nar']);
    expect(following[0]?.linkedSpanIds).toEqual([fill?.spanId]);
    expect(following[0]?.attributes['snowcap.outcome']).toBe('follow');
  });
});

describe('an answer that does not reach its end', () => {
  it('ends its span when it breaks, as failed, and when its client leaves, as not', async () => {
    const [lying, right] = [
      await signedPath({ name: 'lying', size: 300_000 }),
      await signedPath({ name: 'right', size: 30_000_000, seed: 2 }),
    ];
    publish(upstream, lying, { flipBitAt: 1000 });
    publish(upstream, right);
    const a = await start('a', [upstream.url], [await upstreamPublicKey()]);
    const [broken, left] = [clientTrace('e'), clientTrace('f')];
    expect((await download(`${a.url}/${await servedKey(a, lying)}`, { headers: broken.headers })).ended).toBe(
      'broken',
    );
    const key = await servedKey(a, right);
    await download(`${a.url}/${key}`, {
      headers: left.headers,
      bytesPerSecond: 500_000,
      leaveAfter: 200_000,
    });
    // The fill goes on without its client: it ends before the process does.
    await a.stop();

    const wrong = await collector.trace(broken.id, ended('GET nar', 1, 1));
    expect(wrong.find(({ name }) => name === 'GET nar')).toMatchObject({
      failed: true,
      attributes: { 'snowcap.outcome': 'broken', 'http.response.status_code': 200 },
    });
    expect(wrong.find(({ name }) => name === 'verify')?.failed).toBe(true);
    expect(wrong.find(({ name }) => name === 'fill')?.attributes['snowcap.result']).toBe('body_mismatch');
    expect(wrong.map(({ name }) => name)).not.toContain('commit');
    const gone = await collector.trace(left.id, ended('GET nar', 1, 1));
    expect(gone.find(({ name }) => name === 'GET nar')).toMatchObject({
      failed: false,
      attributes: { 'snowcap.outcome': 'client-left' },
    });
    // In the trace of its client.
    expect(pathsOf(gone, left.parent)).toContain('a: GET nar > a: fill > a: commit');
    for (const { start: from, end: to } of [...wrong, ...gone]) expect(to).toBeGreaterThanOrEqual(from);
  });
});

describe('a collector that fails', () => {
  it.each<[string, (one: OtlpCollector) => unknown]>([
    ['is down', (one) => one.close()],
    ['never answers', (one) => one.answer(() => undefined)],
    ['answers 500', (one) => one.answer((response) => response.writeHead(500).end())],
  ])('that %s costs one line of the log, and no request', async (_, fail) => {
    const path = await signedPath();
    publish(upstream, path);
    await fail(collector);
    const a = await start('a', [upstream.url], [await upstreamPublicKey()], { SNOWCAP_LOG_LEVEL: 'info' });
    const before = await a.rss();
    const rounds: number[] = [];
    for (let round = 0; round < 60; round += 1) {
      const began = performance.now();
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => a.get(`/${path.hash}.narinfo`).then((answer) => answer.text())),
      );
      expect(new Set(answers).size).toBe(1);
      rounds.push(performance.now() - began);
    }
    // None of them waits for the collector, which is given 3 seconds.
    expect(rounds.toSorted((one, other) => one - other)[30]).toBeLessThan(1_500);
    const lost = async (): Promise<number> => {
      const metrics = await (await a.get('/metrics')).text();
      const counts = [...metrics.matchAll(/^snowcap_spans_total\{result="(failed|dropped)"\} (\d+)$/gm)];
      return counts.reduce((sum, match) => sum + Number(match[2]), 0);
    };
    // More than one batch, so that a second line of the log would have its reason.
    await until(
      async () => (await lost()) > 1_000,
      () => 'the spans are not given up',
      30_000,
    );
    expect((await a.rss()).now - before.now).toBeLessThan(100 * 2 ** 20);
    const began = performance.now();
    expect(await a.stop()).toEqual({ code: 0, signal: null });
    expect(performance.now() - began).toBeLessThan(10_000);
    const lines = a.logs.filter(({ msg }) => msg?.startsWith('Traces are lost'));
    expect(lines).toHaveLength(1);
    expect(a.output).not.toContain(SECRET);
  });
});

describe('without a collector', () => {
  it('nothing is sent to upstreams, and the log names no trace', async () => {
    const path = await signedPath();
    publish(upstream, path);
    const a = await start('a', [upstream.url], [await upstreamPublicKey()], {
      OTEL_EXPORTER_OTLP_ENDPOINT: '',
    });
    await a.get(`/${path.hash}.narinfo`, clientTrace('d'));
    const [asked] = upstream.requestsTo(`/${path.hash}.narinfo`);
    expect(asked?.headers['traceparent']).toBeUndefined();
    expect(a.logs.some((line) => 'trace' in line)).toBe(false);
    expect(collector.posts).toEqual([]);
  });
});
