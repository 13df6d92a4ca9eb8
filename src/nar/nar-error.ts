/** Thrown where bytes are not a well-formed NAR. */
export class NarError extends Error {
  override readonly name = 'NarError';
  /** Where in the archive, in bytes from its start. */
  readonly offset: number;

  /** @param why one clause without a full stop, as `expected "(", found "type"` */
  constructor(offset: number, why: string) {
    super(`Cannot parse NAR at byte ${offset}: ${why}`);
    this.offset = offset;
  }
}
