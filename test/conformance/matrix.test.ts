import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const HERE: string = fileURLToPath(new URL('.', import.meta.url));

/** About these tests themselves, not about the protocol. */
const UNLISTED: readonly string[] = ['matrix.test.ts', 'harness.test.ts'];

/** A row of the matrix: | clause | `file` | name of the test |. */
interface Row {
  readonly clause: string;
  readonly file: string;
  readonly name: string;
}

function rows(): readonly Row[] {
  return readFileSync(`${HERE}README.md`, 'utf8')
    .split('\n')
    .flatMap((line): Row[] => {
      const [, clause, file, name] = /^\| (.+?) +\| `([a-z-]+\.test\.ts)` +\| (.+?) +\|$/.exec(line) ?? [];
      return clause === undefined || file === undefined || name === undefined ? [] : [{ clause, file, name }];
    });
}

/** The names given to `it` and `it.each(…)` in a test file, as they stand in the source. */
function testNames(file: string): ReadonlySet<string> {
  const source = readFileSync(`${HERE}${file}`, 'utf8');
  const names = source.matchAll(/^\s*(?:it|\](?: as const)?\)|it\.each\(.*\))\(\s*'((?:[^'\\]|\\.)*)'/gm);
  return new Set([...names].map(([, name = '']) => name.replaceAll("\\'", "'")));
}

describe('the matrix in the README', () => {
  it('has a row for every clause', () => {
    expect(rows().length).toBeGreaterThan(40);
  });

  it.each(rows())('names a test that exists: $clause', ({ file, name }) => {
    expect([...testNames(file)]).toContain(name);
  });

  it('names every conformance test', () => {
    const named = new Set(rows().map(({ file, name }) => `${file}: ${name}`));
    const files = readdirSync(HERE).filter((file) => file.endsWith('.test.ts') && !UNLISTED.includes(file));
    const all = files.flatMap((file) => [...testNames(file)].map((name) => `${file}: ${name}`));
    expect(all.length).toBeGreaterThan(40);
    expect(all.filter((test) => !named.has(test))).toEqual([]);
  });
});
