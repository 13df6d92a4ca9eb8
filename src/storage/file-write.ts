import {
  closeSync,
  constants,
  fstatSync,
  open as openCallback,
  read as readCallback,
  write as writeCallback,
} from 'node:fs';
import { link, lstat, rename, unlink } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { ByteStream } from '../stream/byte-stream.ts';
import { streamOf } from '../stream/byte-stream.ts';
import { sourceChunks } from './blob-source.ts';
import type { BlobSource, PutOptions, PutResult } from './blob-store.ts';
import { StorageError } from './blob-store.ts';
import { failed, folderOf } from './file-folders.ts';
import type { Folders } from './file-folders.ts';
import { syncDirectory, syncFile } from './file-sync.ts';
import { errorCode } from './writer-folder.ts';
import type { WriterFolder } from './writer-folder.ts';

const open = promisify(openCallback);
const read = promisify(readCallback);
const write = promisify(writeCallback);

/** Bytes of a chunk of a copy from one file system to another. */
const COPY_CHUNK = 1024 * 1024;
/** How often a put begins its last step anew, when a folder or the object before it vanishes just then. */
const ATTEMPTS = 5;

/** What writing a file takes of the store. */
export interface WriteContext {
  readonly folders: Folders;
  readonly writer: WriterFolder;
  /** Called just before each write step, with its name. */
  readonly checkpoint: (step: string) => Promise<void>;
}

/**
 * Writes an object: a file of its own, made durable, then named. The steps, as the checkpoint sees them:
 * `open-temp`, `write` (each chunk), `sync`, `rename` (or `link` and `unlink-temp`, where an existing
 * object stays), `sync-directory`; each after `file-store:`. A source of kind `file` begins at `sync`; when
 * it is on another file system, it is copied like a stream first, and removed at last (`remove-source`).
 *
 * The contents are durable before the object has its name, always; with `mayVanish` the name is not waited for.
 *
 * An error after the naming (the directory could not be made durable) may leave the whole object in place.
 */
export async function writeObject(
  context: WriteContext,
  key: string,
  source: BlobSource,
  options: PutOptions = {},
): Promise<PutResult> {
  options.signal?.throwIfAborted();
  await context.folders.make(folderOf(key));
  if (source.kind === 'file') return moveIntoPlace(context, key, source, options);
  const input =
    source.kind === 'bytes' ? { stream: streamOf(source.bytes), size: source.bytes.length } : source;
  return writeIntoPlace(context, key, sourceChunks(key, input, options.signal), options);
}

async function writeIntoPlace(
  context: WriteContext,
  key: string,
  chunks: ByteStream,
  options: PutOptions,
): Promise<PutResult> {
  const temp = await writeTemp(context, key, chunks);
  try {
    options.signal?.throwIfAborted();
    return await publish(context, key, temp, options);
  } catch (error) {
    await removeQuietly(temp.path);
    throw error;
  }
}

interface WholeFile {
  readonly path: string;
  /** Bytes. */
  readonly size: number;
}

/** A whole and durable file in the writer's folder; nothing, if anything goes wrong. */
async function writeTemp(context: WriteContext, key: string, chunks: ByteStream): Promise<WholeFile> {
  await context.checkpoint('file-store:open-temp');
  const { descriptor, path } = await orFailed(key, context.writer.create('wx'));
  let size = 0;
  try {
    for await (const chunk of chunks) {
      await context.checkpoint('file-store:write');
      await orFailed(key, writeAll(descriptor, chunk));
      size += chunk.length;
    }
    await context.checkpoint('file-store:sync');
    await orFailed(key, syncFile(descriptor));
  } catch (error) {
    closeSync(descriptor);
    await removeQuietly(path);
    throw error;
  }
  closeSync(descriptor);
  return { path, size };
}

async function writeAll(descriptor: number, chunk: Uint8Array): Promise<void> {
  let at = 0;
  while (at < chunk.length) {
    const { bytesWritten } = await write(descriptor, chunk, at, chunk.length - at, null);
    at += bytesWritten;
  }
}

