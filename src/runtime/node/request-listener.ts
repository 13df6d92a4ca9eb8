import { type RequestListener, ServerResponse } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { createApp } from '../../server/app.ts';
import { sendStream } from './send-stream.ts';

/** Answers requests of a `node:http` server by the app; streamed bodies go straight to the connection. */
export function requestListener(app: ReturnType<typeof createApp>): RequestListener {
  const listener = getRequestListener((request, { outgoing }) => {
    if (!(outgoing instanceof ServerResponse)) throw new TypeError('Only HTTP/1 is served here');
    return app.fetch(request, { sendStream: (head, body) => sendStream(outgoing, head, body) });
  });
  // It answers its own errors: the promise says only that it is over.
  return (incoming, outgoing) => void listener(incoming, outgoing);
}
