import { afterEach, describe, expect, test } from 'vitest';
import { plantProject } from './planted-project.ts';
import type { CheckResult, PlantedProject } from './planted-project.ts';

let project: PlantedProject | undefined;

afterEach(async () => {
  await project?.remove();
});

async function check(
  files: Readonly<Record<string, string>>,
  program: string,
  ...args: readonly string[]
): Promise<CheckResult> {
  project = await plantProject(files);
  return await project.run(program, ...args);
}

/** Something to check in a project that has nothing else. */
const GOOD = 'export const kept: number = 1;\n';

describe('portability', () => {
  const portable = ['--noEmit', '-p', 'tsconfig.portable.json'];

  test('a core file that needs no runtime passes', async () => {
    const { code, output } = await check(
      { 'src/cache/x.ts': 'export const url: URL = new URL("http://x");\n' },
      'tsc',
      ...portable,
    );
    expect(output).toBe('');
    expect(code).toBe(0);
  });

  test.for([
    ['src/cache/x.ts', "import { readFile } from 'node:fs';\nexport const x: unknown = readFile;\n"],
    ['src/cache/x.ts', 'export const x: number = process.pid;\n'],
    ['src/server/x.ts', "export const x: unknown = Buffer.from('');\n"],
    ['src/server/x.ts', 'export const x: NodeJS.Timeout | null = null;\n'],
    ['src/nix/x.ts', 'setImmediate(() => undefined);\nexport {};\n'],
    ['src/nar/x.ts', "import { pipeline } from 'node:stream';\nexport const x: unknown = pipeline;\n"],
    ['src/stream/x.ts', "export const x: unknown = require('fs');\n"],
  ] as const)('%s with %j is refused', async ([file, text]) => {
    const { code, output } = await check({ 'src/nix/good.ts': GOOD, [file]: text }, 'tsc', ...portable);
    expect(output).toContain(`${file}(`);
    expect(code).toBeGreaterThan(0);
  });
});

describe('types', () => {
  test.for([
    ['an enum', 'export enum E {\n  A,\n}\n'],
    ['a parameter property', 'export class C {\n  constructor(readonly a: string) {}\n}\n'],
    ['a type imported as a value', "import { T } from './t.ts';\nexport type U = T;\n"],
    ['an export without a type', 'export const x = Math.max(1, 2);\n'],
    ['an index that may be missing', 'const a: string[] = [];\nexport const x: string = a[0];\n'],
  ] as const)('%s is refused', async ([, text]) => {
    const files = { 'src/nix/t.ts': 'export type T = string;\n', 'src/nix/x.ts': text };
    const { code, output } = await check(files, 'tsc', '--noEmit', '-p', 'tsconfig.json');
    expect(output).toContain('src/nix/x.ts(');
    expect(code).toBeGreaterThan(0);
  });
});

describe('lint', () => {
  const lint = ['--type-aware', '--deny-warnings'];

  test('a file without faults passes', async () => {
    const { code, output } = await check({ 'src/nix/good.ts': GOOD }, 'oxlint', ...lint);
    expect(output).toContain('0 errors');
    expect(code).toBe(0);
  });

  const later = 'declare const later: () => Promise<void>;\n';
  test.for([
    ['no-floating-promises', 'src/cache/x.ts', `${later}later();\nexport {};\n`],
    ['no-misused-promises', 'src/cache/x.ts', `${later}[1].forEach(async () => later());\nexport {};\n`],
    ['no-explicit-any', 'src/cache/x.ts', 'export const x: any = 1;\n'],
    [
      'no-non-null-assertion',
      'src/cache/x.ts',
      'declare const a: string | null;\nexport const x: string = a!;\n',
    ],
    ['no-unsafe-type-assertion', 'src/cache/x.ts', 'export const x: string = 1 as unknown as string;\n'],
    ['ban-ts-comment', 'src/cache/x.ts', '// @ts-ignore\nexport const x: string = 1;\n'],
    ['no-console', 'src/cache/x.ts', "console.log('x');\nexport {};\n"],
    ['no-process-env', 'src/storage/file.ts', "export const x: unknown = process.env['X'];\n"],
    ['no-restricted-globals', 'src/cache/x.ts', 'export const x: number = process.pid;\n'],
    ['no-unused-vars', 'src/cache/x.ts', 'const x = 1;\nexport {};\n'],
    ['max-lines', 'src/cache/x.ts', `${'// x\n'.repeat(400)}export {};\n`],
    ['expect-expect', 'test/unit/x.test.ts', "import { test } from 'vitest';\ntest('x', () => {});\n"],
  ] as const)('%s refuses its violation', async ([rule, file, text]) => {
    const { code, output } = await check({ [file]: text }, 'oxlint', ...lint);
    expect(output).toContain(`(${rule})`);
    expect(code).toBeGreaterThan(0);
  });
});

describe('format and unused code', () => {
  test('a file that prettier would write otherwise is refused', async () => {
    const { code, output } = await check(
      { 'src/nix/x.ts': 'export const x: string = "a"\n' },
      'prettier',
      '--check',
      'src',
    );
    expect(output).toContain('src/nix/x.ts');
    expect(code).toBeGreaterThan(0);
  });

  test('an export, a file and a dependency that nobody uses are refused', async () => {
    const files = {
      'bin/snowcap.js': "await import('../src/cli/main.ts');\n",
      'src/cli/main.ts': "import { used } from '../nix/x.ts';\nglobalThis.name = used;\n",
      'src/nix/x.ts': "export const used: string = '';\nexport const unused: string = '';\n",
      'src/nix/lonely.ts': GOOD,
    };
    const { code, output } = await check(files, 'knip');
    expect(output).toMatch(/unused\s+src\/nix\/x\.ts/);
    expect(output).toContain('src/nix/lonely.ts');
    expect(output).toContain('lru-cache');
    expect(output).not.toMatch(/\bused\s+src\/nix\/x\.ts/);
    expect(code).toBeGreaterThan(0);
  });
});
