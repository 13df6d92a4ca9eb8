import { env } from 'cloudflare:workers';
import type { Compression } from '../../src/nar/decompress.ts';

/**
 * The bytes as the format's own tool encodes them, outside workerd. (workerd's own zstd encoder fails on more than
 * some 100 kB that do not compress.)
 */
export async function encoded(
  bytes: Uint8Array,
  format: Compression,
  options: readonly string[] = [],
): Promise<Uint8Array> {
  const query = new URLSearchParams(options.map((option) => ['option', option]));
  const response = await env.TOOLS.fetch(`http://tools/${format}?${query.toString()}`, {
    method: 'POST',
    body: bytes,
  });
  if (!response.ok) throw new Error(`Cannot encode ${format}: ${await response.text()}`);
  return new Uint8Array(await response.arrayBuffer());
}
