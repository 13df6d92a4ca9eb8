import { BannedPathError, MetadataError } from './metadata-store.ts';

/** Runs an operation; whatever it throws becomes a `MetadataError` that names it, as `Index operation getPath`, but for a ban, which is an answer. */
export async function inOperation<Result>(what: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof BannedPathError) throw cause;
    const why = cause instanceof Error ? cause.message : 'unknown reason';
    throw new MetadataError(`${what} failed: ${why}`, { cause });
  }
}
