import { type IncomingHttpHeaders, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a client saw of one answer. */
export interface Download {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly bytes: Buffer;
  /** `clean`: the client believes that it has the whole. `broken`: it knows that it has not. */
  readonly ended: 'clean' | 'broken';
  /** Milliseconds of `performance.now()`; null where no body byte came. */
  readonly firstByteAt: number | null;
}

export interface DownloadOptions {
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  /** Reads so many bytes a second at most. */
  readonly bytesPerSecond?: number;
  /** Leaves, with its connection, after this many bytes; what was read until then is the result. */
  readonly leaveAfter?: number;
  /** Called with the bytes read so far. */
  readonly onProgress?: (bytes: number) => void;
  /** Takes each chunk, which is then not kept: `bytes` stays empty. For bodies too large for memory. */
  readonly onChunk?: (chunk: Buffer) => void;
}

/**
 * One request over a connection of its own, seen as a client sees it, without the retries and the errors of
 * `fetch`. @throws Error where not even the head of an answer came
 */
export function download(url: string, options: DownloadOptions = {}): Promise<Download> {
  const {
    method = 'GET',
    headers = {},
    bytesPerSecond,
    leaveAfter = Infinity,
    onProgress,
    onChunk,
  } = options;
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { method, headers, agent: false });
    outgoing.once('error', reject);
    outgoing.once('response', (response) => {
      outgoing.off('error', reject);
      outgoing.on('error', () => undefined);
      const chunks: Buffer[] = [];
      let size = 0;
      let firstByteAt: number | null = null;
      const read = async (): Promise<Download['ended']> => {
        try {
          for await (const piece of response as AsyncIterable<Buffer>) {
            const chunk: Buffer = piece;
            firstByteAt ??= performance.now();
            if (onChunk === undefined) chunks.push(chunk);
            else onChunk(chunk);
            size += chunk.length;
            onProgress?.(size);
            if (size >= leaveAfter) return 'broken';
            if (bytesPerSecond !== undefined) await sleep((chunk.length / bytesPerSecond) * 1000);
          }
          return response.complete ? 'clean' : 'broken';
        } catch {
          return 'broken';
        } finally {
          outgoing.destroy();
        }
      };
      void read().then((ended) =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          bytes: Buffer.concat(chunks),
          ended,
          firstByteAt,
        }),
      );
    });
    outgoing.end();
  });
}
