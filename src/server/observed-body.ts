import { type ByteStream, type FillableStream, isFillable } from '../stream/byte-stream.ts';
import type { RequestNote } from './observe.ts';

/** The same body, which tells the note what becomes of it: the line of the log is written when it is over. */
export function observedBody(body: ByteStream, note: RequestNote, status: number): ByteStream {
  const source = body[Symbol.asyncIterator]();
  const iterator: AsyncIterator<Uint8Array, undefined> = {
    async next() {
      try {
        const result = await source.next();
        if (result.done !== true) {
          note.bytes += result.value.length;
          return result;
        }
      } catch (error) {
        note.outcome = 'broken';
        note.error = error;
        note.end(status);
        throw error;
      }
      note.end(status);
      return { done: true, value: undefined };
    },
    async return() {
      note.left(status);
      await source.return?.();
      return { done: true, value: undefined };
    },
  };
  const observed: ByteStream = { [Symbol.asyncIterator]: () => iterator };
  return isFillable(body) ? { ...observed, ...observedFilling(body, note, status) } : observed;
}

/** The same for a body that is read into its reader's buffer. */
function observedFilling(
  body: FillableStream,
  note: RequestNote,
  status: number,
): Pick<FillableStream, 'readInto' | 'leave'> {
  const count = (bytes: number): number => {
    note.bytes += bytes;
    if (bytes === 0) note.end(status);
    return bytes;
  };
  const broken = (error: unknown): never => {
    note.outcome = 'broken';
    note.error = error;
    note.end(status);
    throw error;
  };
  return {
    readInto(target) {
      const bytes = body.readInto(target);
      return typeof bytes === 'number' ? count(bytes) : bytes.then(count, broken);
    },
    async leave() {
      note.left(status);
      await body.leave();
    },
  };
}
