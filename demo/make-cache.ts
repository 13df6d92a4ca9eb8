/**
 * Writes `demo/cache`, the upstream of the demonstration, with a real Nix: `node demo/make-cache.ts`. The
 * result is in the repository, so that the demonstration needs no Nix. The secret key is thrown away.
 */
import { createCipheriv } from 'node:crypto';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createNixStore } from '../test/support/nix-store.ts';
import { writeUpstreamCache } from '../test/support/upstream-cache.ts';

const CACHE: string = fileURLToPath(new URL('cache', import.meta.url));
const EXPRESSION: string = fileURLToPath(new URL('closure.nix', import.meta.url));

const store = await createNixStore();
const scratch = join(store.directory, 'scratch');
await mkdir(scratch);
const photo = join(scratch, 'photo');
await writeFile(
  photo,
  createCipheriv('aes-128-ctr', Buffer.alloc(16, 2), Buffer.alloc(16)).update(Buffer.alloc(700_000)),
);

const paths = await store.build(EXPRESSION, { photo });
const pathOf = (name: string): string => {
  const found = paths.find((path) => path.slice(44).startsWith(name));
  if (found === undefined) throw new Error(`The demonstration has no path named ${JSON.stringify(name)}`);
  return found;
};
const keys = ['secret', 'public'].map((name) => join(scratch, name)) as [string, string];
await store.check('nix-store', ['--generate-binary-cache-key', 'demo-upstream-1', ...keys]);

await rm(CACHE, { recursive: true, force: true });
await mkdir(CACHE);
const secretKeyFile = keys[0];
await writeUpstreamCache(store, [pathOf('demo-hello')], CACHE, { compression: 'xz', secretKeyFile });
await writeUpstreamCache(store, [pathOf('demo-desktop')], CACHE, { compression: 'zstd', secretKeyFile });
await copyFile(keys[1], join(CACHE, 'public-key'));
await writeFile(join(CACHE, 'root'), `${pathOf('demo-desktop')}\n`);
// Nix makes these for pushes; they stay empty.
for (const name of ['log', 'realisations']) await rm(join(CACHE, name), { recursive: true, force: true });
await store.remove();
