import { DEFAULT_STORE_DIR } from '../nix/store-path.ts';
import type { ByteStream } from '../stream/byte-stream.ts';
import { Failure } from './failure.ts';
import type { NarCommandContext } from './nar-context.ts';
import { differences, openNarSource } from './nar-source.ts';
import type { NarSource } from './nar-source.ts';

/** Opens the NAR that a command was given. */
export async function openNar(place: string, context: NarCommandContext): Promise<NarSource> {
  // Only a narinfo has a store directory in it, and most commands need no configuration.
  const storeDir = place.includes('.narinfo') ? (await context.config()).storeDir : DEFAULT_STORE_DIR;
  return openNarSource(place, { compression: context.compression, storeDir, remote: context.remote });
}

/**
 * The NAR of a source. Where a narinfo led to it, the end comes only if it is what the narinfo says.
 *
 * @throws Failure while iterating, instead of the end
 */
export async function* checkedNar(source: NarSource): AsyncGenerator<Uint8Array, void, void> {
  const nar: ByteStream = source.nar;
  yield* nar;
  if (source.info === null) return;
  const wrong = differences(source.info, source.measure());
  if (wrong.length > 0)
    throw new Failure(`${source.label} is not what its narinfo says: ${wrong.join('; ')}`);
}

/** A path within a NAR as events have it: without slashes at its ends; empty for the root. */
export function innerPath(path: string): string {
  return path
    .split('/')
    .filter((part) => part !== '' && part !== '.')
    .join('/');
}
