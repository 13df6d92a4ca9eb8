/** The compressions that are understood, by the names that narinfos use. */
export const COMPRESSIONS = ['none', 'xz', 'zstd', 'br', 'bzip2', 'gzip'] as const;

/** A compression that is understood. */
export type Compression = (typeof COMPRESSIONS)[number];

/** What follows `.nar` in the names of files, the dot included. */
export type CompressionExtension = '' | '.xz' | '.zst' | '.br' | '.bz2' | '.gz';

const EXTENSIONS: Readonly<Record<Compression, CompressionExtension>> = {
  none: '',
  xz: '.xz',
  zstd: '.zst',
  br: '.br',
  bzip2: '.bz2',
  gzip: '.gz',
};

/** Whether the text is the name of a compression that is understood, in lower case. */
export function isCompression(text: string): text is Compression {
  return (COMPRESSIONS as readonly string[]).includes(text);
}

/**
 * @example
 * compressionExtension('zstd') // '.zst'
 */
export function compressionExtension(compression: Compression): CompressionExtension {
  return EXTENSIONS[compression];
}
