import type { PathWithNar } from '../database/metadata-store.ts';
import { render } from './render.ts';
import type { CacheServices } from './services.ts';

/** As Nix itself labels it. */
const NARINFO_CONTENT_TYPE = 'text/x-nix-narinfo';

/**
 * Writes the narinfo of a path whose NAR the index has just called present. An eviction may have begun since: as that
 * marks first and removes afterwards, this writes first and looks afterwards.
 *
 * @throws StorageError, MetadataError
 */
export async function storeNarInfoOfPresent(
  services: Pick<CacheServices, 'storage' | 'metadata' | 'platform'>,
  known: PathWithNar,
): Promise<void> {
  await storeNarInfo(services, known);
  const now = await services.metadata.getPath(known.path.hash);
  if (now?.nar.state !== 'present') await services.storage.delete([`${known.path.hash}.narinfo`]);
}

/** Writes the narinfo of a path into the bucket; its NAR must be there already. @throws StorageError */
export async function storeNarInfo(
  { storage, platform }: Pick<CacheServices, 'storage' | 'platform'>,
  known: PathWithNar,
): Promise<void> {
  await platform.checkpoint?.('fill:store-narinfo');
  const { bytes } = render(known);
  const source = { kind: 'bytes' as const, bytes };
  await storage.put(`${known.path.hash}.narinfo`, source, {
    contentType: NARINFO_CONTENT_TYPE,
    mayVanish: true,
  });
}
