import { InvalidArgumentError } from 'commander';
import { parseCount, parseSeconds, parseSize } from '../config/values.ts';
import { parseDays } from '../config/upkeep.ts';

/** The values of flags that are numbers, for commander: what they throw becomes its message about the flag. */

/** @throws InvalidArgumentError */
export function parseConcurrency(text: string): number {
  return flag(() => parseCount(text, 256, 1));
}

/** @returns bytes @throws InvalidArgumentError */
export function parseBytesPerSecond(text: string): number {
  return flag(() => parseSize(text, 1));
}

/** @returns milliseconds @throws InvalidArgumentError */
export function parseMaxTime(text: string): number {
  return flag(() => parseSeconds(text, false));
}

/** @returns milliseconds @throws InvalidArgumentError */
export function parseHours(text: string): number {
  return flag(() => parseCount(text, 24 * 365)) * 60 * 60 * 1000;
}

/** @returns milliseconds @throws InvalidArgumentError */
export function parseExpiry(text: string): number {
  return flag(() => parseDays(text));
}

function flag(parse: () => number): number {
  try {
    return parse();
  } catch (error) {
    throw new InvalidArgumentError(error instanceof Error ? error.message : String(error));
  }
}
