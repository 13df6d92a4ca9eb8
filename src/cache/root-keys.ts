import type { BlobInfo, BlobStore } from '../storage/blob-store.ts';

/** Behind every key of a folder, as keys are compared. */
const LAST_OF_FOLDER = '~'.repeat(200);

/**
 * The objects at the root of the bucket (narinfos, listings) in ascending order, and its folders, as keys that end with
 * a slash, without walking through them: one of them has as many objects again.
 *
 * @param after only keys that come after this one
 * @throws StorageError
 */
export async function* rootKeys(
  storage: Pick<BlobStore, 'list'>,
  after?: string,
): AsyncGenerator<BlobInfo, void, void> {
  let last = after;
  for (;;) {
    let folder: string | null = null;
    for await (const blob of storage.list('', last === undefined ? {} : { after: last })) {
      const slash = blob.key.indexOf('/');
      if (slash >= 0) {
        folder = blob.key.slice(0, slash + 1);
        break;
      }
      last = blob.key;
      yield blob;
    }
    if (folder === null) return;
    yield { key: folder, size: 0, modifiedAt: 0 };
    last = `${folder}${LAST_OF_FOLDER}`;
  }
}
