import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import type { BlobStore } from '../../src/storage/blob-store.ts';

/** A bucket that anybody may read. */
export interface PublicBucket {
  /** As `http://127.0.0.1:1234`, without a final slash. */
  readonly url: string;
  /** Methods and paths asked for. */
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/**
 * What a bucket with public reads looks like to a plain client: every GET and HEAD is answered with what the
 * S3 server itself answers to a presigned GET of that key. Nothing of Snowcap has a hand in the bytes.
 */
export async function startPublicBucket(store: BlobStore): Promise<PublicBucket> {
  const requests: string[] = [];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    requests.push(`${request.method} ${request.url}`);
    const key = (request.url ?? '/').slice(1);
    const url = await store.createDownloadUrl?.(key, { expiresInSeconds: 60 });
    const headers = request.headers.range === undefined ? {} : { Range: request.headers.range };
    const found = await fetch(url ?? '', { headers });
    const length = found.headers.get('content-length');
    response.writeHead(found.status, length === null ? {} : { 'Content-Length': length });
    if (request.method === 'HEAD' || found.body === null) {
      await found.body?.cancel();
      response.end();
      return;
    }
    Readable.fromWeb(found.body).pipe(response);
  };
  const server = createServer((request, response) => {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.writeHead(405).end();
      return;
    }
    answer(request, response).catch(() => {
      response.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
