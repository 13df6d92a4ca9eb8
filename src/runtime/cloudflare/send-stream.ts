import type { Platform } from '../../platform.ts';
import type { Bindings } from '../../server/env.ts';
import { toReadableStream, withCleanup } from '../../stream/byte-stream.ts';

/** Sends streamed bodies, and counts each as deferred work until it is over: what it reads from is closed after that. */
export function sendStreamOf(platform: Pick<Platform, 'defer'>): NonNullable<Bindings['sendStream']> {
  return (head, body) => {
    const over = Promise.withResolvers<void>();
    platform.defer('send a body', over.promise);
    const length = head.headers['Content-Length'];
    const watched = withCleanup(body, () => over.resolve());
    const stream = toReadableStream(watched, length === undefined ? undefined : Number(length));
    return Promise.resolve(new Response(stream, head));
  };
}
