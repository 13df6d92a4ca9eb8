// The exports of runtime modules that the portable folders use, so that these are checked without the
// types of Node. Included by tsconfig.portable.json only.

declare module 'node:crypto' {
  interface Hash {
    update(bytes: Uint8Array): Hash;
    digest(): Uint8Array;
    digest(encoding: 'hex' | 'base64'): string;
  }

  export function createHash(algorithm: 'sha256' | 'md5'): Hash;
}

declare module 'node:zlib' {
  interface ZlibTransform {
    readonly bytesWritten: number;
    read(): Uint8Array | null;
    write(chunk: Uint8Array, done: (error?: Error | null) => void): boolean;
    end(): unknown;
    destroy(): unknown;
    _read(size: number): void;
    on(event: 'readable' | 'end', listener: () => void): unknown;
    on(event: 'error', listener: (error: Error) => void): unknown;
  }

  interface TransformOptions {
    readonly chunkSize?: number;
    readonly params?: Readonly<Record<number, number>>;
  }

  export const constants: {
    readonly BROTLI_DECODER_PARAM_LARGE_WINDOW: number;
    readonly ZSTD_d_windowLogMax: number;
  };
  export function createGunzip(options?: TransformOptions): ZlibTransform;
  export function createBrotliDecompress(options?: TransformOptions): ZlibTransform;
  export function createZstdDecompress(options?: TransformOptions): ZlibTransform;
}

declare module 'node:fs/promises' {
  export function readFile(path: string, encoding: 'utf8'): Promise<string>;
}

declare module 'node:url' {
  export function fileURLToPath(url: string): string;
}
