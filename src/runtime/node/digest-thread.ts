import { parentPort } from 'node:worker_threads';
import { DecompressionError } from '../../nar/decompress.ts';
import { createNarDigester, type NarDigester } from '../../nar/digest.ts';
import type { FromThread, ToThread } from './threaded-digest.ts';

/** The thread behind `threaded-digest.ts`: digests one NAR at a time, chunk by chunk. */
const port = parentPort;
if (port === null) throw new Error('digest-thread.ts runs as a worker thread only');

let digester: NarDigester | null = null;

async function take(message: ToThread): Promise<FromThread> {
  switch (message.kind) {
    case 'begin':
      digester?.abort();
      digester = createNarDigester(message.compression, message.limits);
      return { kind: 'more' };
    case 'chunk':
      await digester?.push(message.bytes);
      return { kind: 'more' };
    case 'end': {
      if (digester === null) throw new Error('The thread was given no NAR');
      return { kind: 'digest', digest: await digester.finish() };
    }
  }
}

port.on('message', (message: ToThread) => {
  take(message).then(
    (answer) => port.postMessage(answer),
    (error: unknown) => {
      digester?.abort();
      digester = null;
      port.postMessage(answerOf(error));
    },
  );
});

function answerOf(error: unknown): FromThread {
  if (error instanceof DecompressionError) {
    const { compression, reason, why } = error;
    return { kind: 'undecodable', compression, reason, why };
  }
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return { kind: 'error', name, message };
}
