import { Hono } from 'hono';
import { describe, expect, it } from 'vitest';
import { BodyMismatchError } from '../../../src/cache/errors.ts';
import type { Platform } from '../../../src/platform.ts';
import { answerStream } from '../../../src/server/answer.ts';
import type { AppEnv } from '../../../src/server/env.ts';
import { onError } from '../../../src/server/errors.ts';
import { observe } from '../../../src/server/observe.ts';
import { type ByteStream, streamOf } from '../../../src/stream/byte-stream.ts';
import { silentLogger } from '../../../src/telemetry/logger.ts';
import { noMetrics } from '../../../src/telemetry/metrics.ts';
import { systemClock } from '../../../src/telemetry/system-clock.ts';

const WRONG = new BodyMismatchError('size', 'it is wrong');

interface Line {
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Answers every request with this body, and keeps the lines of the log. */
function serve(
  body: ByteStream,
  headers: Record<string, string> = {},
): { get(): Promise<Response>; lines: Line[] } {
  const lines: Line[] = [];
  const keep = (message: string, fields: Readonly<Record<string, unknown>> = {}): void => {
    lines.push({ message, fields });
  };
  const platform: Platform = {
    clock: systemClock,
    random: () => 0,
    logger: { ...silentLogger, info: keep, warn: keep },
    metrics: noMetrics,
    defer: () => undefined,
    fillsOutliveClients: true,
  };
  const app = new Hono<AppEnv>();
  app.use(observe(platform));
  app.onError(onError);
  app.get('/', (c) => answerStream(c, 200, headers, body));
  return { get: async () => await app.request('/'), lines };
}

async function* failing(...chunks: readonly number[]): AsyncGenerator<Uint8Array, void, void> {
  for (const size of chunks) yield new Uint8Array(size);
  throw WRONG;
}

describe('a streamed answer', () => {
  it('has every byte, and one line in the log when it is over', async () => {
    const served = serve(streamOf(new Uint8Array(3), new Uint8Array(4)), { 'Content-Length': '7' });
    const response = await served.get();
    expect(response.status).toBe(200);
    expect(served.lines).toEqual([]);
    expect(await response.bytes()).toHaveLength(7);
    expect(served.lines).toHaveLength(1);
    expect(served.lines[0]?.fields).toMatchObject({ status: 200, bytes: 7 });
  });

  it('that fails before its first byte is an error with a status', async () => {
    const served = serve(failing(), { 'Content-Length': '7' });
    const response = await served.get();
    expect(response.status).toBe(502);
    expect(response.headers.get('cache-control')).toBe('no-store');
    expect(await response.text()).toMatch(/^body_mismatch: it is wrong/);
    expect(served.lines).toHaveLength(1);
    expect(served.lines[0]?.fields).toMatchObject({ status: 502, outcome: 'error' });
  });

  it('that fails later is broken', async () => {
    const served = serve(failing(3), { 'Content-Length': '7' });
    const response = await served.get();
    expect(response.status).toBe(200);
    await expect(response.bytes()).rejects.toBe(WRONG);
    expect(served.lines.map(({ fields }) => fields['outcome'])).toEqual(['broken']);
  });

  it.each([
    ['too short', [3, 3]],
    ['too long', [3, 5]],
    ['empty', []],
  ])('is broken where its body is %s for its length', async (_, sizes) => {
    const chunks = sizes.map((size) => new Uint8Array(size));
    const served = serve(streamOf(...chunks), { 'Content-Length': '7' });
    const response = await served.get();
    await expect(response.bytes()).rejects.toThrow('7 were announced');
  });

  it('without a length may have any', async () => {
    for (const body of [streamOf(), streamOf(new Uint8Array(5))]) {
      const response = await serve(body).get();
      expect(response.status).toBe(200);
      expect((await response.bytes()).length).toBeOneOf([0, 5]);
    }
  });

  it('that nobody reads to its end frees its source', async () => {
    let freed = 0;
    const source = async function* (): AsyncGenerator<Uint8Array, void, void> {
      try {
        for (;;) yield new Uint8Array(10);
      } finally {
        freed += 1;
      }
    };
    const served = serve(source());
    const response = await served.get();
    const reader = response.body?.getReader();
    await reader?.read();
    await reader?.cancel();
    expect(freed).toBe(1);
    expect(served.lines.map(({ fields }) => fields['outcome'])).toEqual(['client-left']);
  });
});
