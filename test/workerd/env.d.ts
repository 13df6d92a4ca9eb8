/** The bindings that vitest.config.ts gives to the suite. */
declare namespace Cloudflare {
  interface Env {
    readonly BUCKET: R2Bucket;
    readonly DB: D1Database;
    /** See test/support/workerd-tools.ts. */
    readonly TOOLS: Fetcher;
  }
}

declare module '*.wasm' {
  const module: WebAssembly.Module;
  export default module;
}
