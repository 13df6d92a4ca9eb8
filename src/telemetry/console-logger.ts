import { loggable } from './loggable.ts';
import type { LogFields, Logger } from './logger.ts';
import { redactText } from './redact.ts';

export type ConsoleLogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface ConsoleLoggerOptions {
  /** Lines below it are dropped. */
  readonly level: ConsoleLogLevel;
  /** Where lines go. @default the console, by the method of the level's name */
  readonly write?: (level: ConsoleLogLevel, line: string) => void;
  /** Milliseconds since the epoch. @default Date.now */
  readonly now?: () => number;
}

const LEVELS: readonly ConsoleLogLevel[] = ['debug', 'info', 'warn', 'error'];

/**
 * One line of JSON for each call, with the fields that the log of Node has and redacted alike, on the console: for
 * runtimes whose platform collects that.
 */
export function createConsoleLogger(options: ConsoleLoggerOptions): Logger {
  return loggerWith(options, {});
}

function loggerWith(options: ConsoleLoggerOptions, base: LogFields): Logger {
  const { write = writeToConsole, now = Date.now } = options;
  const least = LEVELS.indexOf(options.level);
  const at = (level: ConsoleLogLevel) => {
    if (LEVELS.indexOf(level) < least) return () => undefined;
    return (message: string, fields: LogFields = {}): void => {
      const shown = loggable({ ...base, ...fields }, true);
      const time = new Date(now()).toISOString();
      write(level, JSON.stringify({ level, time, ...shown, msg: redactText(message) }));
    };
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (fields) => loggerWith(options, { ...base, ...fields }),
  };
}

function writeToConsole(level: ConsoleLogLevel, line: string): void {
  console[level](line);
}
