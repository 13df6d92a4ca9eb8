import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { constants } from 'node:fs';
import { open, unlink } from 'node:fs/promises';
import type { FileAccess } from './file-source.ts';
import type { S3StoreOptions } from './options.ts';

/** Milliseconds for a TCP and TLS handshake. */
const CONNECT_TIMEOUT = 5_000;

/**
 * What Node gives to an S3 store: `createS3Store({ ...s3ForNode(), bucket, … })`.
 *
 * Connections are kept, and there is no greatest number of them: each body that a client reads slowly holds
 * one, and with the SDK's 50 the fifty-first request would wait for a client. What bounds them is the memory
 * of transfers.
 */
export function s3ForNode(): Pick<S3StoreOptions, 'requestHandler' | 'files'> {
  const agent = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: 64 };
  return {
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT,
      // Without it a time-out is but a warning on the console.
      throwOnRequestTimeout: true,
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent(agent),
    },
    files: localFiles,
  };
}

const localFiles: FileAccess = {
  async open(path) {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new Error(`Not a regular file: ${path}`);
      return {
        size: stat.size,
        readInto: async (target, position) => (await file.read(target, 0, target.length, position)).bytesRead,
        close: () => file.close(),
      };
    } catch (error) {
      await file.close();
      throw error;
    }
  },

  async remove(path) {
    try {
      await unlink(path);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  },
};
