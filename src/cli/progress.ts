import type { Writable } from 'node:stream';

/** One line of a terminal that says how far something is. Nothing at all elsewhere. */
export interface Progress {
  /** Shows a text in place of the last one; at most a few times a second. */
  show(text: string): void;
  /** Clears the line: what comes next begins at its start. */
  end(): void;
}

/** Milliseconds between two updates: people read no faster, and slow terminals are not held up. */
const EVERY_MS = 200;

/** @param stream best the standard error, so that the output stays what programs read */
export function createProgress(
  stream: Writable & { readonly isTTY?: boolean; readonly columns?: number },
): Progress {
  if (stream.isTTY !== true) return { show: () => undefined, end: () => undefined };
  let shownAt = Number.NEGATIVE_INFINITY;
  return {
    show(text) {
      const now = performance.now();
      if (now - shownAt < EVERY_MS) return;
      shownAt = now;
      // To the start of the line, the text without its end where it is too long, and nothing after it.
      stream.write(`\r${text.slice(0, (stream.columns ?? 80) - 1)}\u001B[K`);
    },
    end() {
      if (shownAt !== Number.NEGATIVE_INFINITY) stream.write('\r\u001B[K');
    },
  };
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** A number of bytes for people: `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? String(value) : value.toFixed(1)} ${UNITS[unit] ?? 'B'}`;
}
