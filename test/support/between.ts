import { withMethods } from './replaced.ts';
import type { TestCacheOptions } from './test-cache.ts';

/** Does something once, just before a method of the upkeep is called. */
export function before(
  method: 'markEvicting' | 'spareEvicting' | 'finishEvicting',
  hook: () => Promise<unknown>,
): NonNullable<TestCacheOptions['replace']> {
  const once = onlyOnce(hook);
  return ({ upkeep }) => ({
    upkeep: withMethods(upkeep, {
      markEvicting: async (...given) => {
        if (method === 'markEvicting') await once();
        return await upkeep.markEvicting(...given);
      },
      spareEvicting: async (...given) => {
        if (method === 'spareEvicting') await once();
        return await upkeep.spareEvicting(...given);
      },
      finishEvicting: async (...given) => {
        if (method === 'finishEvicting') await once();
        return await upkeep.finishEvicting(...given);
      },
    }),
  });
}

function onlyOnce(hook: () => Promise<unknown>): () => Promise<void> {
  let done = false;
  return async () => {
    if (done) return;
    done = true;
    await hook();
  };
}

/** The storage of a cache, where something is done once before the NAR or the narinfos are deleted. */
export function beforeDeleting(
  what: 'nar' | 'narinfo',
  hook: () => Promise<unknown>,
): NonNullable<TestCacheOptions['replace']> {
  const once = onlyOnce(hook);
  return ({ storage }) => ({
    storage: withMethods(storage, {
      delete: async (keys) => {
        if (keys.some((key) => (what === 'nar' ? key.startsWith('nar/') : key.endsWith('.narinfo'))))
          await once();
        await storage.delete(keys);
      },
    }),
  });
}
