/**
 * Something that went wrong in a way that people can act upon: its message is shown without a stack, and the
 * command ends with its exit code.
 */
export class Failure extends Error {
  override readonly name = 'Failure';
  readonly exitCode: number;

  /** @param options.exitCode where another one than 1 tells more */
  constructor(message: string, options: ErrorOptions & { readonly exitCode?: number } = {}) {
    super(message, options);
    this.exitCode = options.exitCode ?? 1;
  }
}

/** A mistake in how the command was called: exit code 2. */
export class UsageFailure extends Error {
  override readonly name = 'UsageFailure';
}

/** The message of an error with those of its causes, for people: `Cannot read "x": permission denied`. */
export function explain(error: unknown): string {
  const messages: string[] = [];
  for (let each = error; each !== undefined && each !== null && messages.length < 5;) {
    const message =
      each instanceof Error ? each.message || each.name : typeof each === 'string' ? each : 'unknown error';
    if (!messages.some((known) => known.includes(message))) messages.push(message);
    each = each instanceof Error ? each.cause : undefined;
  }
  return messages.join(': ');
}
