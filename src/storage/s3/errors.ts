import { redactText } from '../../telemetry/redact.ts';
import { StorageError } from '../blob-store.ts';

/** What an answer of S3, or the want of one, says. */
export interface S3Fault {
  /** As `NoSuchKey`; that of the SDK where the answer had none, as `NotFound` or `TimeoutError`. */
  readonly code: string;
  /** HTTP status; null where there was no answer. */
  readonly status: number | null;
  readonly message: string;
  /** A header of the answer, by its name in lower case. */
  header(name: string): string | undefined;
}

/** What is known of an error that the SDK threw. */
export function faultOf(error: unknown): S3Fault {
  const status = property(property(error, '$metadata'), 'httpStatusCode');
  const headers = property(property(error, '$response'), 'headers');
  return {
    code: error instanceof Error ? error.name : 'UnknownError',
    status: typeof status === 'number' ? status : null,
    message: error instanceof Error ? error.message : String(error),
    header(name) {
      const value = property(headers, name);
      return typeof value === 'string' ? value : undefined;
    },
  };
}

/**
 * The error of a store that could not do what was asked. The SDK's error is no cause of it, as that carries
 * whole answers: `SignatureDoesNotMatch` has what was signed (law 10). The error of a connection is.
 *
 * @param operation as a verb: `read`
 * @param place a key, or what else the operation was about
 */
export function failed(operation: string, place: string, error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  const { code, status, message } = faultOf(error);
  const answer = status === null ? code : `${code}, status ${status}`;
  const hint = status === 403 ? '; S3 says so of a missing key too where s3:ListBucket is not permitted' : '';
  const text = message === '' || message === code ? '' : `: ${redactText(message)}`;
  return new StorageError(
    `Cannot ${operation} ${JSON.stringify(place)}: S3 gave ${answer}${text}${hint}`,
    status === null && error instanceof Error ? { cause: error } : {},
  );
}

/** Whether an object, and nothing else, is missing: no `NoSuchBucket`, and no 404 of some other server. */
export function isMissingKey({ code, status }: S3Fault): boolean {
  return status === 404 && code === 'NoSuchKey';
}

/** Whether the server does not know what was asked of it at all. */
export function isUnknownToServer({ code, status }: S3Fault): boolean {
  return status === 501 || code === 'NotImplemented';
}

function property(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
