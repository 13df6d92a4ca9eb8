import { cp, mkdir, readFile, rm, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import type { Plugin } from 'esbuild';

/**
 * Bundles the function for AWS Lambda into `dist/lambda`: `index.mjs` with its chunks, of which an environment loads those
 * that its configuration needs, and the files that are read at run time. The source maps lie beside; they are not deployed.
 *
 * `node scripts/build-lambda.ts [directory]`
 */
const ROOT = fileURLToPath(new URL('../', import.meta.url));
const OUT = process.argv[2] ?? join(ROOT, 'dist/lambda');

/** Packages in the older module format ask for Node's modules by `require`, which ES modules have not. */
const REQUIRE = [
  "import { createRequire as createRequireOfNode } from 'node:module';",
  'const require = createRequireOfNode(import.meta.url);',
].join('\n');

/** What sources read beside themselves, and where it lies in the bundle. */
const BESIDE: readonly (readonly [inSource: RegExp, inBundle: string])[] = [
  [
    /new URL\((['`])(?:\.\.\/)+drizzle\/([^'`]+)\1, import\.meta\.url\)/g,
    'new URL($1./drizzle/$2$1, import.meta.url)',
  ],
  [/import\.meta\.resolve\('xz-decompress'\)/g, "new URL('./xz-decompress.js', import.meta.url).href"],
];

const readBeside: Plugin = {
  name: 'read-beside',
  setup({ onLoad, onEnd }) {
    const found = new Set<RegExp>();
    onLoad({ filter: /\/src\/(database|nar)\/.*\.ts$/ }, async ({ path }) => {
      let contents = await readFile(path, 'utf8');
      for (const [from, to] of BESIDE) {
        if (contents.search(from) !== -1) found.add(from);
        contents = contents.replaceAll(from, to);
      }
      return { contents, loader: 'ts' };
    });
    // A source that was written anew must not read from nowhere when it is deployed.
    onEnd(() => ({
      errors: BESIDE.filter(([from]) => !found.has(from)).map(([from]) => ({
        text: `No source has ${from.source} any more`,
      })),
    }));
  },
};

/** Messages of zod in 50 languages, of which the English ones are imported by themselves. */
const withoutLocales: Plugin = {
  name: 'without-locales',
  setup({ onLoad }) {
    onLoad({ filter: /\/zod\/v4\/locales\/index\.js$/ }, () => ({ contents: '', loader: 'js' }));
  },
};

await rm(OUT, { recursive: true, force: true });
await mkdir(OUT, { recursive: true });
const { metafile } = await build({
  absWorkingDir: ROOT,
  entryPoints: { index: 'src/runtime/lambda.ts' },
  outdir: OUT,
  outExtension: { '.js': '.mjs' },
  // Side by side, so that what lies beside one of them lies beside all.
  chunkNames: '[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node24',
  mainFields: ['module', 'main'],
  minify: true,
  // The names of errors are in logs.
  keepNames: true,
  sourcemap: true,
  sourcesContent: false,
  legalComments: 'linked',
  metafile: true,
  banner: { js: REQUIRE },
  plugins: [readBeside, withoutLocales],
  logLevel: 'warning',
});
await cp(join(ROOT, 'drizzle'), join(OUT, 'drizzle'), {
  recursive: true,
  filter: (source) => !source.endsWith('_snapshot.json'),
});
await cp(fileURLToPath(import.meta.resolve('xz-decompress')), join(OUT, 'xz-decompress.js'));

const outputs = Object.entries(metafile.outputs).filter(([file]) => file.endsWith('.mjs'));
const first = new Set<string>();
const load = (file: string): void => {
  if (first.has(file)) return;
  first.add(file);
  for (const { path, kind } of metafile.outputs[file]?.imports ?? []) {
    if (kind === 'import-statement') load(path);
  }
};
load(relative(ROOT, join(OUT, 'index.mjs')));
console.log(`${await sizeOf(outputs.map(([file]) => file))} in ${outputs.length} files`);
console.log(`${await sizeOf([...first].filter((file) => file.endsWith('.mjs')))} of them with every start`);

async function sizeOf(files: readonly string[]): Promise<string> {
  let bytes = 0;
  let compressed = 0;
  for (const file of files) {
    bytes += (await stat(join(ROOT, file))).size;
    compressed += gzipSync(await readFile(join(ROOT, file))).length;
  }
  return `${(bytes / 1e6).toFixed(2)} MB (${(compressed / 1e6).toFixed(2)} MB with gzip)`;
}
