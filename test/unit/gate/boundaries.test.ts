import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { plantProject } from './planted-project.ts';
import type { CheckResult, PlantedProject } from './planted-project.ts';

const EXPORT = 'export const value = 1;\n';

const importing = (from: string): string =>
  `import { value } from '${from}';\nexport const copy: unknown = value;\n`;
const importingType = (from: string): string => `import type { T } from '${from}';\nexport type U = T;\n`;

/** One violation each: the file, what it imports, and the rule that must refuse it. */
const VIOLATIONS: readonly (readonly [file: string, text: string, rule: string])[] = [
  ['src/nix/a.ts', importing('../nar/ok.ts'), 'nix-imports'],
  ['src/nix/b.ts', importing('node:crypto'), 'node-modules-in-place'],
  ['src/nix/c.ts', importing('hono'), 'vendor-hono'],
  ['src/stream/a.ts', importing('../nix/ok.ts'), 'stream-imports'],
  ['src/nar/a.ts', importingType('../storage/blob-store.ts'), 'nar-imports'],
  ['src/nar/b.ts', importing('node:fs'), 'node-modules-in-place'],
  ['src/nar/sha256.ts', importing('node:fs'), 'shared-node-modules'],
  ['src/platform.ts', importingType('./cache/ok.ts'), 'interfaces-imports'],
  ['src/upstream/a.ts', importing('./undici-transport.ts'), 'drivers-from-outside'],
  ['src/upstream/b.ts', importing('undici'), 'vendor-undici'],
  ['src/config/a.ts', importing('../cache/ok.ts'), 'config-imports'],
  ['src/cache/a.ts', importing('../storage/file.ts'), 'cache-imports'],
  ['src/cache/b.ts', importing('../server/ok.ts'), 'cache-imports'],
  ['src/cache/c.ts', importing('node:path'), 'node-modules-in-place'],
  ['src/cache/d.ts', importingType('../database/sqlite/store.ts'), 'cache-imports'],
  ['src/cache/e.ts', `export const later = import('../storage/file.ts');\n`, 'cache-imports'],
  ['src/server/a.ts', importing('../storage/memory.ts'), 'server-imports'],
  ['src/server/b.ts', importing('../runtime/ok.ts'), 'runtime-last'],
  ['src/storage/file-a.ts', importing('./memory.ts'), 'driver-apart-storage-memory'],
  ['src/database/sqlite/a.ts', importing('../../storage/file.ts'), 'driver-apart-storage-file'],
  ['src/database/sqlite/b.ts', importing('../../cache/ok.ts'), 'driver-imports'],
  ['src/database/sqlite/d1.ts', importing('node:sqlite'), 'node-modules-in-place'],
  ['src/storage/r2-read.ts', importing('node:fs'), 'node-modules-in-place'],
  ['src/storage/shared.ts', importing('./file.ts'), 'driver-apart-storage-file'],
  ['src/lock/local.ts', importing('node:timers'), 'node-modules-in-place'],
  ['src/runtime/a.ts', importing('../cli/ok.ts'), 'cli-last'],
  ['src/cli/a.ts', importing('../../test/support/x.ts'), 'src-without-tests'],
  ['src/cli/b.ts', importing('fast-check'), 'no-development-library'],
  ['src/cli/c.ts', importing('semver'), 'vendor-unknown'],
  ['src/cli/d.ts', importing('./missing.ts'), 'resolvable'],
  ['src/cli/e.ts', `import { copy } from './f.ts';\nexport const value: unknown = copy;\n`, 'no-cycles'],
];

/** What the design allows. */
const ALLOWED: Readonly<Record<string, string>> = {
  'src/nix/ok.ts': EXPORT,
  'src/nar/ok.ts': importing('../nix/ok.ts') + EXPORT,
  'src/storage/blob-store.ts': 'export type T = string;\nexport const value = 1;\n',
  'src/storage/file.ts': `import '../nix/ok.ts';\n${importing('./blob-store.ts')}${EXPORT.replace('value', 'other')}`,
  'src/storage/memory.ts': importing('./blob-store.ts'),
  'src/storage/file-read.ts': `import './file.ts';\n${importing('node:fs')}`,
  'src/database/sqlite/store.ts': 'export type T = string;\n',
  'src/database/sqlite/node.ts': importing('node:sqlite'),
  'src/upstream/undici-transport.ts': importing('undici'),
  'src/cache/ok.ts': `export type T = string;\n${importing('../storage/blob-store.ts')}`,
  'src/server/ok.ts': `import '../cache/ok.ts';\n${importing('hono')}`,
  'src/runtime/ok.ts': `import '../server/ok.ts';\nimport 'node:http';\n${importing('../storage/file.ts')}`,
  'src/cli/ok.ts': `import 'node:fs';\n${importing('../runtime/ok.ts')}`,
  // The other half of the cycle, which is reported once.
  'src/cli/f.ts': importing('./e.ts'),
  'test/support/x.ts': EXPORT,
};

describe('import boundaries', () => {
  let project: PlantedProject;
  let result: CheckResult;
  const found = new Set<string>();

  beforeAll(async () => {
    const planted = VIOLATIONS.map(([file, text]) => [file, text] as const);
    project = await plantProject({ ...ALLOWED, ...Object.fromEntries(planted) });
    result = await project.run('depcruise', '--config', '.dependency-cruiser.js', 'src');
    for (const [, rule, file] of result.output.matchAll(/^\s*error ([^:\s]+): (\S+)/gm))
      found.add(`${file} ${rule}`);
  });
  afterAll(() => project.remove());

  test.for(VIOLATIONS)('%s is refused', ([file, , rule]) => {
    expect([...found].filter((line) => line.startsWith(`${file} `))).toContain(`${file} ${rule}`);
  });

  test('what the design allows is not refused', () => {
    const refused = [...found].filter((line) =>
      Object.keys(ALLOWED).some((file) => line.startsWith(`${file} `)),
    );
    expect(refused).toEqual([]);
  });

  test('a violation fails the check', () => {
    expect(result.code).toBeGreaterThan(0);
  });
});