async function moveIntoPlace(
  context: WriteContext,
  key: string,
  source: WholeFile,
  options: PutOptions,
): Promise<PutResult> {
  const descriptor = await orFailed(key, open(source.path, constants.O_RDONLY | constants.O_NOFOLLOW));
  try {
    const stat = fstatSync(descriptor);
    if (!stat.isFile() || stat.size !== source.size) {
      const found = stat.isFile()
        ? `has ${stat.size} bytes instead of ${source.size}`
        : 'is not a regular file';
      throw new StorageError(`Cannot store ${JSON.stringify(key)}: the file ${source.path} ${found}`);
    }
    await context.checkpoint('file-store:sync');
    await orFailed(key, syncFile(descriptor));
    options.signal?.throwIfAborted();
    try {
      return await publish(context, key, source, options);
    } catch (error) {
      if (!(error instanceof Error) || errorCode(error.cause) !== 'EXDEV') throw error;
    }
    const result = await writeIntoPlace(
      context,
      key,
      copyOf(key, descriptor, source.size, options.signal),
      options,
    );
    await context.checkpoint('file-store:remove-source');
    await orFailed(key, unlinkIfThere(source.path));
    return result;
  } finally {
    closeSync(descriptor);
  }
}

async function* copyOf(
  key: string,
  descriptor: number,
  size: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(COPY_CHUNK, Math.max(1, size)));
  for (let at = 0; at < size;) {
    signal?.throwIfAborted();
    const { bytesRead } = await orFailed(
      key,
      read(descriptor, buffer, 0, Math.min(buffer.length, size - at), at),
    );
    if (bytesRead === 0)
      throw failed('store', key, new Error('the file was shortened while it was being copied'));
    at += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Gives a whole file its name, which it loses where it was. */
async function publish(
  context: WriteContext,
  key: string,
  file: WholeFile,
  options: PutOptions,
): Promise<PutResult> {
  const { folders, checkpoint } = context;
  const target = folders.pathOf(key);
  const folder = folderOf(key);
  const keepName = async (): Promise<void> => {
    if (options.mayVanish === true) return;
    await checkpoint('file-store:sync-directory');
    await syncDirectory(folders.pathOf(folder));
  };
  for (let attempt = 1; ; attempt++) {
    try {
      if (options.ifAbsent === true) {
        await checkpoint('file-store:link');
        const result = await linkUnlessThere(file, target);
        await checkpoint('file-store:unlink-temp');
        await unlinkIfThere(file.path);
        // Also where another put was first: what is reported to be there must outlive a crash as well.
        await keepName();
        return result;
      }
      await checkpoint('file-store:rename');
      await rename(file.path, target);
      await keepName();
      return { written: true, size: file.size };
    } catch (error) {
      if (errorCode(error) === undefined) throw error;
      if (errorCode(error) !== 'ENOENT' || attempt === ATTEMPTS) throw failed('store', key, error);
      // Somebody removed the folder by hand, or evicted the object between two looks at it.
      folders.forget();
      await folders.make(folder);
    }
  }
}

/** `link` is what says atomically that there is an object already. */
async function linkUnlessThere(file: WholeFile, target: string): Promise<PutResult> {
  try {
    await link(file.path, target);
    return { written: true, size: file.size };
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
  }
  return { written: false, size: (await lstat(target)).size };
}

async function unlinkIfThere(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** On the way out of an error that counts for more; the sweep finds what stays. */
async function removeQuietly(path: string): Promise<void> {
  await unlink(path).catch(() => undefined);
}

/** The system's errors of this step as StorageError; those of a source or checkpoint are passed on as they are. */
async function orFailed<Result>(key: string, step: Promise<Result>): Promise<Result> {
  try {
    return await step;
  } catch (error) {
    throw failed('store', key, error);
  }
}
