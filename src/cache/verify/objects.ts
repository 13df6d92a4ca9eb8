import type { NarRecord, PathWithNar } from '../../database/metadata-store.ts';
import { isStorePathHash } from '../../nix/store-path.ts';
import type { BlobInfo } from '../../storage/blob-store.ts';
import { type AdoptOptions, adoptStored, judgeStored } from '../adopt-stored.ts';
import { parseDerivedKey, parseFileHashKey } from '../nar-key.ts';
import { found, looking, type VerifyContext } from './context.ts';

const NAR_INFO = '.narinfo';
const LISTING = '.ls';
/** What else is at the root: as Nix lays it out, and our own. */
const ROOT_OBJECTS: ReadonlySet<string> = new Set([
  'nix-cache-info',
  'nar/',
  'log/',
  'realisations/',
  'build-trace-v2/',
  'debuginfo/',
  'snowcap/',
]);

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
      turns.take(() => {
        const hash = hashOf(blob.key);
        const path = hash === null ? undefined : known.get(hash);
        return looking(context, blob.key, () => verifyRootObject(context, blob, hash, path, adopting));
      }),
    ),
  );
}

async function verifyRootObject(
  context: VerifyContext,
  blob: BlobInfo,
  hash: string | null,
  path: PathWithNar | undefined,
  adopting: AdoptOptions,
): Promise<void> {
  if (hash === null) return await verifyOther(context, blob.key);
  if (blob.key.endsWith(LISTING)) {
    if (path === undefined && blob.modifiedAt < context.olderThan) await staleListing(context, blob, hash);
    return;
  }
  if (path === undefined) return await verifyUnknownNarInfo(context, blob, hash, adopting);
  // Present ones are compared with their rows.
  if (path.nar.state !== 'present' && path.nar.state !== 'evicting') {
    await verifyWithoutNar(context, blob, hash);
  }
}

async function verifyOther(context: VerifyContext, key: string): Promise<void> {
  if (ROOT_OBJECTS.has(key)) return;
  await found(context, 'foreign object', key, 'it is not of a cache');
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

/** Adopting does no harm, whatever its age; only what is removed must be old enough. */
async function verifyUnknownNarInfo(
  context: VerifyContext,
  blob: BlobInfo,
  hash: string,
  adopting: AdoptOptions,
): Promise<void> {
  const { services } = context;
  if ((await services.metadata.getPath(hash)) !== null) return;
  const isOld = blob.modifiedAt < context.olderThan;
  const judged = await judgeStored(services, hash, adopting).catch((error: unknown) => {
    // One that cannot be read may name a body too.
    context.leave();
    throw error;
  });
  switch (judged.kind) {
    case 'fit':
      if (isOld || context.repair) {
        await found(
          context,
          'narinfo not in the index',
          blob.key,
          'the index does not know the path',
          async () => {
            const { kind } = await adoptStored(services, hash, adopting);
            return kind === 'adopted' || kind === 'known';
          },
        );
      }
      return;
    case 'without NAR':
      if (!isOld) return context.leave();
      await found(context, 'narinfo without NAR', blob.key, judged.reason, () =>
        services.storage.delete([blob.key, `${hash}${LISTING}`]),
      );
      return;
    case 'refused': {
      if (!isOld) return context.leave();
      if (!context.removeUntrusted) {
        context.leave();
        await found(context, 'narinfo not trusted', blob.key, judged.reason);
        return;
      }
      await found(context, 'narinfo not trusted', blob.key, judged.reason, () =>
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
    page.map((blob) =>
      turns.take(() => looking(context, blob.key, () => verifyNarObject(context, blob, known.get(blob.key)))),
    ),
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
    if (parseFileHashKey(blob.key) === null && parseDerivedKey(blob.key) === null) {
      await found(context, 'foreign object', blob.key, 'it is not named as a NAR');
      return;
    }
    const detail = `no path claims these ${blob.size} bytes`;
    // A narinfo that was left as it is may name it.
    if (context.left > 0)
      await found(context, 'unclaimed NAR', blob.key, `${detail}, but a narinfo that was left may`);
    else await found(context, 'unclaimed NAR', blob.key, detail, () => services.storage.delete([blob.key]));
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
