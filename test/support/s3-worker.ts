// A Worker over the S3 driver, bundled and run in workerd by the test of that name. Each request does one
// thing and says what came of it.
import { createHash } from 'node:crypto';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import type { S3StoreOptions } from '../../src/storage/s3/options.ts';
import type { ByteStream } from '../../src/stream/byte-stream.ts';

interface Env {
  readonly OPTIONS: S3StoreOptions;
}

/** Bytes of a piece of the bodies that `put` makes. */
const PIECE = 1024 * 1024;

/** Pieces that all differ. */
async function* body(pieces: number): ByteStream {
  for (let n = 0; n < pieces; n++) yield new Uint8Array(PIECE).fill(n + 1);
}

async function digest(stream: ByteStream): Promise<{ readonly sha256: string; readonly size: number }> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { sha256: hash.digest('hex'), size };
}

const worker = {
  async fetch(request: Request, env: Env): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    const store = createS3Store(env.OPTIONS);
    const key = searchParams.get('key') ?? '';
    const pieces = Number(searchParams.get('pieces'));
    const run = async (): Promise<unknown> => {
      switch (pathname) {
        case '/put':
          return store.put(key, { kind: 'stream', stream: body(pieces) }, { ifAbsent: true });
        case '/expected':
          return digest(body(pieces));
        case '/get': {
          const blob = await store.get(key);
          if (blob?.kind !== 'found') return blob;
          if (blob.body.kind === 'stream') return digest(blob.body.stream);
          return { text: new TextDecoder().decode(blob.body.bytes) };
        }
        case '/put-text':
          return store.put(key, { kind: 'bytes', bytes: new TextEncoder().encode('text') });
        case '/left': {
          const blob = await store.get(key);
          if (blob?.kind !== 'found' || blob.body.kind !== 'stream') return blob;
          for await (const chunk of blob.body.stream) return { first: chunk.length > 0 };
          return null;
        }
        case '/list': {
          const keys: string[] = [];
          for await (const info of store.list('')) keys.push(info.key);
          return keys;
        }
        case '/delete':
          await store.delete([key]);
          return store.head(key);
        case '/url':
          return store.createDownloadUrl?.(key, { expiresInSeconds: 60 });
        case '/ping':
          return store.ping();
        default:
          throw new Error(`No ${pathname}`);
      }
    };
    try {
      return Response.json({ result: await run() });
    } catch (error) {
      return Response.json({ error: String(error) });
    }
  },
};

// oxlint-disable-next-line import/no-default-export -- what workerd looks for
export default worker;
