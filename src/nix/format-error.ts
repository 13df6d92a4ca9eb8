const SHOWN_VALUE_LENGTH = 120;

/**
 * Text that is not in the format it should be in. The message names the field and the value, which is
 * shortened there; `value` has it whole.
 *
 * @example
 * new FormatError('narinfo', 'NarSize', '0', 'expected a positive number of bytes').message
 * // 'Cannot parse narinfo: NarSize "0": expected a positive number of bytes'
 */
export class FormatError extends Error {
  override readonly name = 'FormatError';
  /** The field in the words of the format, as `NarSize`. */
  readonly field: string;
  /** The value as it was found; a stand-in where the value is secret; empty where the field is missing. */
  readonly value: string;
  /** What is wrong with it, as one clause. */
  readonly why: string;

  /**
   * @param what the format, as `narinfo`
   * @param why one clause without a full stop
   */
  constructor(what: string, field: string, value: string, why: string) {
    super(`Cannot parse ${what}: ${field} ${JSON.stringify(shorten(value))}: ${why}`);
    this.field = field;
    this.value = value;
    this.why = why;
  }
}

function shorten(value: string): string {
  if (value.length <= SHOWN_VALUE_LENGTH) return value;
  return `${value.slice(0, SHOWN_VALUE_LENGTH)}… (${value.length} characters)`;
}
