import { ExportResultCode } from '@opentelemetry/core';
import { InMemorySpanExporter, type ReadableSpan, type SpanExporter } from '@opentelemetry/sdk-trace';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { tracedVerifier } from '../../../src/cache/fill/traced-verifier.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { type LogFields, silentLogger } from '../../../src/telemetry/logger.ts';
import { noMetrics } from '../../../src/telemetry/metrics.ts';
import { createTracing, type OpenTracing, type TracingOptions } from '../../../src/telemetry/otel-tracing.ts';
import { tracingOperations } from '../../../src/telemetry/tracing-operations.ts';
import {
  activeSpan,
  annotate,
  follows,
  startSpan,
  traced,
  tracedAlone,
  traceHeaders,
  traceRequest,
} from '../../../src/telemetry/tracing.ts';
import { tracingTransport } from '../../../src/upstream/tracing-transport.ts';
import type { Transport, TransportRequest } from '../../../src/upstream/transport.ts';

let exporter: InMemorySpanExporter;
let counted: Record<string, number>;
let lines: (readonly [string, LogFields | undefined])[];

beforeEach(() => {
  exporter = new InMemorySpanExporter();
  counted = {};
  lines = [];
});

afterEach(() => {
  vi.useRealTimers();
});

function open(options: Partial<TracingOptions> = {}): OpenTracing {
  return createTracing({
    endpoint: 'http://user:hunter2@collector.example/v1/traces?key=hunter2',
    headers: {},
    serviceName: 'snowcap',
    version: 'test',
    resourceAttributes: { 'deployment.environment.name': 'test' },
    sampler: { kind: 'always_on', ratio: 1, parentBased: true },
    exporting: { kind: 'batches' },
    logger: {
      ...silentLogger,
      warn: (...line) => void lines.push([line[0], line[1]]),
      info: (...line) => void lines.push([line[0], line[1]]),
    },
    metrics: {
      ...noMetrics,
      count: (_, labels, by = 1) => {
        const result = labels?.['result'] ?? '';
        counted[result] = (counted[result] ?? 0) + by;
      },
    },
    exporter,
    ...options,
  });
}

/** Answers one request, and gives the spans by their names. */
async function requested(
  tracing: OpenTracing,
  work: () => Promise<unknown>,
  headers: Readonly<Record<string, string>> = {},
): Promise<Readonly<Record<string, ReadableSpan>>> {
  const span = traceRequest(tracing.tracer, (name) => headers[name], { 'url.path': '/x' });
  await span.run(work);
  span.end('GET x', { 'http.response.status_code': 200 });
  await tracing.flush();
  return Object.fromEntries(exporter.getFinishedSpans().map((one) => [one.name, one]));
}

const parentOf = (span: ReadableSpan | undefined): string | undefined => span?.parentSpanContext?.spanId;
const idOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().spanId;

