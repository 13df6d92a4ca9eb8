import type { PathWithNar } from '../database/metadata-store.ts';
import type { Ban } from '../database/upkeep-store.ts';
import { banMirror, type BanMirror, removeBanMirror, storeBanMirror } from './mirrors.ts';
import type { CacheServices } from './services.ts';

/** Paths that somebody wants gone, for now or for good. */
export interface Removals {
  /**
   * Removes a path from storage and index: narinfo, listing, and the NAR unless another path has it too. An upstream may
   * give it again, unless it is banned. May be repeated.
   *
   * @param hash hash part of the store path
   * @throws what the storage and the index throw; what is left is removed by the next try
   */
  remove(hash: string, options?: RemoveOptions): Promise<RemovedPath>;
  /** Lifts a ban. Returns whether there was one. */
  unban(hash: string): Promise<boolean>;
  /** By hash. */
  bans(): Promise<readonly Ban[]>;
}

export interface RemoveOptions {
  /** Whatever keeps it: a pin, or a pushed path that refers to it. */
  readonly force?: boolean;
  /** It is not to come back; with the reason, for people. */
  readonly ban?: { readonly reason: string };
}

export type RemovedPath =
  | { readonly kind: 'removed'; readonly storePath: string; readonly bytes: number }
  /** Nothing was known of it. With a ban, it is banned now. */
  | { readonly kind: 'unknown' }
  /** A pin keeps it, or a pushed path that stays refers to it. */
  | { readonly kind: 'kept'; readonly storePath: string };

/** An access that is recorded in between has the removal begin anew. */
const MOST_TRIES = 4;

export function createRemovals(
  services: CacheServices,
  onPathsChanged: (hashes: readonly string[]) => void,
  onRemoved: (key: string) => void,
): Removals {
  const { storage, metadata, upkeep, platform, settings } = services;

  async function remove(hash: string, options: RemoveOptions = {}): Promise<RemovedPath> {
    const known = await metadata.getPath(hash);
    const storePath = known?.path.storePath ?? `${settings.storeDir}/${hash}`;
    const force = options.force === true;
    if (!force && (await upkeep.keeperOf(hash, platform.clock.now())) !== null)
      return { kind: 'kept', storePath };
    const shared = known !== null && (await isShared(known));
    const body = known === null || shared ? 'none' : await claimBody(known, force);
    if (body === 'kept') return { kind: 'kept', storePath };
    const ban =
      options.ban === undefined ? null : await noteBan({ hash, storePath, ...options.ban }, known, shared);
    await platform.checkpoint?.('delete:narinfo');
    await storage.delete([`${hash}.narinfo`, `${hash}.ls`]);
    onPathsChanged([hash]);
    if (known !== null && !shared) await removeBody(known, body === 'claimed');
    await platform.checkpoint?.('delete:path');
    if (ban === null) await upkeep.removePath(hash);
    else await enforce(ban);
    if (known === null) return { kind: 'unknown' };
    return { kind: 'removed', storePath, bytes: body === 'claimed' ? (known.nar.fileSize ?? 0) : 0 };
  }

  /**
   * The mirror first: rather a ban too many after a crash than a banned path that a rebuilt index takes again. It keeps
   * the key of the NAR, which nothing else knows any more once the row of the path is gone.
   */
  async function noteBan(
    of: Omit<Ban, 'at'>,
    known: PathWithNar | null,
    shared: boolean,
  ): Promise<BanMirror> {
    const before = known === null ? await banMirror(storage, of.hash) : null;
    if (before !== null) return before;
    const narKey = known === null || shared ? null : known.nar.key;
    const mirror = { ...of, at: platform.clock.now(), narKey };
    await platform.checkpoint?.('ban:mirror');
    await storeBanMirror(storage, mirror);
    return mirror;
  }

  /** Refuses the path in the index, and removes what a fill, or another instance, has stored up to this moment. */
  async function enforce({ narKey, ...ban }: BanMirror): Promise<void> {
    await platform.checkpoint?.('ban:index');
    await upkeep.banPath(ban);
    // Once more, for what was recorded while the first one was on its way.
    await upkeep.banPath(ban);
    await platform.checkpoint?.('ban:sweep');
    await storage.delete([`${ban.hash}.narinfo`, `${ban.hash}.ls`]);
    if (narKey === null || (await metadata.getNar(narKey, 1))?.paths.length) return;
    await storage.delete([narKey]);
    onRemoved(narKey);
  }

  async function isShared({ path, nar }: PathWithNar): Promise<boolean> {
    const named = await metadata.getNar(nar.key, 2);
    return named?.paths.some(({ hash }) => hash !== path.hash) === true;
  }

  /** Marks the stored body as on its way out. */
  async function claimBody(known: PathWithNar, regardless: boolean): Promise<'claimed' | 'kept' | 'none'> {
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const nar = tries === 0 ? known.nar : (await metadata.getNar(known.nar.key, 1))?.nar;
      if (nar === undefined || (nar.state !== 'present' && nar.state !== 'evicting')) return 'none';
      await platform.checkpoint?.('delete:mark');
      const now = platform.clock.now();
      const marked = await upkeep.markEvicting([nar], now, { regardless });
      if (marked.length === 0) continue;
      if (!regardless && (await upkeep.spareEvicting(marked, now)).length > 0) return 'kept';
      return 'claimed';
    }
    return 'kept';
  }

  async function removeBody({ nar }: PathWithNar, claimed: boolean): Promise<void> {
    await platform.checkpoint?.('delete:nar');
    await storage.delete([nar.key]);
    onRemoved(nar.key);
    if (!claimed) return;
    await platform.checkpoint?.('delete:finish');
    const now = (await metadata.getNar(nar.key, 1))?.nar;
    if (now !== undefined) await upkeep.finishEvicting([now]);
  }

  return {
    remove,
    bans: () => upkeep.listBans(),
    async unban(hash) {
      await platform.checkpoint?.('unban:index');
      const was = await upkeep.unbanPath(hash);
      await platform.checkpoint?.('unban:mirror');
      await removeBanMirror(storage, hash);
      onPathsChanged([hash]);
      return was;
    },
  };
}
