import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { embeddedXz } from '../src/nar/xz-module-node.ts';

/**
 * Writes the xz decoder out of the package that embeds it, for the Worker, which has to import it as a file. wrangler
 * runs this before it bundles (wrangler.toml).
 */
const target = new URL('../build/xz-decoder.wasm', import.meta.url);
const bytes = await embeddedXz();
await mkdir(new URL('.', target), { recursive: true });
// Written only where it differs: whoever watches the folder would build again.
const before = await readFile(target).catch(() => null);
if (before === null || !before.equals(bytes)) await writeFile(target, bytes);
