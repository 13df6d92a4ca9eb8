/** @throws RangeError unless `value` is a finite number of at least `least` */
export function assertMilliseconds(what: string, value: number, least: number): void {
  if (!Number.isFinite(value) || value < least) {
    throw new RangeError(`Invalid ${what} ${value}: expected a number of milliseconds of at least ${least}`);
  }
}
