import { describe, expect, it } from 'vitest';
import { bufferedResult, MOST_BODY_BYTES } from '../../../src/runtime/lambda/buffered-answer.ts';
import { READ_AHEAD_BYTES, sendStreamed } from '../../../src/runtime/lambda/streamed-answer.ts';
import type { ResponseStream, WithHead } from '../../../src/runtime/lambda/streamed-answer.ts';
import { toReadableStream } from '../../../src/stream/byte-stream.ts';

const CHUNK = new Uint8Array(1024 * 1024).fill(7);

/** An answer of so many chunks, which then ends or throws. */
function answer(
  chunks: number,
  { length, broken = false }: { readonly length?: number; readonly broken?: boolean } = {},
): { readonly response: Response; readonly pulled: () => number; readonly left: () => boolean } {
  let pulled = 0;
  let left = false;
  const body = (async function* () {
    try {
      for (; pulled < chunks;) {
        pulled += 1;
        yield CHUNK;
      }
      if (broken) throw new Error('the upstream broke');
    } finally {
      left = true;
    }
  })();
  const headers = {
    'X-Request-Id': 'id-1',
    ...(length === undefined ? {} : { 'Content-Length': String(length) }),
  };
  const response = new Response(toReadableStream(body), { headers });
  return { response, pulled: () => pulled, left: () => left };
}

/** What a function writes to, which takes each piece when it is told to. */
function target(slow = false): {
  readonly stream: ResponseStream;
  readonly withHead: WithHead;
  readonly seen: { head: unknown; bytes: number; writes: number; ended: boolean };
  take(): void;
} {
  const seen = { head: null as unknown, bytes: 0, writes: 0, ended: false };
  const waiting: (() => void)[] = [];
  const stream: ResponseStream = {
    write(chunk, done) {
      seen.writes += 1;
      seen.bytes += chunk.length;
      if (slow) waiting.push(() => done?.());
      else done?.();
      return !slow;
    },
    end() {
      seen.ended = true;
    },
  };
  return {
    stream,
    seen,
    withHead(given, head) {
      seen.head = head;
      return given;
    },
    take: () => waiting.shift()?.(),
  };
}

describe('a streamed answer', () => {
  it('is written whole, after its head', async () => {
    const { stream, withHead, seen } = target();
    await sendStreamed(answer(8, { length: 8 * CHUNK.length }).response, stream, withHead);
    expect(seen).toMatchObject({ bytes: 8 * CHUNK.length, ended: true });
    expect(seen.head).toEqual({
      statusCode: 200,
      headers: { 'x-request-id': 'id-1', 'content-length': String(8 * CHUNK.length) },
    });
  });

  it('has a head also where it has no body', async () => {
    const { stream, withHead, seen } = target();
    await sendStreamed(new Response(null, { status: 304 }), stream, withHead);
    expect(seen).toMatchObject({ bytes: 0, writes: 1, ended: true });
  });

  it('is 502 in place of a short body that breaks', async () => {
    const { stream, withHead, seen } = target();
    await sendStreamed(answer(2, { broken: true }).response, stream, withHead);
    expect(seen.head).toMatchObject({ statusCode: 502, headers: { 'cache-control': 'no-store' } });
    expect(seen.ended).toBe(true);
  });

  it.each([
    ['less', 1, 2],
    ['more', 2, 1],
  ])('is 502 in place of a short body with %s than was announced', async (_, chunks, announced) => {
    const { stream, withHead, seen } = target();
    await sendStreamed(answer(chunks, { length: announced * CHUNK.length }).response, stream, withHead);
    expect(seen.head).toMatchObject({ statusCode: 502 });
  });

  it('is not ended where a long body breaks', async () => {
    const { stream, withHead, seen } = target();
    const long = answer(8, { broken: true });
    await expect(sendStreamed(long.response, stream, withHead)).rejects.toThrow('the upstream broke');
    expect(seen).toMatchObject({ bytes: 8 * CHUNK.length, ended: false });
  });

  it('is not ended where a long body is shorter than was announced', async () => {
    const { stream, withHead, seen } = target();
    const short = answer(8, { length: 9 * CHUNK.length });
    await expect(sendStreamed(short.response, stream, withHead)).rejects.toThrow(
      `The body has ${8 * CHUNK.length} bytes, ${9 * CHUNK.length} were announced`,
    );
    expect(seen.ended).toBe(false);
  });

  it('begins at once where it is announced as long', async () => {
    const { stream, withHead, seen, take } = target(true);
    const long = answer(20, { length: 20 * CHUNK.length });
    const sent = sendStreamed(long.response, stream, withHead);
    await expect.poll(() => seen.writes).toBe(1);
    expect(long.pulled()).toBeLessThanOrEqual(2);
    while (!seen.ended) {
      take();
      await new Promise((resolve) => setImmediate(resolve));
      // Nothing is read that the other side does not take.
      expect(long.pulled() - seen.writes).toBeLessThanOrEqual(1);
    }
    await sent;
  });

  it('leaves the body where the other side is gone', async () => {
    const { stream, withHead } = target();
    const long = answer(20);
    const gone: ResponseStream = { ...stream, write: (_, done) => (done?.(new Error('gone')), false) };
    await expect(sendStreamed(long.response, gone, withHead)).rejects.toThrow('gone');
    await expect.poll(() => long.left()).toBe(true);
    expect(long.pulled() * CHUNK.length).toBeLessThanOrEqual(READ_AHEAD_BYTES + 2 * CHUNK.length);
  });
});

describe('a buffered answer', () => {
  it('is given in base64', async () => {
    const result = await bufferedResult(new Response(Uint8Array.from([0, 255]), { status: 206 }));
    expect(result).toMatchObject({ statusCode: 206, body: 'AP8=', isBase64Encoded: true });
  });

  it('fits into what Lambda takes, up to its last byte', async () => {
    const result = await bufferedResult(new Response(new Uint8Array(MOST_BODY_BYTES)));
    expect(result.statusCode).toBe(200);
    expect(JSON.stringify(result).length).toBeLessThanOrEqual(6 * 1024 * 1024);
  });

  it('is 501 in place of what does not fit, which is not read to its end', async () => {
    const long = answer(100);
    const result = await bufferedResult(long.response);
    expect(result).toMatchObject({ statusCode: 501, headers: { 'cache-control': 'no-store' } });
    expect(Buffer.from(result.body, 'base64').toString()).toMatch(/^body_too_large: .* \(request id-1\)\n$/);
    expect(long.pulled()).toBeLessThan(7);
    await expect.poll(() => long.left()).toBe(true);
  });

  it('is 502 in place of a body that breaks', async () => {
    const result = await bufferedResult(answer(2, { broken: true }).response);
    expect(result.statusCode).toBe(502);
    expect(Buffer.from(result.body, 'base64').toString()).toMatch(/^broken_body: /);
  });
});
