import { MetadataError } from '../database/metadata-store.ts';
import { StorageError } from '../storage/blob-store.ts';
import { TransportError } from '../upstream/transport.ts';
import type { UpstreamFault } from '../upstream/upstreams.ts';
import { CacheError } from './errors.ts';

/** The error that clients see, for whatever went wrong below. Unknown errors pass as they are: they are our own faults. */
export function faultOf(error: unknown): CacheError {
  if (error instanceof CacheError) return error;
  if (isUpstreamFault(error)) return ofUpstream(error);
  if (error instanceof TransportError) {
    const timeout = error.kind === 'timeout';
    return new CacheError(
      timeout ? 'timeout' : 'fault',
      timeout ? 'upstream_timeout' : 'upstream_unreachable',
      error.message,
      { cause: error },
    );
  }
  if (error instanceof StorageError) {
    return new CacheError('fault', 'storage_unavailable', 'The storage is at fault', { cause: error });
  }
  if (error instanceof MetadataError) {
    return new CacheError('fault', 'index_unavailable', 'The index is at fault', { cause: error });
  }
  return new CacheError('fault', 'internal_error', 'Something unforeseen went wrong', { cause: error });
}

function ofUpstream(fault: UpstreamFault): CacheError {
  switch (fault.reason) {
    case 'timeout':
      return new CacheError('timeout', 'upstream_timeout', fault.message);
    case 'invalid-answer':
      return new CacheError('fault', 'upstream_invalid', fault.message);
    case 'unreachable':
    case 'status':
    case 'circuit-open':
      return new CacheError('fault', 'upstream_unreachable', fault.message);
  }
}

function isUpstreamFault(error: unknown): error is UpstreamFault {
  return typeof error === 'object' && error !== null && !(error instanceof Error) && 'reason' in error;
}
