import { isCompression } from '../../src/nar/decompress.ts';
import { encode } from '../unit/nar/fixtures.ts';

/**
 * The encoders, which cannot be run inside workerd: `POST /<format>?option=-9` answers the body encoded. Runs in
 * the process of vitest, behind a binding.
 */
export async function runTool(request: Request): Promise<Response> {
  const url = new URL(request.url);
  const format = url.pathname.slice(1);
  if (!isCompression(format)) return new Response(`No such format: ${format}`, { status: 404 });
  const bytes = new Uint8Array(await request.arrayBuffer());
  return new Response(new Uint8Array(encode(bytes, format, url.searchParams.getAll('option'))));
}
