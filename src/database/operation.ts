import { MetadataError } from './metadata-store.ts';

/** Runs an operation; whatever it throws becomes a `MetadataError` that names it, as `Index operation getPath`. */
export async function inOperation<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : 'unknown reason';
    throw new MetadataError(`${what} failed: ${why}`, { cause });
  }
}
