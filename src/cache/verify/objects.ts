import type { NarRecord } from '../../database/metadata-store.ts';
import { isStorePathHash } from '../../nix/store-path.ts';
import type { BlobInfo } from '../../storage/blob-store.ts';
import { type AdoptOptions, adoptStored } from '../adopt-stored.ts';
import { found, type VerifyContext } from './context.ts';

const NAR_INFO = '.narinfo';
const LISTING = '.ls';
/** Objects at the root that are neither narinfos nor listings. */
const ROOT_OBJECTS: ReadonlySet<string> = new Set(['nix-cache-info']);

/** Compares a page of objects at the root of the bucket with the index. */
export async function verifyRootObjects(
  context: VerifyContext,
  page: readonly BlobInfo[],
  adopting: AdoptOptions,
): Promise<void> {
  const { services, findings, turns } = context;
  findings.checked.objects += page.length;
  const hashes = page.map(({ key }) => hashOf(key)).filter((hash) => hash !== null);
  const known = new Map((await services.upkeep.findPaths(hashes)).map((each) => [each.path.hash, each]));
  await Promise.all(
    page.map((blob) =>
      turns.take(async () => {
        const hash = hashOf(blob.key);
        if (hash === null) {
          if (!ROOT_OBJECTS.has(blob.key))
            await found(context, 'foreign object', blob.key, 'it is not of a cache');
          return;
        }
        const path = known.get(hash);
        if (blob.key.endsWith(LISTING)) {
          if (path === undefined && blob.modifiedAt < context.olderThan)
            await staleListing(context, blob, hash);
          return;
        }
        if (path === undefined) return await verifyUnknownNarInfo(context, blob, hash, adopting);
        // Present ones are compared with their rows.
        if (path.nar.state !== 'present' && path.nar.state !== 'evicting') {
          await verifyWithoutNar(context, blob, hash);
        }
      }),
    ),
  );
}

async function staleListing(context: VerifyContext, blob: BlobInfo, hash: string): Promise<void> {
  const { metadata, storage } = context.services;
  if ((await metadata.getPath(hash)) !== null) return;
  await found(context, 'stale listing', blob.key, 'its path is not known', () => storage.delete([blob.key]));
}

/** A narinfo of a path whose NAR the index has not as present: that NAR may be there, or be on its way. */
async function verifyWithoutNar(context: VerifyContext, blob: BlobInfo, hash: string): Promise<void> {
  const { services } = context;
  if (blob.modifiedAt >= context.olderThan) return;
  const now = await services.metadata.getPath(hash);
  if (now === null || now.nar.state === 'present' || now.nar.state === 'evicting') return;
  const { key } = now.nar;
  // Bodies that are there are found among the bodies.
  if (now.nar.state !== 'quarantined' && (await services.storage.head(key)) !== null) return;
  await found(context, 'narinfo without NAR', blob.key, `${key} is not stored`, () =>
    services.storage.delete([blob.key, `${hash}${LISTING}`]),
  );
}

async function verifyUnknownNarInfo(
  context: VerifyContext,
  blob: BlobInfo,
  hash: string,
  adopting: AdoptOptions,
): Promise<void> {
  const { services } = context;
  if (blob.modifiedAt >= context.olderThan) return;
  if ((await services.metadata.getPath(hash)) !== null) return;
  if (!context.repair) {
    await found(context, 'narinfo not in the index', blob.key, 'the index does not know the path');
    return;
  }
  const answer = await adoptStored(services, hash, adopting);
  switch (answer.kind) {
    case 'adopted':
    case 'known':
      await found(context, 'narinfo not in the index', blob.key, 'the index did not know the path', () =>
        Promise.resolve(true),
      );
      return;
    case 'without NAR':
    case 'refused': {
      const kind = answer.kind === 'refused' ? 'narinfo not trusted' : 'narinfo without NAR';
      await found(context, kind, blob.key, answer.reason, () =>
        services.storage.delete([blob.key, `${hash}${LISTING}`]),
      );
      return;
    }
    case 'gone':
  }
}

/** Compares a page of objects under `nar/` with the index. */
export async function verifyNarObjects(context: VerifyContext, page: readonly BlobInfo[]): Promise<void> {
  const { services, findings, turns } = context;
  findings.checked.objects += page.length;
  const keys = page.map(({ key }) => key);
  const known = new Map((await services.upkeep.findNars(keys)).map((nar) => [nar.key, nar]));
  await Promise.all(
    page.map((blob) => turns.take(() => verifyNarObject(context, blob, known.get(blob.key)))),
  );
}

async function verifyNarObject(
  context: VerifyContext,
  blob: BlobInfo,
  recorded: NarRecord | undefined,
): Promise<void> {
  if (recorded?.state === 'present' || recorded?.state === 'evicting') return;
  const { services, verification } = context;
  if (blob.modifiedAt >= context.olderThan) return;
  // The row may have come since the page was read, and the object be gone.
  const now = await services.metadata.getNar(blob.key, 1);
  if (now?.nar.state === 'present' || now?.nar.state === 'evicting') return;
  if ((await services.storage.head(blob.key)) === null) return;
  if (now?.nar.state === 'quarantined') {
    await found(context, 'quarantined NAR', blob.key, 'it was found to be wrong', () =>
      services.storage.delete([blob.key]),
    );
  } else if (now === null || now.paths.length === 0) {
    await found(context, 'unclaimed NAR', blob.key, `no path claims these ${blob.size} bytes`, () =>
      services.storage.delete([blob.key]),
    );
  } else {
    await found(context, 'NAR not in the index', blob.key, `the index has it as ${now.nar.state}`, () =>
      adopted(verification.verify(blob.key)),
    );
  }
}

/** Whether the body is present now, or gone. */
async function adopted(verification: Promise<string>): Promise<boolean> {
  const outcome = await verification;
  return outcome === 'verified' || outcome === 'removed';
}

/** The hash part of the store path that an object at the root is about; null for others. */
function hashOf(key: string): string | null {
  for (const suffix of [NAR_INFO, LISTING]) {
    if (!key.endsWith(suffix)) continue;
    const hash = key.slice(0, -suffix.length);
    if (isStorePathHash(hash)) return hash;
  }
  return null;
}
