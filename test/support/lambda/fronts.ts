import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { InvocationAnswer } from './environment.ts';
import { BUFFERED_LIMIT, parseResult, STREAMED_LIMIT } from './events.ts';

export interface FrontOptions {
  /** Bytes a second that a streamed answer flows with from its first byte on. Real: unlimited up to 6 MB, then 2 MB/s. */
  readonly bytesPerSecond?: number;
  /**
   * What a client sees of a stream that its function breaks off, which AWS does not document: a connection that breaks,
   * or (the worse) a clean end.
   */
  readonly brokenStreams?: 'break' | 'end';
}

const DELIMITER = Buffer.alloc(8);
/** Of the hop to the client, which the front speaks itself. */
const OWN_HEADERS = new Set(['connection', 'transfer-encoding', 'keep-alive', 'upgrade', 'date']);

/**
 * A function URL whose invoke mode is RESPONSE_STREAM. The client gets no Content-Length: the front renames it, and sends
 * the body in chunks.
 */
export function functionUrl(outgoing: ServerResponse, options: FrontOptions): InvocationAnswer {
  const { bytesPerSecond, brokenStreams = 'break' } = options;
  let metadata: Buffer | null = Buffer.alloc(0);
  let sent = 0;
  const begun = performance.now();

  async function send(bytes: Buffer): Promise<void> {
    const part = bytes.subarray(0, Math.max(0, STREAMED_LIMIT - sent));
    sent += bytes.length;
    if (part.length === 0 || outgoing.destroyed) return;
    // What the client does not take is not taken from the function either.
    await new Promise<void>((resolve) => outgoing.write(part, () => resolve()));
    if (bytesPerSecond === undefined) return;
    await sleep(Math.max(0, (sent / bytesPerSecond) * 1000 - (performance.now() - begun)));
  }

  return {
    begin(contentType) {
      if (contentType === 'application/vnd.awslambda.http-integration-response') return;
      metadata = null;
      outgoing.writeHead(200, { 'Content-Type': contentType });
    },
    async chunk(bytes) {
      if (metadata === null) return await send(bytes);
      metadata = Buffer.concat([metadata, bytes]);
      const end = metadata.indexOf(DELIMITER);
      if (end === -1) return;
      const { statusCode, headers } = parseResult(metadata.subarray(0, end).toString());
      const rest = metadata.subarray(end + DELIMITER.length);
      metadata = null;
      for (const [name, value] of Object.entries(headers)) {
        if (OWN_HEADERS.has(name.toLowerCase())) continue;
        const remapped = name.toLowerCase() === 'content-length' ? 'x-amzn-remapped-content-length' : name;
        outgoing.setHeader(remapped, value);
      }
      outgoing.writeHead(statusCode);
      outgoing.flushHeaders();
      await send(rest);
    },
    end({ kind }) {
      if (!outgoing.headersSent) outgoing.writeHead(502).end('Internal Server Error');
      else if (kind === 'done' && sent <= STREAMED_LIMIT) outgoing.end();
      else if (brokenStreams === 'end') outgoing.end();
      else outgoing.destroy();
    },
  };
}

/** An HTTP API (API Gateway v2) with payload format 2.0: it answers when it has the whole, of 6 MB at most. */
export function httpApi(outgoing: ServerResponse): InvocationAnswer {
  const bodiless = (status: number): boolean => outgoing.req.method === 'HEAD' || status === 304;
  const pieces: Buffer[] = [];
  const fail = (): void => {
    outgoing.writeHead(500, { 'Content-Type': 'application/json' });
    outgoing.end('{"message":"Internal Server Error"}');
  };
  return {
    begin: () => undefined,
    chunk: async (bytes) => void pieces.push(bytes),
    end({ kind }) {
      const payload = Buffer.concat(pieces);
      if (kind === 'failed' || payload.length > BUFFERED_LIMIT) return fail();
      const { statusCode, headers, body, isBase64Encoded } = parseResult(payload.toString());
      const bytes = Buffer.from(body, isBase64Encoded ? 'base64' : 'utf8');
      for (const [name, value] of Object.entries(headers)) {
        const lower = name.toLowerCase();
        if (!OWN_HEADERS.has(lower) && lower !== 'content-length') outgoing.setHeader(name, value);
      }
      outgoing.writeHead(statusCode, bodiless(statusCode) ? {} : { 'Content-Length': bytes.length });
      outgoing.end(bytes);
    },
  };
}
