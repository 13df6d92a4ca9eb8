import { styleText } from 'node:util';

let failed = 0;

/** How many expectations were not met so far. */
export function failures(): number {
  return failed;
}

export function heading(text: string): void {
  print(`\n${styleText('bold', text)}`);
}

export function note(text: string): void {
  print(`  ${text}`);
}

/** Text as a program said it, set apart. */
export function quote(text: string): void {
  for (const line of text.trimEnd().split('\n')) print(`    ${styleText('dim', `│ ${line}`)}`);
}

/** Prints whether a step went as it should, and counts it if it did not. */
export function expect(what: string, met: boolean): void {
  if (!met) failed += 1;
  print(`  ${met ? styleText('green', '✓') : styleText('red', '✗')} ${what}`);
}

/** Milliseconds for a reader. */
export function shown(milliseconds: number): string {
  return `${milliseconds.toFixed(1)} ms`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
