import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { convertV4MiniflareOptions, Miniflare } from 'miniflare';

/** A Worker in a real workerd, on a port of 127.0.0.1. */
export interface RunningWorker {
  readonly url: string;
  close(): Promise<void>;
}

/** As in wrangler.toml. */
const COMPATIBILITY = {
  compatibilityDate: '2026-11-02',
  compatibilityFlags: ['nodejs_compat', 'enable_request_signal'],
};

/**
 * Bundles a file that needs nothing but what workerd has, and runs it.
 *
 * @param entry its URL, as `new URL('./x.worker.ts', import.meta.url)`
 */
export async function startWorker(entry: URL): Promise<RunningWorker> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(entry)],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2024',
    external: ['node:*'],
    logLevel: 'silent',
  });
  const [script] = outputFiles;
  if (script === undefined) throw new Error(`Cannot bundle ${entry.href}`);
  const workerd = new Miniflare(
    convertV4MiniflareOptions({
      modules: true,
      script: script.text,
      ...COMPATIBILITY,
      host: '127.0.0.1',
      cf: false,
    }),
  );
  const { origin } = await workerd.ready;
  return { url: origin, close: () => workerd.dispose() };
}
