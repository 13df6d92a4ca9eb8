import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, signedPath } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url] });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

/** Asks as nginx asks the servers behind it: the end of the connection is the end of a body without a length. */
function ask(path: string): Promise<{ readonly text: string; readonly ended: 'clean' | 'broken' }> {
  const { hostname, port } = new URL(snowcap.url);
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(Number(port), hostname, () =>
      socket.write(`GET ${path} HTTP/1.0\r\nHost: snowcap\r\n\r\n`),
    );
    socket.setEncoding('latin1').on('data', (piece: string) => (text += piece));
    socket.once('end', () => resolve({ text, ended: 'clean' }));
    socket.once('error', () => resolve({ text, ended: 'broken' }));
  });
}

describe('law 1: a client of HTTP/1.0 that gets a body without a length', () => {
  it('sees the connection break where the body is wrong, and a clean end where it is right', async () => {
    const path = await signedPath({ size: 300_000, compression: 'gzip', fileFields: false });
    const unsized = { contentLength: 'chunked', ranges: false } as const;
    publish(upstream, path, [{ ...unsized, flipBitAt: 250_000 }, unsized]);
    const key = await servedKey(snowcap, path);
    const wrong = await ask(`/${key}`);
    expect(wrong.text).toContain('200 OK');
    expect(wrong.ended).toBe('broken');
    const right = await ask(`/${key}`);
    expect(right.ended).toBe('clean');
    expect(right.text).toContain('200 OK');
    expect(right.text).not.toMatch(/content-length/i);
    expect(right.text.slice(right.text.indexOf('\r\n\r\n') + 4)).toHaveLength(path.body.length);
  });
});
