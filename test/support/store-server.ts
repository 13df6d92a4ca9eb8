import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { BlobStore } from '../../src/storage/blob-store.ts';
import { streamOf } from '../../src/stream/byte-stream.ts';
import { parseRange } from '../../src/server/conditions.ts';
import { withMethods } from './replaced.ts';

/** A store that clients can reach: its download URLs lead to a server of its own. */
export interface StoreServer {
  /** The same store with download URLs. */
  serving(store: BlobStore): BlobStore;
  /** As `http://127.0.0.1:1234`. */
  readonly url: string;
  /** The requests that came, each as its method, path and Range. */
  readonly requests: readonly string[];
  /** Seconds that each URL was asked to work. */
  readonly lifetimes: readonly number[];
  close(): Promise<void>;
}

/** The query of the URLs, in the place of a signature. */
const SIGNATURE = 'X-Amz-Signature=0123456789abcdef';

export async function startStoreServer(): Promise<StoreServer> {
  const requests: string[] = [];
  const lifetimes: number[] = [];
  let behind: BlobStore | null = null;
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://store');
    const { range: header } = request.headers;
    requests.push([request.method, url.pathname, header].filter((part) => part !== undefined).join(' '));
    const range = parseRange(header);
    const answer = async (): Promise<void> => {
      if (url.search !== `?${SIGNATURE}`) return void response.writeHead(403).end();
      const stored = await behind?.get(url.pathname.slice(1), range === null ? {} : { range });
      if (stored?.kind !== 'found') return void response.writeHead(stored === null ? 404 : 416).end();
      const { start, end, size, body } = stored;
      response.writeHead(range === null ? 200 : 206, {
        'Content-Length': end - start + 1,
        ...(range === null ? {} : { 'Content-Range': `bytes ${start}-${end}/${size}` }),
      });
      for await (const chunk of body.kind === 'bytes' ? streamOf(body.bytes) : body.stream)
        response.write(chunk);
      response.end();
    };
    void answer().catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    requests,
    lifetimes,
    serving(store) {
      behind = store;
      return withMethods(store, {
        createDownloadUrl(key, { expiresInSeconds }) {
          lifetimes.push(expiresInSeconds);
          return Promise.resolve(`${url}/${key}?${SIGNATURE}`);
        },
      });
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
