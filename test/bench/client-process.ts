import { createHash } from 'node:crypto';
import { answerCalls } from './child-process.ts';
import { HttpConnection, monotonicNow } from './http-connection.ts';

/** What the load client can be asked to do. */
export type ClientCall =
  /** Every path once, over so many connections that each take the next path when they are free. */
  | {
      readonly kind: 'drain';
      readonly port: number;
      readonly paths: readonly string[];
      readonly connections: number;
      /** What every answer must have; anything else is an error. */
      readonly status: number;
    }
  /** The paths round and round, until the time is over. */
  | {
      readonly kind: 'load';
      readonly port: number;
      readonly paths: readonly string[];
      readonly connections: number;
      /** What every answer must have; anything else is an error. */
      readonly status: number;
      readonly milliseconds: number;
    }
  /** One connection for each stream, that begins so many milliseconds after the call. */
  | { readonly kind: 'streams'; readonly port: number; readonly streams: readonly StreamCall[] };

export interface StreamCall {
  readonly path: string;
  readonly afterMs: number;
  /** Whether the body is hashed; hashing costs the client more than reading. */
  readonly hash: boolean;
}

export interface StreamResult {
  /** Of the monotonic clock, in milliseconds. */
  readonly arrivedAt: number;
  readonly firstByteAt: number;
  readonly endedAt: number;
  readonly bytes: number;
  /** Hex SHA-256; null where it was not asked for. */
  readonly sha256: string | null;
}

export interface ClientAnswer {
  readonly milliseconds: number;
  readonly requests: number;
  readonly bytes: number;
  readonly streams: readonly StreamResult[];
}

answerCalls<ClientCall, ClientAnswer>(async (call) => {
  switch (call.kind) {
    case 'drain':
      return await drain(call, Infinity);
    case 'load':
      return await drain(call, call.milliseconds);
    case 'streams': {
      const from = monotonicNow();
      const streams = await Promise.all(call.streams.map((stream) => readStream(call.port, stream)));
      return {
        milliseconds: monotonicNow() - from,
        requests: streams.length,
        bytes: streams.reduce((sum, { bytes }) => sum + bytes, 0),
        streams,
      };
    }
  }
});

/** Asks for the paths once (`limitMs` infinite), or over and over until `limitMs` are gone. */
async function drain(
  { port, paths, connections, status }: Omit<Extract<ClientCall, { kind: 'drain' }>, 'kind'>,
  limitMs: number,
): Promise<ClientAnswer> {
  let next = 0;
  let bytes = 0;
  const from = monotonicNow();
  const isOver = (): boolean =>
    limitMs === Infinity ? next >= paths.length : monotonicNow() - from >= limitMs;
  const worker = async (): Promise<void> => {
    const connection = new HttpConnection(port);
    try {
      while (!isOver()) {
        const path = paths[next++ % paths.length];
        if (path === undefined) return;
        const answer = await connection.request(path);
        if (answer.status !== status) throw new Error(`GET ${path}: status ${answer.status}`);
        bytes += answer.bytes;
      }
    } finally {
      connection.close();
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  return { milliseconds: monotonicNow() - from, requests: next, bytes, streams: [] };
}

async function readStream(port: number, { path, afterMs, hash }: StreamCall): Promise<StreamResult> {
  await new Promise((resolve) => setTimeout(resolve, afterMs));
  const digest = hash ? createHash('sha256') : null;
  const connection = new HttpConnection(port);
  const arrivedAt = monotonicNow();
  try {
    const answer = await connection.request(path, (chunk) => digest?.update(chunk));
    if (answer.status !== 200) throw new Error(`GET ${path}: status ${answer.status}`);
    return {
      arrivedAt,
      firstByteAt: answer.firstByteAt,
      endedAt: monotonicNow(),
      bytes: answer.bytes,
      sha256: digest?.digest('hex') ?? null,
    };
  } finally {
    connection.close();
  }
}
