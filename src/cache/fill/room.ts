import type { SpoolFile } from '../../spool/spool.ts';
import type { ExpectedBody } from './body-verifier.ts';
import type { FillContext } from './fills.ts';

/** Where a body grows, with the share of the process's budgets that it takes. */
export interface Room {
  readonly file: SpoolFile;
  /** The most bytes that fit. */
  readonly bytes: number;
  /** Gives the share back; the file is discarded by whoever has it. */
  release(): void;
}

/** Bodies up to this size are kept in memory while they are in flight. */
const IN_MEMORY_BYTES = 1024 * 1024;
/** What an encoding may add to a NAR that does not compress, beside 1/32 of its size. */
const ENCODING_OVERHEAD_BYTES = 64 * 1024;

/**
 * Room for the whole body, reserved before its first byte: in memory for small ones, else on disk.
 *
 * @param size bytes of the encoded body; where it is unknown, room is made for the largest encoding of its NAR
 * @returns null where there is none
 */
export async function makeRoom(
  { buffers, spoolSpace, services }: Pick<FillContext, 'buffers' | 'spoolSpace' | 'services'>,
  expected: Pick<ExpectedBody, 'key' | 'narSize'>,
  size: number | null,
): Promise<Room | null> {
  const { key, narSize } = expected;
  const bytes = size ?? Math.ceil(narSize * (1 + 1 / 32)) + ENCODING_OVERHEAD_BYTES;
  const inMemory = bytes <= IN_MEMORY_BYTES ? buffers.reserve(bytes) : null;
  if (inMemory !== null) {
    return { file: await services.memorySpool.create(key), bytes, release: () => inMemory.release() };
  }
  const onDisk = services.spool === null ? null : spoolSpace.reserve(bytes);
  if (services.spool === null || onDisk === null) return null;
  try {
    return { file: await services.spool.create(key), bytes, release: () => onDisk.release() };
  } catch (error) {
    onDisk.release();
    services.platform.logger.error('The spool cannot be written: a body passes through unsaved', {
      key,
      error,
    });
    return null;
  }
}

/** For a body that is not to grow after all. */
export async function giveUp(room: Room | null): Promise<void> {
  await room?.file.discard().catch(() => undefined);
  room?.release();
}
