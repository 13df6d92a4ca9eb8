import type { SpoolFile } from '../../spool/spool.ts';
import type { PutResult } from '../../storage/blob-store.ts';
import type { Reservation } from '../budget.ts';
import type { ExpectedBody } from './body-verifier.ts';
import type { FillContext } from './fills.ts';
import { HOLD_BACK_BYTES } from './flight.ts';
import { NAR_PUT } from './nar-put.ts';
import { PacedPut } from './paced-put.ts';

/** Where a body goes on its way in, with the share of the process's budgets that it takes. */
export interface Room {
  /** Where it grows, for any number of readers; null where the store takes it as it comes, and one reader with it. */
  readonly file: SpoolFile | null;
  /** The most bytes that fit. */
  readonly bytes: number;
  /** Why nothing can be stored any more; undefined while it can. */
  readonly fault: Error | undefined;
  /** Takes part in the way of a chunk: resolves when the store wants more. Never rejects. */
  push(chunk: Uint8Array): Promise<void>;
  /** Stores the body, which is whole and verified. @throws StorageError */
  store(): Promise<PutResult>;
  /** Nothing of it is to be stored: the store leaves it. No effect after `store`. */
  abort(reason: Error): void;
  /** Gives the share back; the file is discarded by whoever has it. */
  release(): void;
}

export type RoomContext = Pick<FillContext, 'buffers' | 'spoolSpace' | 'uploads' | 'services'>;

/** Bodies up to this size are kept in memory while they are in flight. */
const IN_MEMORY_BYTES = 1024 * 1024;
/** What an encoding may add to a NAR that does not compress, beside 1/32 of its size. */
const ENCODING_OVERHEAD_BYTES = 64 * 1024;
/** What a body without a spool holds beside the store's buffers: the piece held back twice while a chunk is joined to it, and chunks on their ways. */
const PACED_BYTES = 2 * HOLD_BACK_BYTES + 4 * 64 * 1024;

/**
 * Room for the whole body, reserved before its first byte: in memory for small ones, else on disk, else in the store
 * itself.
 *
 * @param size bytes of the encoded body; where it is unknown, room is made for the largest encoding of its NAR
 * @param onFault called where the store fails in the middle of a body that has no other place
 * @returns null where there is none
 */
export async function makeRoom(
  context: RoomContext,
  expected: Pick<ExpectedBody, 'key' | 'narSize'>,
  size: number | null,
  onFault: () => void,
): Promise<Room | null> {
  const { buffers, services } = context;
  const { key, narSize } = expected;
  const bytes = size ?? Math.ceil(narSize * (1 + 1 / 32)) + ENCODING_OVERHEAD_BYTES;
  const inMemory = bytes <= IN_MEMORY_BYTES ? buffers.reserveIfAmple(bytes) : null;
  if (inMemory !== null) {
    return spooled(context, key, await services.memorySpool.create(key), bytes, inMemory, 0);
  }
  return (await onDisk(context, key, bytes)) ?? (await inTheStore(context, { key, size, bytes, onFault }));
}

/** For a body that is not to grow after all. */
export async function giveUp(room: Room | null): Promise<void> {
  room?.abort(new Error('The body is not read'));
  await room?.file?.discard().catch(() => undefined);
  room?.release();
}

async function onDisk(context: RoomContext, key: string, bytes: number): Promise<Room | null> {
  const { spool, platform } = context.services;
  const share = spool === null ? null : context.spoolSpace.reserve(bytes);
  if (spool === null || share === null) return null;
  try {
    return spooled(
      context,
      key,
      await spool.create(key),
      bytes,
      share,
      context.services.storage.putMemory ?? 0,
    );
  } catch (error) {
    share.release();
    platform.logger.error('The spool cannot be written', { key, error });
    return null;
  }
}

/** @param putMemory bytes that the store takes to read it from where it is: such puts wait for each other (law 7) */
function spooled(
  { services, uploads }: RoomContext,
  key: string,
  file: SpoolFile,
  bytes: number,
  share: Reservation,
  putMemory: number,
): Room {
  return {
    file,
    bytes,
    fault: undefined,
    push: () => Promise.resolve(),
    async store() {
      await services.platform.checkpoint?.('fill:store-nar');
      const put = (): Promise<PutResult> => services.storage.put(key, file.source(), NAR_PUT);
      const held = Math.min(putMemory, file.written);
      return await (held === 0 ? put() : uploads.take(put, held));
    },
    abort: () => undefined,
    release: () => share.release(),
  };
}

/**
 * A store that buffers what it is given, as those do that are reached over a network, takes the body at its own pace
 * and holds no more than it says. One that does not writes to the disk of this machine, which is the spool's to
 * bound: it takes bodies so only where there is no spool at all.
 */
async function inTheStore(
  { buffers, services }: RoomContext,
  body: { readonly key: string; readonly size: number | null; readonly bytes: number; onFault(): void },
): Promise<Room | null> {
  const { storage, spool, platform } = services;
  if (spool !== null && storage.putMemory === undefined) return null;
  const ours = buffers.reserveIfAmple(PACED_BYTES);
  const theirs = ours === null ? null : buffers.reserveIfAmple(storage.putMemory ?? 0);
  if (ours === null || theirs === null) {
    ours?.release();
    return null;
  }
  let begun: PacedPut | undefined;
  let left: Error | undefined;
  const put = (): PacedPut =>
    (begun ??= new PacedPut({
      storage,
      platform,
      key: body.key,
      size: body.size,
      onOver: () => theirs.release(),
      onFault: () => body.onFault(),
    }));
  return {
    file: null,
    bytes: body.bytes,
    get fault() {
      return left ?? begun?.fault;
    },
    // The store is asked for nothing before there is something to store: a body may turn out not to be had.
    async push(chunk) {
      if (begun === undefined && left === undefined) await platform.checkpoint?.('fill:store-nar');
      if (left === undefined) await put().push(chunk);
    },
    store: () => (left === undefined ? put().finish() : Promise.reject(left)),
    abort(reason) {
      if (begun === undefined) {
        left ??= reason;
        theirs.release();
      } else {
        begun.abort(reason);
      }
    },
    release: () => ours.release(),
  };
}
