import xzDecoder from '../../build/xz-decoder.wasm';
import packageDescription from '../../package.json' with { type: 'json' };
import { setXzModuleLoader } from '../nar/xz-module.ts';
import type { WorkerContext, WorkerEnv } from './cloudflare/bindings.ts';
import { answerMisconfigured } from './cloudflare/misconfigured.ts';
import { consume, type JobBatch } from './cloudflare/consume.ts';
import { type Isolate, openIsolate } from './cloudflare/isolate.ts';
import { wire } from './cloudflare/wire.ts';

const { version } = packageDescription;

// workerd compiles no WebAssembly from bytes.
setXzModuleLoader(() => Promise.resolve(xzDecoder));

/** An invocation by a cron trigger is ended after 15 minutes. */
const TIME_FOR_A_CRON_MS = 14 * 60 * 1000;

/** The value is kept and not its promise: a request must not await what belongs to another one. */
let isolate: Isolate | null = null;

async function theIsolate(env: WorkerEnv): Promise<Isolate> {
  isolate ??= await openIsolate(env);
  return isolate;
}

/** Snowcap as a Cloudflare Worker. Exports nothing else: workerd takes every export for a handler. */
const worker = {
  async fetch(request: Request, env: WorkerEnv, context: WorkerContext): Promise<Response> {
    try {
      const here = await theIsolate(env);
      const kept = await here.edge.match(request);
      if (kept !== null) return kept;
      const { app, bindings, close } = await wire(here, env, context, version);
      try {
        return here.edge.keep(request, await app.fetch(request, bindings), context);
      } finally {
        context.waitUntil(close());
      }
    } catch (error) {
      return answerMisconfigured(error);
    }
  },

  /** The cron triggers of wrangler.toml. */
  async scheduled(_event: unknown, env: WorkerEnv, context: WorkerContext): Promise<void> {
    const { cache, close } = await wire(await theIsolate(env), env, context, version);
    await cache.run({ kind: 'evict' }, AbortSignal.timeout(TIME_FOR_A_CRON_MS));
    await close();
  },

  async queue(batch: JobBatch, env: WorkerEnv, context: WorkerContext): Promise<void> {
    const { cache, logger, close } = await wire(await theIsolate(env), env, context, version);
    await consume(batch, cache, logger);
    await close();
  },
};

export default worker;
