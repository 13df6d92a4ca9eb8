import type { Readable, Writable } from 'node:stream';

/** What a command has of the process that runs it. */
export interface CliContext {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable;
  /** The machine's host name. */
  readonly hostname: string;
  /** Of Snowcap. */
  readonly version: string;
}

/** Writes text and waits where the other end is slower. Rejects when it is gone. */
export function write(stream: Writable, chunk: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
}