describe('spans of a request', () => {
  it('are children of the one that is active where they begin, through promises and timers', async () => {
    const tracing = open();
    const spans = await requested(tracing, () =>
      Promise.all([
        traced('fill', { 'snowcap.key': 'nar/x' }, async () => {
          await new Promise((resolve) => setTimeout(resolve, 1));
          await traced('commit', {}, () => Promise.resolve());
          annotate({ 'snowcap.result': 'verified' });
        }),
        traced('other', {}, () => Promise.resolve()),
      ]),
    );
    expect(parentOf(spans['GET x'])).toBeUndefined();
    expect(parentOf(spans['fill'])).toBe(idOf(spans['GET x']));
    expect(parentOf(spans['other'])).toBe(idOf(spans['GET x']));
    expect(parentOf(spans['commit'])).toBe(idOf(spans['fill']));
    expect(spans['fill']?.attributes).toEqual({ 'snowcap.key': 'nar/x', 'snowcap.result': 'verified' });
    expect(spans['GET x']?.resource.attributes).toMatchObject({
      'service.name': 'snowcap',
      'service.version': 'test',
      'deployment.environment.name': 'test',
    });
    expect(counted).toEqual({ sent: 4 });
  });

  it('continue the trace of the client, and pass it on', async () => {
    const tracing = open();
    const given = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`, tracestate: 'vendor=1' };
    let sent: Readonly<Record<string, string>> = {};
    const spans = await requested(
      tracing,
      () => {
        sent = traceHeaders(startSpan('unused', {}));
        return Promise.resolve();
      },
      given,
    );
    expect(spans['GET x']?.spanContext().traceId).toBe('a'.repeat(32));
    expect(parentOf(spans['GET x'])).toBe('b'.repeat(16));
    expect(sent['traceparent']).toMatch(new RegExp(`^00-${'a'.repeat(32)}-[0-9a-f]{16}-01$`));
    expect(sent['tracestate']).toBe('vendor=1');
  });

  it.each([
    '',
    'nonsense',
    `00-${'0'.repeat(32)}-${'b'.repeat(16)}-01`,
    `ff-${'a'.repeat(32)}-${'b'.repeat(16)}-01`,
  ])('begin a trace of their own for the traceparent %j', async (traceparent) => {
    const spans = await requested(open(), () => Promise.resolve(), { traceparent });
    expect(parentOf(spans['GET x'])).toBeUndefined();
  });

  it('are not made where the sampler or the client says no; the context is passed on all the same', async () => {
    const tracing = open();
    const unsampled = { traceparent: `00-${'a'.repeat(32)}-${'b'.repeat(16)}-00` };
    let sent: Readonly<Record<string, string>> = {};
    const work = (): Promise<void> =>
      traced('child', {}, () => {
        expect(startSpan('grandchild', {})).toBeNull();
        sent = traceHeaders(null);
        return Promise.resolve();
      });
    expect(await requested(tracing, work, unsampled)).toEqual({});
    expect(sent['traceparent']).toMatch(new RegExp(`^00-${'a'.repeat(32)}-[0-9a-f]{16}-00$`));
    const never = open({ sampler: { kind: 'always_off', ratio: 1, parentBased: false } });
    expect(await requested(never, work, { traceparent: unsampled.traceparent.replace(/0$/, '1') })).toEqual(
      {},
    );
    const few = open({ sampler: { kind: 'traceidratio', ratio: 0.5, parentBased: false } });
    for (let n = 0; n < 200; n += 1) await requested(few, () => Promise.resolve());
    expect(exporter.getFinishedSpans().length).toBeGreaterThan(50);
    expect(exporter.getFinishedSpans().length).toBeLessThan(150);
  });

  it('say what failed, without a secret', async () => {
    const tracing = open();
    const error = Object.assign(new Error('Cannot reach https://u:hunter2@a.example/x?token=hunter2'), {
      code: 'E1',
    });
    const spans = await requested(tracing, async () => {
      await expect(traced('child', {}, () => Promise.reject(error))).rejects.toBe(error);
      annotate({ place: 'https://u:hunter2@a.example/' });
    });
    expect(spans['child']?.status).toEqual({ code: 2, message: 'Cannot reach https://a.example/x?token=…' });
    expect(spans['child']?.attributes['error.type']).toBe('E1');
    expect(spans['GET x']?.attributes['place']).toBe('https://a.example/');
    expect(spans['GET x']?.status.code).toBe(0);
  });

  it('link to the work that they follow', async () => {
    const tracing = open();
    const first = await requested(tracing, () => Promise.resolve());
    const leader = first['GET x']?.spanContext();
    exporter.reset();
    const second = await requested(tracing, () => {
      follows(leader);
      follows(undefined);
      return Promise.resolve();
    });
    expect(second['GET x']?.links.map(({ context }) => context.spanId)).toEqual([leader?.spanId]);
  });
});

describe('without a request', () => {
  it('nothing is traced, but work of its own', async () => {
    const tracing = open();
    expect(await traced('child', {}, () => Promise.resolve(1))).toBe(1);
    expect(startSpan('child', {})).toBeNull();
    expect(activeSpan()).toBeUndefined();
    expect(traceHeaders(null)).toEqual({});
    const off = await tracedAlone(undefined, 'alone', {}, () =>
      traced('below', {}, () => Promise.resolve(2)),
    );
    expect(off).toBe(2);
    await tracing.flush();
    expect(exporter.getFinishedSpans()).toEqual([]);
    await requested(tracing, () =>
      tracedAlone(tracing.tracer, 'alone', {}, () => traced('below', {}, () => Promise.resolve())),
    );
    const spans = Object.fromEntries(exporter.getFinishedSpans().map((one) => [one.name, one]));
    expect(parentOf(spans['alone'])).toBeUndefined();
    expect(spans['alone']?.spanContext().traceId).not.toBe(spans['GET x']?.spanContext().traceId);
    expect(parentOf(spans['below'])).toBe(idOf(spans['alone']));
  });
});

describe('operations', () => {
  it('are spans with what they are about, and what is not there says so', async () => {
    const tracing = open();
    const storage = tracingOperations(
      {
        description: 'memory:',
        get: (key: string) => Promise.resolve(key === 'there' ? { key } : null),
        put: () => Promise.reject(new Error('full')),
        list: () => [1, 2],
      },
      'storage',
    );
    const spans = await requested(tracing, async () => {
      expect(storage.description).toBe('memory:');
      expect(storage.list()).toEqual([1, 2]);
      expect(await storage.get('there')).toEqual({ key: 'there' });
      expect(await storage.get('gone')).toBeNull();
      await expect(storage.put()).rejects.toThrow('full');
    });
    const gets = exporter.getFinishedSpans().filter(({ name }) => name === 'storage.get');
    expect(gets.map(({ attributes }) => attributes)).toEqual([
      { 'snowcap.key': 'there' },
      { 'snowcap.key': 'gone', 'snowcap.found': false },
    ]);
    expect(spans['storage.put']?.status).toEqual({ code: 2, message: 'full' });
    expect(Object.keys(spans)).not.toContain('storage.list');
    expect(await storage.get('there')).toEqual({ key: 'there' });
  });
});

describe('a request to an upstream', () => {
  const bytes = new Uint8Array(100);
  const request: TransportRequest = {
    method: 'GET',
    url: new URL('https://u:hunter2@a.example:444/nar/x.nar?token=hunter2'),
    what: 'nar',
    headers: { accept: '*/*' },
    headersTimeoutMs: 1,
    idleTimeoutMs: 1,
  };
  let asked: TransportRequest[] = [];
  const transport = (status: number, fail?: Error): Transport =>
    tracingTransport({
      request: (one) => {
        asked.push(one);
        if (fail !== undefined && status === 0) return Promise.reject(fail);
        const body =
          fail === undefined
            ? streamOf(bytes, bytes)
            : (async function* () {
                yield bytes;
                throw fail;
              })();
        return Promise.resolve({ status, headers: {}, body });
      },
      close: () => Promise.resolve(),
    });
  beforeEach(() => {
    asked = [];
  });

  it('is a span until its body is over, and is told of it', async () => {
    const tracing = open();
    const spans = await requested(tracing, async () => {
      const { body } = await transport(200).request(request);
      await tracing.flush();
      expect(exporter.getFinishedSpans()).toEqual([]);
      const iterator = body[Symbol.asyncIterator]();
      while ((await iterator.next()).done !== true);
      await iterator.return?.();
    });
    const span = spans['upstream GET nar'];
    expect(span?.attributes).toEqual({
      'http.request.method': 'GET',
      'http.response.status_code': 200,
      'http.response.body.size': 200,
      'server.address': 'a.example',
      'server.port': 444,
      'url.full': 'https://a.example:444/nar/x.nar',
      'snowcap.what': 'nar',
    });
    expect(asked[0]?.headers).toMatchObject({ accept: '*/*' });
    expect(asked[0]?.headers['traceparent']).toContain(`-${idOf(span)}-01`);
  });

  it('fails with its body, with a status of 5xx and without an answer; not when it is cancelled', async () => {
    const tracing = open();
    const broken = new Error('broken');
    const outcome = async (work: () => Promise<unknown>): Promise<unknown> => {
      exporter.reset();
      const span = (await requested(tracing, () => work().catch(() => undefined)))['upstream GET nar'];
      return [span?.status.code, span?.attributes['snowcap.cancelled']];
    };
    const read = async (of: Transport, signal?: AbortSignal): Promise<void> => {
      const { body } = await of.request(signal === undefined ? request : { ...request, signal });
      for await (const chunk of body) expect(chunk).toHaveLength(100);
    };
    expect(await outcome(() => read(transport(200, broken)))).toEqual([2, undefined]);
    expect(await outcome(() => read(transport(503)))).toEqual([2, undefined]);
    expect(await outcome(() => read(transport(404)))).toEqual([0, undefined]);
    expect(await outcome(() => read(transport(0, broken)))).toEqual([2, undefined]);
    expect(await outcome(() => read(transport(0, broken), AbortSignal.abort()))).toEqual([0, true]);
  });
});

describe('a verifier', () => {
  const verified = { fileHash: 'sha256:x', fileSize: 3, verification: 'nar' } as const;
  it.each([
    ['finishes', () => Promise.resolve(), { 'snowcap.bytes': 3, 'snowcap.verification': 'nar' }, 0],
    ['meets a wrong body', () => Promise.reject(new Error('wrong')), { 'error.type': 'Error' }, 2],
  ])('that %s is a span from its first byte to its end', async (_, push, attributes, status) => {
    const tracing = open();
    const spans = await requested(tracing, async () => {
      const verifier = tracedVerifier('nar/x', {
        push,
        finish: () => Promise.resolve(verified),
        abort: () => undefined,
      });
      await verifier
        .push(new Uint8Array(3))
        .then(() => verifier.finish())
        .catch(() => undefined);
      verifier.abort();
    });
    expect(spans['verify']?.attributes).toEqual({ 'snowcap.key': 'nar/x', ...attributes });
    expect(spans['verify']?.status.code).toBe(status);
  });
});

describe('the queue', () => {
  const end = (tracing: OpenTracing, spans: number): void => {
    for (let n = 0; n < spans; n += 1) tracing.tracer.startSpan('one').end();
  };
  const answering = (results: readonly (Error | 'never' | null)[]): SpanExporter & { batches: number[] } => {
    const batches: number[] = [];
    return {
      batches,
      export(spans, done) {
        const result = results[Math.min(batches.length, results.length - 1)] ?? null;
        batches.push(spans.length);
        if (result === null) done({ code: ExportResultCode.SUCCESS });
        else if (result !== 'never') done({ code: ExportResultCode.FAILED, error: result });
      },
      shutdown: () => Promise.resolve(),
    };
  };

  it('sends after a while, many spans at once', async () => {
    vi.useFakeTimers();
    const collector = answering([null]);
    const tracing = open({ exporter: collector });
    end(tracing, 3);
    await vi.advanceTimersByTimeAsync(4_900);
    expect(collector.batches).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(collector.batches).toEqual([3]);
    end(tracing, 600);
    await vi.advanceTimersByTimeAsync(0);
    expect(collector.batches).toEqual([3, 512, 88]);
    expect(counted).toEqual({ sent: 603 });
    expect(lines).toEqual([]);
  });

  it('is bounded, and drops what finds no room while the collector hangs', async () => {
    vi.useFakeTimers();
    const collector = answering(['never']);
    const tracing = open({ exporter: collector });
    end(tracing, 10_000);
    expect(counted).toEqual({ dropped: 10_000 - 512 - 2048 });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(counted['failed']).toBe(512);
    const closed = tracing.close();
    await vi.advanceTimersByTimeAsync(4_000);
    await closed;
  });

  it('tells once that the collector fails, and once that it takes spans again', async () => {
    vi.useFakeTimers();
    const refused = new Error('connect ECONNREFUSED');
    const collector = answering([refused, refused, refused, null]);
    const tracing = open({ exporter: collector });
    for (let round = 0; round < 5; round += 1) {
      end(tracing, 10);
      await vi.advanceTimersByTimeAsync(5_000);
    }
    expect(counted).toEqual({ failed: 30, sent: 20 });
    const endpoint = 'http://collector.example/v1/traces?key=…';
    expect(lines).toEqual([
      ['Traces are lost: the collector does not take them', { endpoint, error: refused }],
      ['The collector takes traces again', { endpoint }],
    ]);
  });

  it('of an invocation sends by what it is given, when the last span has ended', async () => {
    const deferred: Promise<void>[] = [];
    const tracing = open({ exporting: { kind: 'invocations', defer: (work) => void deferred.push(work) } });
    let finish: () => void = () => undefined;
    const request = traceRequest(tracing.tracer, () => undefined, {});
    const filling = request.run(() =>
      traced('fill', {}, () => new Promise<void>((resolve) => (finish = resolve))),
    );
    request.end('GET nar', {});
    expect(deferred).toEqual([]);
    finish();
    await filling;
    expect(deferred).toHaveLength(1);
    await Promise.all(deferred);
    expect(exporter.getFinishedSpans().map(({ name }) => name)).toEqual(['GET nar', 'fill']);
  });
});
