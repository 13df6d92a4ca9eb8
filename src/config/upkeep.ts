import { CronPattern } from 'croner';
import { ValueError } from './values.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
/** The most days that are taken: a hundred years. */
const MOST_DAYS = 36_500;

/**
 * When something is done again and again: a pattern of cron, or `off`.
 *
 * @returns null for `off`
 * @throws ValueError
 */
export function parseSchedule(text: string): string | null {
  if (text === 'off') return null;
  try {
    new CronPattern(text);
  } catch (cause) {
    throw new ValueError('expected a pattern of cron, as "0 * * * *" for every hour, or "off"', null, {
      cause,
    });
  }
  return text;
}

/** A part of a whole in per cent, as `90%`. @returns from 0 to 1 @throws ValueError */
export function parsePart(text: string): number {
  const match = /^(\d{1,3}(?:\.\d{1,3})?)\s?%$/.exec(text);
  const part = match === null ? Number.NaN : Number(match[1]) / 100;
  if (!(part >= 0 && part <= 1)) throw new ValueError('expected a part from 0% to 100%, as 90%');
  return part;
}

/** A number of days, as `30d`. @returns milliseconds @throws ValueError */
export function parseDays(text: string, words = ''): number {
  const match = /^(\d{1,5})\s?d$/.exec(text);
  const days = match === null ? Number.NaN : Number(match[1]);
  if (!(days <= MOST_DAYS)) {
    throw new ValueError(`expected ${words}a number of days up to ${MOST_DAYS}, as 30d`);
  }
  return days * DAY_MS;
}

/** Days, or `never`. @returns milliseconds; null for `never` @throws ValueError */
export function parseDaysOrNever(text: string): number | null {
  return text === 'never' ? null : parseDays(text, '"never" or ');
}

/** Days, `never`, or `always`, which is no day at all. @returns milliseconds; null for `never` @throws ValueError */
export function parseRetention(text: string): number | null {
  if (text === 'never') return null;
  return text === 'always' ? 0 : parseDays(text, '"never", "always" or ');
}

/** The hash of a token, as `snowcap token generate` prints it. @throws ValueError, which shows nothing of it */
export function parseTokenHash(text: string): string {
  if (!/^sha256:[0-9a-f]{64}$/.test(text)) {
    throw new ValueError(
      'expected "sha256:" and 64 hexadecimal digits, the hash of a token and not the token ("snowcap token generate" prints both)',
      '…',
    );
  }
  return text;
}
