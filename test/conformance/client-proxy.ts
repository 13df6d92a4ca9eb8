import { createServer, request as sendRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a client asked for, and what it got. */
export interface SeenRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly range: string | undefined;
  status: number | null;
}

/** Stands between a client and a cache: sees every request, and can cut answers. */
export interface ClientProxy {
  /** As `http://127.0.0.1:1234`, without a final slash. */
  readonly url: string;
  readonly seen: readonly SeenRequest[];
  /** Breaks the connection once, after this many bytes of the body of the next answer to a GET of this path. */
  cutOnce(path: string, bytes: number): void;
  close(): Promise<void>;
}

/** @param target base URL of the cache */
export async function startClientProxy(target: string): Promise<ClientProxy> {
  const seen: SeenRequest[] = [];
  let cut: { readonly path: string; readonly bytes: number } | null = null;

  const forward = (request: IncomingMessage, response: ServerResponse): void => {
    const { method = 'GET', url = '/', headers } = request;
    const entry: SeenRequest = { method, path: url, range: headers.range, status: null };
    seen.push(entry);
    let left = Number.POSITIVE_INFINITY;
    if (cut !== null && method === 'GET' && cut.path === url) {
      left = cut.bytes;
      cut = null;
    }
    const onward = sendRequest(new URL(url, target), { method, headers }, (answer) => {
      entry.status = answer.statusCode ?? null;
      response.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.on('data', (chunk: Buffer) => {
        const part = chunk.subarray(0, left);
        left -= part.length;
        if (!response.write(part, left === 0 ? () => response.destroy() : undefined)) {
          answer.pause();
          response.once('drain', () => answer.resume());
        }
      });
      answer.on('end', () => response.end());
      answer.on('error', () => response.destroy());
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  };

  const server = createServer(forward);
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    cutOnce(path, bytes) {
      cut = { path, bytes };
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
