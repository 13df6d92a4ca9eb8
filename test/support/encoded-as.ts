import { execFileSync } from 'node:child_process';
import { brotliCompressSync, constants, createZstdCompress } from 'node:zlib';
import { sha256, type SignedPath } from './signed-path.ts';
import type { UpstreamCompression } from './upstream-cache.ts';

/** The path with another body, whose FileHash and FileSize its narinfo gives rightly where it gives them. */
export function encodedAs(path: SignedPath, body: Uint8Array): SignedPath {
  const narInfo = path.narInfo
    .replace(`FileHash: ${path.fileHash}`, `FileHash: ${sha256(body)}`)
    .replace(`FileSize: ${path.body.length}`, `FileSize: ${body.length}`);
  return { ...path, body, fileHash: sha256(body), narInfo };
}

/** The bytes in a zstd frame whose window takes `2 ** windowLog` bytes. */
export async function zstdWithWindow(bytes: Uint8Array, windowLog: number): Promise<Uint8Array> {
  const encoder = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } });
  // In two steps, or the frame would have the size of its contents for a window.
  encoder.write(bytes.subarray(0, 1000));
  encoder.end(bytes.subarray(1000));
  return Buffer.concat(await encoder.toArray());
}

/** The bytes in an xz stream whose check (SHA-256) is not supported here. */
export function xzWithOtherCheck(bytes: Uint8Array): Uint8Array {
  const tool: UpstreamCompression = 'xz';
  return execFileSync(tool, ['-c', '-1', '--check=sha256'], { input: bytes, maxBuffer: 2 ** 30 });
}

/** The bytes in a brotli stream with a large window, which RFC 7932 does not know. */
export function brotliWithLargeWindow(bytes: Uint8Array): Uint8Array {
  const params = {
    [constants.BROTLI_PARAM_LARGE_WINDOW]: 1,
    [constants.BROTLI_PARAM_LGWIN]: 28,
    [constants.BROTLI_PARAM_QUALITY]: 5,
  };
  return brotliCompressSync(bytes, { params });
}
