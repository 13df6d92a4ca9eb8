import type { MeasuredServer } from './server-process.ts';

export const BACKENDS = ['files', 's3', 'workerd'] as const;
export type BackendName = (typeof BACKENDS)[number];

/** Where Snowcap runs, and what it keeps bodies and index in. */
export interface Backend {
  readonly name: BackendName;
  /** An empty cache, for one Snowcap or for several that share it. */
  openPlace(): Promise<Place>;
  /** Ends what all places have in common. */
  stop(): Promise<void>;
}

export interface Place {
  /** Starts a Snowcap, with its defaults but for `settings`. */
  start(options: SnowcapOptions): Promise<MeasuredServer>;
  /** Where an object is read from the store itself, without Snowcap; null where nobody serves it. */
  readonly direct: ((key: string) => Promise<DirectObject>) | null;
  /** Removes what is in it, once its Snowcaps have ended. */
  remove(): Promise<void>;
}

export interface SnowcapOptions {
  readonly upstream: string;
  readonly publicKey: string;
  /** Writes a CPU profile to the results when it ends, where the runtime can. */
  readonly profile: boolean;
  readonly settings?: Readonly<Record<string, string>>;
}

/** An object of the store on 127.0.0.1, by a URL that needs no credentials. */
export interface DirectObject {
  readonly port: number;
  /** With its query. */
  readonly path: string;
}

/** Starts the servers that a backend needs. @throws Error where one of them is not installed */
export async function openBackend(name: BackendName): Promise<Backend> {
  switch (name) {
    case 'files':
      return (await import('./backend-files.ts')).openFilesBackend();
    case 's3':
      return await (await import('./backend-s3.ts')).openS3Backend();
    case 'workerd':
      return (await import('./backend-workerd.ts')).openWorkerdBackend();
  }
}
