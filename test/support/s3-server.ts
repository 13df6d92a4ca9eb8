import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Log, LogLevel, Miniflare } from 'miniflare';

/**
 * A server that speaks the API of S3, with what a client needs to reach it. Each test takes a prefix of its
 * own in the bucket, so that one server does for a whole suite.
 */
export interface S3Server {
  /** As `http://127.0.0.1:1234/path`, without a final slash. Path-style. */
  readonly endpoint: string;
  readonly region: string;
  readonly bucket: string;
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string };
  /**
   * The multipart uploads under way below a prefix: what would be left to pay for. As the server's own
   * storage has them, where its API cannot say it.
   *
   * @returns their keys, sorted, in full
   */
  openUploads(prefix: string): Promise<readonly string[]>;
  close(): Promise<void>;
}

const BUCKET = 'snowcap-test';

/**
 * Starts the S3 endpoint of the R2 simulator that comes with wrangler: in workerd, on a free port of
 * 127.0.0.1, in a temporary directory. Takes a quarter of a second. Close it, or it keeps the process alive.
 *
 * It checks signatures, of presigned URLs too, payload hashes, `Content-MD5`, and `If-None-Match` on
 * PutObject. What it does not do:
 * - session tokens are refused (400),
 * - `If-None-Match` on CompleteMultipartUpload is ignored,
 * - ListMultipartUploads and ListParts are answered with 501,
 * - there is no virtual-host style, and no bucket but `bucket`.
 */
export async function startS3Server(): Promise<S3Server> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-s3-'));
  const credentials = { accessKeyId: 'local-access-key', secretAccessKey: 'local-secret-key' };
  const server = new Miniflare({
    host: '127.0.0.1',
    port: 0,
    log: new Log(LogLevel.NONE),
    // A client that leaves is none of its faults.
    handleStructuredLogs: () => undefined,
    telemetry: { enabled: false },
    resourcePersistencePath: directory,
    workers: [
      {
        config: {
          name: 's3',
          compatibilityDate: '2026-01-01',
          // The Worker is never asked: it is there for its bucket.
          manifest: {
            mainModule: 'index.js',
            modules: {
              'index.js': { type: 'esm', contents: 'export default { fetch: () => new Response(null) };' },
            },
          },
          env: {
            BUCKET: { type: 'r2', name: BUCKET, dev: { experimentalS3Credentials: credentials } },
          },
        },
      },
    ],
  });
  const close = async (): Promise<void> => {
    await server.dispose();
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const url = await server.ready;
    return {
      endpoint: new URL('/cdn-cgi/local/r2/s3', url).href,
      region: 'auto',
      bucket: BUCKET,
      credentials,
      openUploads: (prefix) => openUploadsIn(directory, prefix),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** `_mf_multipart_uploads.state` of an upload that is neither completed nor aborted. */
const IN_PROGRESS = 0;

async function openUploadsIn(directory: string, prefix: string): Promise<readonly string[]> {
  const files = await readdir(directory, { recursive: true });
  const keys: string[] = [];
  for (const file of files.filter((name) => name.endsWith('.sqlite'))) {
    const database = new DatabaseSync(join(directory, file), { readOnly: true });
    try {
      const tables = database
        .prepare(`SELECT name FROM sqlite_master WHERE name = '_mf_multipart_uploads'`)
        .all();
      if (tables.length === 0) continue;
      const rows = database.prepare('SELECT key FROM _mf_multipart_uploads WHERE state = ?').all(IN_PROGRESS);
      keys.push(...rows.map(({ key }) => String(key)));
    } finally {
      database.close();
    }
  }
  return keys.filter((key) => key.startsWith(prefix)).sort();
}
