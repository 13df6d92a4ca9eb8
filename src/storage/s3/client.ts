import { S3Client } from '@aws-sdk/client-s3';
import type { S3ClientConfig } from '@aws-sdk/client-s3';
import { base64Md5 } from './digest.ts';
import { failed } from './errors.ts';
import type { S3Settings } from './options.ts';

/** What every operation on the bucket takes. */
export interface S3Context {
  readonly client: S3Client;
  readonly settings: S3Settings;
  readonly bucket: string;
  /** SHA-256, in hexadecimal, of the bodies that are about to be sent. */
  readonly payloadHashes: WeakMap<Uint8Array, string>;
  /** Ids of the multipart uploads under way, which no sweep may take. */
  readonly liveUploads: Set<string>;
  /** What is found out about the server meanwhile. */
  readonly server: ServerFacts;
}

/** Facts that are learnt once. */
export interface ServerFacts {
  /** Whether writes can have a condition. */
  conditionalWrites: boolean;
  /** Whether the bucket was seen: a HEAD cannot tell a missing bucket from a missing object. */
  bucketSeen: boolean;
}

/**
 * The SDK's client for an endpoint.
 *
 * Checksums: `WHEN_REQUIRED`. Each body goes out with its SHA-256, which is part of the signature and which
 * the server holds against what it got, so the CRC32 that the SDK adds otherwise would be a second look at
 * the same bytes, with headers that some servers do not know. What comes in is not checked again: NARs were
 * verified before they were stored, clients check NarHash, and the checksum of a multipart object says
 * nothing about a range of it.
 *
 * `Expect: 100-continue` is off: parts are sent again whole, and R2 knows no 100.
 */
export function createClient(
  settings: S3Settings,
  endpoint: string | undefined,
  payloadHashes: WeakMap<Uint8Array, string>,
): S3Client {
  const config: S3ClientConfig = {
    forcePathStyle: settings.pathStyle ?? false,
    maxAttempts: settings.maxAttempts,
    retryMode: 'standard',
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    expectContinueHeader: false,
    // Whatever it has to say is in the errors; what it would write has whole requests in it.
    logger: SILENT,
  };
  if (settings.region !== undefined) config.region = settings.region;
  if (endpoint !== undefined) config.endpoint = endpoint;
  const { credentials } = settings;
  if (typeof credentials === 'function') config.credentials = credentials;
  // A copy: the SDK writes into it.
  else if (credentials !== undefined) config.credentials = { ...credentials };
  if (settings.requestHandler !== undefined) config.requestHandler = settings.requestHandler;
  const client = new S3Client(config);
  client.middlewareStack.add(
    (next, { commandName }) =>
      (args) => {
        if (isRequest(args.request)) setDigests(args.request, args.input, commandName, payloadHashes);
        return next(args);
      },
    { step: 'build', name: 'snowcapDigests' },
  );
  client.middlewareStack.add(
    (next) => async (args) => {
      try {
        return await next(args);
      } catch (error) {
        throw retryable(error);
      }
    },
    // The innermost: what is thrown here comes from the connection.
    { step: 'deserialize', priority: 'low', name: 'snowcapConnectionFaults' },
  );
  return client;
}

/**
 * Marks the error of a connection as one that may not come again: the SDK knows those of Node and browsers,
 * not of workerd.
 */
function retryable(error: unknown): unknown {
  if (!(error instanceof Error) || error.name === 'AbortError') return error;
  return Object.assign(error, { $retryable: { throttling: false } });
}

/** An HTTP request as the SDK builds it. */
interface Request {
  readonly headers: Record<string, string>;
  readonly body?: unknown;
}

function isRequest(request: unknown): request is Request {
  return typeof request === 'object' && request !== null && 'headers' in request;
}

/**
 * The digests that we know already, or that the SDK does not send. `Content-MD5` of a DeleteObjects is what
 * all servers take; the CRC32 that the SDK sends with it is not known to all.
 */
function setDigests(
  { headers, body }: Request,
  input: object,
  commandName: string | undefined,
  payloadHashes: WeakMap<Uint8Array, string>,
): void {
  const hash =
    'Body' in input && input.Body instanceof Uint8Array ? payloadHashes.get(input.Body) : undefined;
  if (hash !== undefined) headers['x-amz-content-sha256'] = hash;
  if (commandName === 'DeleteObjectsCommand' && typeof body === 'string') {
    headers['content-md5'] = base64Md5(body);
  }
}

const SILENT = { debug() {}, info() {}, warn() {}, error() {} };

/** The key in the bucket of a key of the store. */
export function bucketKey(context: S3Context, key: string): string {
  return context.settings.prefix + key;
}

/** What `client.send` takes beside the command. */
export interface SendOptions {
  readonly requestTimeout: number;
  readonly abortSignal?: AbortSignal;
}

/** Bytes for each millisecond of time that a body is given on its way to the server: 100 kB/s. */
const LEAST_PACE = 100;

/** @param bytes the size of what is sent */
export function sendOptions(
  context: S3Context,
  signal: AbortSignal | undefined,
  bytes: number = 0,
): SendOptions {
  const requestTimeout = context.settings.requestTimeoutMs + Math.ceil(bytes / LEAST_PACE);
  return signal === undefined ? { requestTimeout } : { requestTimeout, abortSignal: signal };
}

/**
 * The error with which an operation ends: the reason of its signal where that is why it ended.
 */
export function failure(
  operation: string,
  place: string,
  error: unknown,
  signal: AbortSignal | undefined,
): unknown {
  return signal?.aborted === true ? signal.reason : failed(operation, place, error);
}

/** Milliseconds before the n-th new attempt (from 1), with full jitter; ends early with the signal's reason. */
export async function backOff(
  context: S3Context,
  attempt: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  const ms = context.settings.random() * Math.min(5_000, 100 * 2 ** attempt);
  const over = Promise.withResolvers<void>();
  const onAbort = (): void => {
    over.reject(signal?.reason);
  };
  const timer = setTimeout(over.resolve, ms);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await over.promise;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
