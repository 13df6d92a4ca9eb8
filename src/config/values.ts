import { FormatError } from '../nix/format-error.ts';

/** A value that is not of the form that a setting wants. */
export class ValueError extends Error {
  override readonly name = 'ValueError';
  /** The part of the value that was refused, where the value is a list; null: all of it. */
  readonly given: string | null;

  /** @param message what was expected, or what is wrong, in a clause */
  constructor(message: string, given: string | null = null, options?: ErrorOptions) {
    super(message, options);
    this.given = given;
  }
}

const FACTORS: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/**
 * A size in bytes: a whole number, alone or with one of the binary suffixes K, M, G, T (`64M`, `64MiB`).
 *
 * @throws ValueError also for less than `least` bytes
 */
export function parseSize(text: string, least = 0): number {
  const match = /^(\d{1,16})\s?([KMGT]?)(?:iB)?$/i.exec(text);
  const bytes =
    match === null ? Number.NaN : Number(match[1]) * (FACTORS[(match[2] ?? '').toUpperCase()] ?? Number.NaN);
  if (!Number.isSafeInteger(bytes)) {
    throw new ValueError(
      'expected a number of bytes with an optional suffix K, M, G or T (times 1024), as 64M',
    );
  }
  if (bytes < least) throw new ValueError(`expected at least ${least} bytes`);
  return bytes;
}

/** Timers take no longer delay, in seconds: 24 days. */
const MOST_SECONDS = Math.floor((2 ** 31 - 1) / 1000);

/**
 * A time in seconds, with decimals if need be.
 *
 * @returns milliseconds
 * @throws ValueError also for a time shorter than a millisecond where `orZero` is false
 */
export function parseSeconds(text: string, orZero: boolean): number {
  const seconds = /^\d{1,9}(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN;
  const milliseconds = Math.round(seconds * 1000);
  const least = orZero ? 0 : 1;
  if (!(milliseconds >= least) || seconds > MOST_SECONDS) {
    throw new ValueError(
      `expected a number of seconds ${orZero ? 'from 0' : 'above 0'} to ${MOST_SECONDS}, without a unit`,
    );
  }
  return milliseconds;
}

/** A whole number from `least` to `most`. @throws ValueError */
export function parseCount(text: string, most: number, least = 0): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(count >= least && count <= most))
    throw new ValueError(`expected a whole number from ${least} to ${most}`);
  return count;
}

/**
 * `host:port`, `[IPv6]:port` or `:port`.
 *
 * @returns the host without brackets, null for every interface
 * @throws ValueError
 */
export function parseListen(text: string): { readonly host: string | null; readonly port: number } {
  const match = /^(?:\[([0-9a-f:.]+(?:%[^\]\s]+)?)\]|([^\s:/[\]@]*)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new ValueError('expected host:port, [IPv6 address]:port or :port, with a port from 0 to 65535');
  }
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' ? null : host, port };
}

/** One of the values given, in lower case. @throws ValueError */
export function parseChoice<const Choice extends string>(text: string, choices: readonly Choice[]): Choice {
  const found = choices.find((choice) => choice === text);
  if (found === undefined)
    throw new ValueError(`expected ${choices.map((choice) => `"${choice}"`).join(' or ')}`);
  return found;
}

/** The path of a file or directory, as it is. @throws ValueError */
export function parsePath(text: string): string {
  if (text.includes('\0')) throw new ValueError('expected a path without NUL characters');
  if (text.startsWith('~'))
    throw new ValueError('expected a path; "~" is not expanded here, so write it out');
  return text;
}

/** The store directory: an absolute path without `.`, `..` and empty segments. @throws ValueError */
export function parseStoreDir(text: string): string {
  const path = text.length > 1 ? text.replace(/\/$/, '') : text;
  const segments = path.split('/').slice(1);
  const fits = (segment: string): boolean => /^[0-9A-Za-z+._?=-]+$/.test(segment) && !/^\.\.?$/.test(segment);
  if (!path.startsWith('/') || !segments.every(fits)) {
    throw new ValueError('expected an absolute path, as /nix/store');
  }
  return path;
}

/** The name of a host, fit for the name of a key. @throws ValueError */
export function parseHostname(text: string): string {
  if (!/^[0-9A-Za-z][0-9A-Za-z._-]{0,199}$/.test(text)) {
    throw new ValueError('expected a name of letters, digits, ".", "_" and "-"');
  }
  return text;
}

/**
 * A proxy: an http or https URL; without a scheme, http is meant, as curl has it.
 *
 * @throws ValueError
 */
export function parseProxy(text: string): string {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const parsed = URL.canParse(url) ? new URL(url) : null;
  if (
    parsed === null ||
    (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') ||
    parsed.hostname === ''
  ) {
    throw new ValueError('expected the URL of an http or https proxy, as http://proxy.example.org:3128');
  }
  return url;
}

/** Several elements of one list that were refused. */
export class ListError extends Error {
  override readonly name = 'ListError';
  readonly problems: readonly ValueError[];

  constructor(problems: readonly ValueError[]) {
    super(problems.map((problem) => problem.message).join('; '));
    this.problems = problems;
  }
}

/**
 * The elements of a list separated by white space; an empty list is a list.
 *
 * @throws ListError with every element that `parse` refuses
 */
export async function parseList<Value>(
  text: string,
  parse: (element: string) => Value | Promise<Value>,
): Promise<readonly Value[]> {
  const values: Value[] = [];
  const problems: ValueError[] = [];
  for (const element of text.split(/\s+/)) {
    if (element === '') continue;
    try {
      values.push(await parse(element));
    } catch (cause) {
      problems.push(refusal(cause, element));
    }
  }
  if (problems.length > 0) throw new ListError(problems);
  return values;
}

function refusal(cause: unknown, element: string): ValueError {
  if (cause instanceof ValueError && cause.given !== null) return cause;
  if (cause instanceof FormatError) return new ValueError(cause.why, element, { cause });
  return new ValueError(cause instanceof Error ? cause.message : String(cause), element, { cause });
}
