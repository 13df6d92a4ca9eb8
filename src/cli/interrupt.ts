/**
 * Aborted by the first SIGINT or SIGTERM, so that what is under way ends where it can go on later; a second one ends the
 * process at once.
 */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () =>
      controller.abort(new Error(`Interrupted by ${signal}: run it again to go on`)),
    );
  }
  return controller.signal;
}
