import { afterEach, describe, expect, it } from 'vitest';
import { decompress } from '../../../src/nar/decompress.ts';
import { compileEmbeddedXz } from '../../../src/nar/xz-module-node.ts';
import { setXzModuleLoader } from '../../../src/nar/xz-module.ts';
import { streamOf } from '../../../src/stream/byte-stream.ts';
import { drain, encode, hasTool, prose } from './fixtures.ts';

afterEach(() => {
  setXzModuleLoader(compileEmbeddedXz);
});

describe.skipIf(!hasTool('xz'))('the loader of the xz decoder', () => {
  const bytes = prose(1000);
  const decoded = (): Promise<Uint8Array> =>
    drain(decompress(streamOf(encode(bytes, 'xz')), 'xz', { maxOutput: 1000 }));

  it('is called once for any number of streams', async () => {
    let calls = 0;
    setXzModuleLoader(() => {
      calls++;
      return compileEmbeddedXz();
    });
    await Promise.all([decoded(), decoded()]);
    expect(await decoded()).toEqual(bytes);
    expect(calls).toBe(1);
  });

  it('fails the stream with its own error, and is called again by the next', async () => {
    let calls = 0;
    setXzModuleLoader(() => {
      calls++;
      return calls === 1 ? Promise.reject(new Error('No such module')) : compileEmbeddedXz();
    });
    await expect(decoded()).rejects.toThrow('No such module');
    expect(await decoded()).toEqual(bytes);
  });
});
