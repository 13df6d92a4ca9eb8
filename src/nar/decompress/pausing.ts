type Read = (this: void, size: number) => void;

/**
 * Lets the decoder pause where its output is not taken, as it does on Node.
 *
 * When its buffer is full, node:zlib puts another `_read` on the stream, which goes on decoding and then calls the
 * `_read` that is there by then: on Node the first one again, since decoding is asynchronous. Brotli in
 * workerd decodes within the call and puts the next such `_read` there, and so the whole output of an input, however
 * large, comes at once. Here such a call within a call waits until the stream is read.
 */
export function pausing<Decoder extends { _read(size: number): void }>(decoder: Decoder): Decoder {
  const first: Read = decoder._read.bind(decoder);
  const guarded = new WeakSet<Read>();
  let current = first;
  let reading = false;

  function guard(read: Read): Read {
    return (size) => {
      if (reading) return;
      reading = true;
      try {
        read(size);
      } finally {
        reading = false;
      }
    };
  }

  Object.defineProperty(decoder, '_read', {
    get: () => current,
    set(read: Read) {
      if (read === first || guarded.has(read)) {
        current = read;
        return;
      }
      current = guard(read);
      guarded.add(current);
    },
  });
  return decoder;
}
