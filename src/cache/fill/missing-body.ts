import { ALL_PATHS_OF_NAR, type NarRecord } from '../../database/metadata-store.ts';
import { indexed } from '../find-path.ts';
import type { FillContext } from './fills.ts';

/**
 * `present` is only a hint: storage has no such body (a hand, a crash of the machine). The row is set absent, and
 * the narinfos leave the bucket, where they may be only while their NAR is there (law 8).
 */
export async function noteMissingBody(
  { services, onPathsChanged }: Pick<FillContext, 'services' | 'onPathsChanged'>,
  nar: NarRecord,
): Promise<void> {
  if (nar.state !== 'present') return;
  const { metadata, storage, platform } = services;
  const changed = await indexed('note a missing NAR', () => metadata.markAbsent(nar.key, nar.generation));
  if (!changed) return;
  platform.logger.warn('A NAR that the index calls present is gone from storage', { key: nar.key });
  const named = await indexed('look up a NAR', () => metadata.getNar(nar.key, ALL_PATHS_OF_NAR));
  const hashes = (named?.paths ?? []).map((path) => path.hash);
  onPathsChanged(hashes);
  try {
    await storage.delete(hashes.map((hash) => `${hash}.narinfo`));
  } catch (error) {
    platform.logger.error('Narinfos without their NAR could not be removed', { key: nar.key, error });
  }
}
