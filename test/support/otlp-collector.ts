import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { until } from './test-cache.ts';

/** A span as a collector gets it. */
export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  /** Empty where it is the first of its trace. */
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: 'internal' | 'server' | 'client' | 'other';
  /** Of the process that made it: `service.name` of the resource. */
  readonly service: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly linkedSpanIds: readonly string[];
  readonly failed: boolean;
  /** Nanoseconds since the epoch. */
  readonly start: bigint;
  readonly end: bigint;
}

/** A stand-in for a collector of traces: OTLP over HTTP, as JSON. */
export interface OtlpCollector {
  /** As `OTEL_EXPORTER_OTLP_ENDPOINT` takes it. */
  readonly url: string;
  readonly spans: readonly CollectedSpan[];
  /** What was posted, as it came, with its headers. */
  readonly posts: readonly { readonly headers: IncomingHttpHeaders; readonly body: string }[];
  /** How further posts are answered. Default 200 with an empty object. */
  answer(by: (response: ServerResponse) => void): void;
  /** The spans of a trace, when all that `complete` wants are there. @throws Error after 15 seconds */
  trace(
    traceId: string,
    complete: (spans: readonly CollectedSpan[]) => boolean,
  ): Promise<readonly CollectedSpan[]>;
  close(): Promise<void>;
}

type Json = Readonly<Record<string, unknown>>;

export async function startOtlpCollector(): Promise<OtlpCollector> {
  const spans: CollectedSpan[] = [];
  const posts: { headers: IncomingHttpHeaders; body: string }[] = [];
  let answer = (response: ServerResponse): void => void response.end('{}');
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      posts.push({ headers: request.headers, body });
      if (request.url !== '/v1/traces' || request.headers['content-type'] !== 'application/json') {
        response.writeHead(404).end();
        return;
      }
      spans.push(...spansOf(JSON.parse(body)));
      answer(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    spans,
    posts,
    answer(by) {
      answer = by;
    },
    async trace(traceId, complete) {
      const found = (): readonly CollectedSpan[] => spans.filter((span) => span.traceId === traceId);
      await until(
        () => complete(found()),
        () => `trace ${traceId} has ${JSON.stringify(found().map((span) => [span.service, span.name]))}`,
        15_000,
      );
      return found();
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const KINDS: Readonly<Record<number, CollectedSpan['kind']>> = { 1: 'internal', 2: 'server', 3: 'client' };

/** https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, 64-bit integers as texts. */
function spansOf(request: unknown): CollectedSpan[] {
  return listOf(request, 'resourceSpans').flatMap((resourceSpans) => {
    const service = attributesOf(resourceSpans['resource'])['service.name'];
    return listOf(resourceSpans, 'scopeSpans')
      .flatMap((scopeSpans) => listOf(scopeSpans, 'spans'))
      .map((span): CollectedSpan => ({
        traceId: hex(span['traceId'], 32),
        spanId: hex(span['spanId'], 16),
        parentSpanId: hex(span['parentSpanId'] ?? '', 16),
        name: String(span['name']),
        kind: KINDS[Number(span['kind'])] ?? 'other',
        service: String(service),
        attributes: attributesOf(span),
        linkedSpanIds: listOf(span, 'links').map((link) => hex(link['spanId'], 16)),
        failed: (span['status'] as Json | undefined)?.['code'] === 2,
        start: BigInt(String(span['startTimeUnixNano'])),
        end: BigInt(String(span['endTimeUnixNano'])),
      }));
  });
}

function hex(value: unknown, length: number): string {
  if (value === '' && length === 16) return '';
  if (typeof value !== 'string' || !new RegExp(`^[0-9a-f]{${length}}$`).test(value)) {
    throw new Error(`Expected an id of ${length} hex digits: ${JSON.stringify(value)}`);
  }
  return value;
}

function listOf(of: unknown, name: string): readonly Json[] {
  const list: unknown = (of as Json)[name] ?? [];
  if (!Array.isArray(list)) throw new Error(`Expected a list of ${name}`);
  return list as Json[];
}

function attributesOf(of: unknown): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    listOf(of, 'attributes').map(({ key, value }) => {
      const [[kind, raw] = ['none', null]] = Object.entries(value as Json);
      return [String(key), kind === 'intValue' ? Number(raw) : raw];
    }),
  );
}
