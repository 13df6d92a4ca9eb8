import { streamOf } from '../stream/byte-stream.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { TransportError } from './transport.ts';

/** Leaves a body that is not read. */
export async function leave(body: ByteStream): Promise<void> {
  await body[Symbol.asyncIterator]().return?.();
}

/** A HEAD has no body; what the transport gives is left nevertheless, so that nothing leaks. */
export function emptied(body: ByteStream): ByteStream {
  void leave(body);
  return streamOf();
}

/** The body, whose length no header vouches for: other than `size` bytes are an error, not an end. */
export function exactly(body: ByteStream, size: number): ByteStream {
  const source = body[Symbol.asyncIterator]();
  const leaveSource = async (): Promise<void> => {
    await source.return?.();
  };
  let rest = size;
  return byteStream(async () => {
    const item = await source.next();
    rest -= item.done === true ? 0 : item.value.length;
    if (rest >= 0 && (item.done !== true || rest === 0)) return item;
    await leaveSource();
    throw new TransportError('broken', `The body is not the ${size} bytes that its Content-Range names`);
  }, leaveSource);
}

/** A body from its two methods. */
export function byteStream(
  next: () => Promise<IteratorResult<Uint8Array>>,
  left: () => Promise<void>,
): ByteStream {
  const iterator: AsyncIterator<Uint8Array> = {
    next,
    async return() {
      await left();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
