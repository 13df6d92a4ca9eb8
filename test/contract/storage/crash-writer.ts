import { createFileStore } from '../../../src/storage/file.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { killAt } from '../../support/checkpoint.ts';

/**
 * Puts one object, and is killed at a step of it: `crash-writer.ts ROOT KEY KIND STEP`.
 * KIND `loop` replaces the object again and again instead, until somebody kills the process.
 */
const [root = '', key = '', kind = '', step = ''] = process.argv.slice(2);
const bytes = new Uint8Array(300_000).fill(2);
const store = await createFileStore({ root, checkpoint: killAt(step) });

switch (kind) {
  case 'bytes':
    await store.put(key, { kind: 'bytes', bytes });
    break;
  case 'absent':
    await store.put(key, { kind: 'bytes', bytes }, { ifAbsent: true });
    break;
  case 'stream':
    await store.put(key, { kind: 'stream', stream: streamOf(bytes.subarray(1000), bytes.subarray(0, 1000)) });
    break;
  case 'loop':
    for (let fill = 2; ; fill = fill === 250 ? 2 : fill + 1) {
      bytes.fill(fill);
      await store.put(key, {
        kind: 'stream',
        stream: streamOf(bytes.subarray(1000), bytes.subarray(0, 1000)),
      });
    }
  default:
    // A path of a file to be taken over.
    await store.put(key, { kind: 'file', path: kind, size: bytes.length });
}
console.log('done');
