import type { Writable } from 'node:stream';
import { pino } from 'pino';
import type { DestinationStream, Logger as PinoLogger } from 'pino';
import type { Logger, LogFields } from './logger.ts';
import { loggable } from './loggable.ts';
import { redactText } from './redact.ts';

/** How and where a log is written. */
export interface PinoLoggerOptions {
  /** Lines below it are dropped. */
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  /** `json`: one object per line, for programs. `pretty`: one sentence per line, for people. */
  readonly format: 'pretty' | 'json';
  /** A file descriptor, or a stream that lines are written to at once. @default 1, the standard output */
  readonly destination?: number | Writable;
}

/** A logger whose lines may still be in memory. */
export interface BufferedLogger extends Logger {
  /**
   * Resolves when everything logged so far was handed to the system, or after a second if that is not possible. For an orderly
   * end. Never rejects: a log that cannot be written has no place to say so.
   */
  flush(): Promise<void>;
  /** The same at once, blocking: for the last line before the process ends because of an error. */
  flushSync(): void;
}

/** JSON lines are written in pieces of about this many bytes… */
const BUFFERED_BYTES = 8 * 1024;

/** …or this many milliseconds after they were logged, whichever comes first. */
const FLUSH_MS = 100;

/** An orderly end waits no longer than this for the lines that are left, in milliseconds. */
const FLUSH_LIMIT_MS = 500;

/** Where nobody reads the other end of a pipe, lines past this many bytes are dropped: memory is bounded. */
const MOST_BYTES_WAITING = 16 * 1024 * 1024;

/**
 * A logger on pino. JSON lines have `level` (by name), `time` (ISO 8601, UTC), the fields, and `msg`; they
 * are gathered in memory and written asynchronously, since a write per line costs more than the line
 * itself. Pretty lines are written at once.
 */
export async function createPinoLogger(options: PinoLoggerOptions): Promise<BufferedLogger> {
  const { level, format, destination = 1 } = options;
  const sink = format === 'pretty' ? await prettySink(destination) : jsonSink(destination);
  const root = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    sink.stream,
  );
  // A person who reads along wants the sentence; where an error came from is in its causes.
  return { ...wrap(root, format === 'json'), flush: sink.flush, flushSync: sink.flushSync };
}

function wrap(logger: PinoLogger, stacks: boolean): Logger {
  const method =
    (level: 'debug' | 'info' | 'warn' | 'error') =>
    (message: string, fields?: LogFields): void => {
      if (!logger.isLevelEnabled(level)) return;
      if (fields === undefined) logger[level](redactText(message));
      else logger[level](loggable(fields, stacks), redactText(message));
    };
  return {
    debug: method('debug'),
    info: method('info'),
    warn: method('warn'),
    error: method('error'),
    with: (fields) => wrap(logger.child(loggable(fields, stacks)), stacks),
  };
}

interface Sink {
  readonly stream: DestinationStream;
  flush(): Promise<void>;
  flushSync(): void;
}

function jsonSink(destination: number | Writable): Sink {
  if (typeof destination !== 'number') return unbuffered(destination);
  const buffer = pino.destination({
    dest: destination,
    sync: false,
    minLength: BUFFERED_BYTES,
    maxLength: MOST_BYTES_WAITING,
  });
  // The library's own periodic flush writes an empty piece each time, also when nothing happens for days.
  let timer: NodeJS.Timeout | undefined;
  const flushSoon = (): void => {
    timer = undefined;
    buffer.flush();
  };
  return {
    stream: {
      write: (line) => {
        buffer.write(line);
        timer ??= setTimeout(flushSoon, FLUSH_MS).unref();
      },
    },
    flush: async () => {
      // While a piece is being written, a flush waits for that one only: the second one writes the rest.
      await flushed(buffer);
      await flushed(buffer);
    },
    flushSync: () => {
      buffer.flushSync();
    },
  };
}

function flushed(buffer: ReturnType<typeof pino.destination>): Promise<void> {
  return new Promise((resolve) => {
    // A reader that stands still must not keep the process from ending.
    const limit = setTimeout(resolve, FLUSH_LIMIT_MS);
    // The error is that of fsync, which pipes and terminals refuse: the lines are written all the same.
    buffer.flush(() => {
      clearTimeout(limit);
      resolve();
    });
  });
}

async function prettySink(destination: number | Writable): Promise<Sink> {
  const { build, isColorSupported } = await import('pino-pretty');
  const stream = build({
    destination,
    sync: true,
    colorize: typeof destination === 'number' && isColorSupported,
    ignore: 'pid,hostname',
    translateTime: 'SYS:HH:MM:ss.l',
    singleLine: true,
    // Errors are plain objects by now, and stay on the line.
    errorLikeObjectKeys: [],
  });
  return unbuffered(stream);
}

function unbuffered(stream: DestinationStream): Sink {
  return { stream, flush: () => Promise.resolve(), flushSync: () => undefined };
}
