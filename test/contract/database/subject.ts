import { onTestFinished } from 'vitest';
import type { IndexStore } from '../../../src/database/index-store.ts';
import type { IndexPlace, MetadataStoreSubject } from './metadata-store.contract.ts';

/** An empty index for the running test, closed and removed after it. */
export async function freshStore(subject: MetadataStoreSubject): Promise<IndexStore> {
  return (await freshPlace(subject)).open();
}

/** A place for the running test; handles that the test leaves open are closed after it. */
export async function freshPlace(subject: MetadataStoreSubject): Promise<IndexPlace> {
  const place = await subject.create();
  const handles: IndexStore[] = [];
  onTestFinished(async () => {
    for (const handle of handles) await handle.close();
    await place.remove();
  });
  return {
    ...place,
    async open() {
      const handle = await place.open();
      handles.push(handle);
      return handle;
    },
  };
}
