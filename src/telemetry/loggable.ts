import type { LogFields } from './logger.ts';
import { redactText, redactUrl } from './redact.ts';

/** Fields with these names never show their value, whatever it is. */
const SECRET_NAME =
  /^(authorization|proxy-?authorization|cookie|set-?cookie|password|passwd|token|secret|secret-?keys?|credentials?|api-?key)$/i;

/** How deep objects, arrays and causes are followed. */
const DEPTH = 5;

/** How much of an array or of an object is shown. */
const WIDTH = 100;

/**
 * Fields that may be written to a log: errors become plain objects with their causes, URLs lose their
 * credentials, also within strings, and fields named as secrets are masked (law 10). It is the last
 * line: callers give no secrets in the first place.
 *
 * @param stacks whether errors show where they came from
 */
export function loggable(fields: LogFields, stacks: boolean): Record<string, unknown> {
  return loggableObject(fields, stacks, DEPTH);
}

function loggableObject(fields: LogFields, stacks: boolean, depth: number): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  let count = 0;
  for (const name of Object.keys(fields)) {
    count += 1;
    if (count > WIDTH) break;
    out[name] = isSecretName(name) ? '…' : loggableValue(fields[name], stacks, depth);
  }
  return out;
}

/** Names repeat on every line, so the answer of the expression is kept; up to a bound. */
const knownNames = new Map<string, boolean>();

function isSecretName(name: string): boolean {
  const known = knownNames.get(name);
  if (known !== undefined) return known;
  const secret = SECRET_NAME.test(name);
  if (knownNames.size < 1000) knownNames.set(name, secret);
  return secret;
}

function loggableValue(value: unknown, stacks: boolean, depth: number): unknown {
  if (typeof value === 'string') return redactText(value);
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return loggableError(value, stacks, depth);
  if (value instanceof URL) return redactUrl(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if (depth === 0) return '[…]';
  if (Array.isArray(value) || value instanceof Set || value instanceof Map) {
    const items: readonly unknown[] = [...value];
    return items.slice(0, WIDTH).map((item) => loggableValue(item, stacks, depth - 1));
  }
  return loggableObject({ ...value }, stacks, depth - 1);
}

/** An error as a log shows it. Other properties of it are left out: nobody knows what they hold. */
interface LoggableError {
  readonly type: string;
  readonly message: string;
  readonly code?: string | number;
  readonly stack?: string;
  readonly cause?: unknown;
  readonly errors?: readonly unknown[];
}

function loggableError(error: Error, stacks: boolean, depth: number): LoggableError {
  const code = 'code' in error && isPlain(error.code) ? error.code : undefined;
  // The stack begins with the message, so it has to be cleaned as well.
  const stack = stacks && error.stack !== undefined ? redactText(error.stack) : undefined;
  const causes = depth > 0;
  return {
    type: error.name,
    message: redactText(error.message),
    ...(code !== undefined && { code }),
    ...(stack !== undefined && { stack }),
    ...(causes && error.cause !== undefined && { cause: loggableValue(error.cause, stacks, depth - 1) }),
    ...(causes &&
      error instanceof AggregateError && {
        errors: error.errors.slice(0, WIDTH).map((each: unknown) => loggableValue(each, stacks, depth - 1)),
      }),
  };
}

function isPlain(value: unknown): value is string | number {
  return typeof value === 'string' || typeof value === 'number';
}
