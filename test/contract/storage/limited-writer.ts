import { StorageError } from '../../../src/storage/blob-store.ts';
import { createFileStore } from '../../../src/storage/file.ts';
import { createDiskSpool } from '../../../src/spool/disk.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';

/**
 * Writes more than the limit of the process (or its disk) allows: `limited-writer.ts DIRECTORY`. Prints as JSON what came of it.
 */
const [directory = ''] = process.argv.slice(2);
const piece = new Uint8Array(64 * 1024).fill(7);
const many = Array.from({ length: 32 }, () => piece);

const store = await createFileStore({ root: `${directory}/store` });
await store.put('kept', { kind: 'bytes', bytes: piece });
const put = await outcome(store.put('big', { kind: 'stream', stream: streamOf(...many) }));
const absent = (await store.head('big')) === null;
const afterwards = await outcome(store.put('small', { kind: 'bytes', bytes: piece }));

const spool = await createDiskSpool({ directory: `${directory}/spool` });
const file = await spool.create('nar/big');
let append = 'written';
for (const chunk of many) {
  append = await outcome(file.append(chunk));
  if (append !== 'written') break;
}
const read = await file.read(file.written - 10, 100);
const again = await outcome(file.append(piece));
const written = file.written;
let source = 'written';
try {
  file.source();
} catch (error) {
  source = describe(error);
}
await file.discard();
console.log(JSON.stringify({ put, absent, afterwards, append, again, written, read: [...read], source }));

async function outcome(work: Promise<unknown>): Promise<string> {
  return work.then(() => 'written', describe);
}

function describe(error: unknown): string {
  return error instanceof StorageError ? error.message : `not a StorageError: ${String(error)}`;
}
