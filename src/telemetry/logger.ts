/** Structured fields of a log line. Never a secret (law 10): URLs go through `redactUrl` first. */
export type LogFields = Readonly<Record<string, unknown>>;

/** One line per call: a sentence for people, fields for programs. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds these fields to each of its lines. */
  with(fields: LogFields): Logger;
}

/** Drops every line: for tests and for callers that have no logger. */
export const silentLogger: Logger = {
  debug() {},
  info() {},
  warn() {},
  error() {},
  with() {
    return silentLogger;
  },
};
