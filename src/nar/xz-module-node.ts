import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { WasmModule } from './xz-module.ts';

/** What is used of the global; Node's types do not declare it. */
declare const WebAssembly: {
  compile(bytes: Uint8Array): Promise<WasmModule>;
};

const EMBEDDED = /"data:application\/wasm;base64,([A-Za-z0-9+/=]+)"/;

/**
 * The decoder out of the installed package, which carries it as a data URL in its bundle and exports only a stream of
 * its own that decodes one input at a time.
 *
 * For Node: reads a file.
 *
 * @throws Error if the package is missing or does not have the module where it used to
 */
export async function embeddedXz(): Promise<Uint8Array> {
  const bundle = await readFile(fileURLToPath(import.meta.resolve('xz-decompress')), 'utf8');
  const base64 = EMBEDDED.exec(bundle)?.[1];
  if (base64 === undefined) {
    throw new Error('Cannot load the xz decoder: the package xz-decompress does not embed it as a data URL');
  }
  return Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
}

/** The same, compiled. */
export async function compileEmbeddedXz(): Promise<WasmModule> {
  return WebAssembly.compile(await embeddedXz());
}
