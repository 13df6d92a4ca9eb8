/** A compiled WebAssembly module; opaque, since its type belongs to no runtime-neutral library. */
export type WasmModule = object;

/** Where the compiled xz decoder comes from. Called once; its answer is kept. */
export type XzModuleLoader = () => Promise<WasmModule>;

let load: XzModuleLoader = async () => {
  const { compileEmbeddedXz } = await import('./xz-module-node.ts');
  return compileEmbeddedXz();
};
let loading: Promise<WasmModule> | undefined;

/**
 * Sets where the xz decoder comes from, for runtimes that import WebAssembly as a module rather than
 * compile it from bytes. To be called by the entry, before the first stream.
 */
export function setXzModuleLoader(loader: XzModuleLoader): void {
  load = loader;
  loading = undefined;
}

/**
 * The compiled xz decoder: the module of the npm package xz-decompress.
 *
 * @throws what the loader throws; the next call then tries again
 */
export function xzModule(): Promise<WasmModule> {
  loading ??= load().catch((error: unknown) => {
    loading = undefined;
    throw error;
  });
  return loading;
}
