/**
 * An answer that HTTP forbids, or that cannot be understood: a fault of the upstream. The message goes on from the
 * upstream's name: `answered 206 without a Range`.
 */
export class InvalidAnswerError extends Error {
  override readonly name = 'InvalidAnswerError';
}
