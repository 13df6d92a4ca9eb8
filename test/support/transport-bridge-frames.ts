import type { TransportError, TransportRequest } from '../../src/upstream/transport.ts';

/** A request for the transport, as the other side of the bridge sends it. */
export interface BridgedRequest extends Omit<TransportRequest, 'url' | 'signal'> {
  readonly url: string;
  /** Milliseconds after which the request is aborted there: workerd does not see its client leave before the headers. */
  readonly abortAfterMs?: number;
}

/** How a body ended, in the last frame. */
export type BridgedEnd =
  | { readonly kind: 'end' }
  | { readonly kind: 'transport'; readonly error: TransportError['kind']; readonly message: string }
  | { readonly kind: 'other'; readonly message: string };

/** The length of the last frame: what follows is a `BridgedEnd`. */
export const LAST_FRAME: number = 0xffffffff;
