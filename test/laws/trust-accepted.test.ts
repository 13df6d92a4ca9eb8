import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeNix32 } from '../../src/nix/base32.ts';
import { generateSecretKey } from '../../src/nix/signing-key.ts';
import { download } from '../support/download.ts';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, signedPath, upstreamKey } from '../support/signed-path.ts';
import { startTestCache, type TestCache } from '../support/test-cache.ts';

let upstream: FaultServer;
let snowcap: TestCache;

beforeEach(async () => {
  upstream = await startFaultServer();
  snowcap = await startTestCache({ upstreams: [upstream.url], storage: 'file' });
});

afterEach(async () => {
  await snowcap.close();
  await upstream.close();
});

const signaturesOf = (narInfo: string): readonly string[] =>
  narInfo.split('\n').flatMap((line) => (line.startsWith('Sig: ') ? [line.slice('Sig: '.length)] : []));

/** The hash part that Nix gives a fixed-output path (`src/libstore/store-dir-config.cc`: makeStorePath). */
function hashPart(type: string, digest: Buffer, name: string): string {
  const text = `${type}:sha256:${digest.toString('hex')}:/nix/store:${name}`;
  const folded = Buffer.alloc(20);
  for (const [at, byte] of createHash('sha256').update(text).digest().entries()) {
    folded[at % 20] = (folded[at % 20] ?? 0) ^ byte;
  }
  return encodeNix32(folded);
}

const sha256 = (bytes: Uint8Array | string): Buffer => createHash('sha256').update(bytes).digest();

/** The path under another hash part, with a content address. */
function addressed(path: SignedPath, hash: string, ca: string): SignedPath {
  return {
    ...path,
    hash,
    storePath: path.storePath.replace(path.hash, hash),
    narInfo: `${path.narInfo.replace(path.storePath, path.storePath.replace(path.hash, hash))}CA: ${ca}\n`,
  };
}

/** By its NAR, unsigned. */
async function recursive(name: string): Promise<SignedPath> {
  const path = await signedPath({ key: null, name });
  const digest = sha256(path.nar);
  return addressed(path, hashPart('source', digest, name), `fixed:r:sha256:${encodeNix32(digest)}`);
}

/** By the bytes of its file, unsigned: nothing binds the NAR that the narinfo names. */
async function flat(name: string): Promise<SignedPath> {
  const digest = sha256('the contents of the file');
  const outer = sha256(`fixed:out:sha256:${digest.toString('hex')}:`);
  const hash = hashPart('output:out', outer, name);
  const path = await signedPath({ key: null, name });
  return addressed(path, hash, `fixed:sha256:${encodeNix32(digest)}`);
}

describe('what may be served', () => {
  it('a path without a signature that follows from its content address', async () => {
    const path = await recursive('addressed');
    publish(upstream, path);
    const key = await servedKey(snowcap, path);
    expect((await download(`${snowcap.url}/${key}`)).bytes.equals(path.body)).toBe(true);
    const known = await snowcap.services.metadata.getPath(path.hash);
    expect(known?.path.justification).toEqual({ kind: 'content-address' });
    const text = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
    expect(text).toContain('CA: fixed:r:sha256:');
    expect(signaturesOf(text)).toEqual([expect.stringMatching(/^snowcap.test-1:/)]);
  });

  it('but not where the store path does not follow from it', async () => {
    const other = await recursive('addressed');
    const path = addressed(
      await signedPath({ key: null, name: 'another' }),
      other.hash,
      `fixed:r:sha256:${encodeNix32(sha256(other.nar))}`,
    );
    publish(upstream, path);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
  });

  it('nor where the content address does not bind the NarHash', async () => {
    const path = await flat('flat');
    publish(upstream, path);
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
  });

  it('nor where the NarHash is another one than that of the content address', async () => {
    const path = await recursive('addressed');
    const liar = await signedPath({ seed: 7 });
    publish(upstream, {
      ...path,
      narInfo: path.narInfo.replace(`NarHash: ${path.narHash}`, `NarHash: ${liar.narHash}`),
    });
    expect((await snowcap.get(`/${path.hash}.narinfo`)).status).toBe(404);
  });
});

describe('signatures', () => {
  it('of the upstream are kept, in order, and ours come after them, each once', async () => {
    const keys = await Promise.all(['first', 'second'].map((name) => generateSecretKey(`${name}-1`)));
    const [first] = keys;
    if (first === undefined) throw new Error('no key');
    await snowcap.close();
    snowcap = await startTestCache({ upstreams: [upstream.url], secretKeys: keys, storage: 'file' });
    const trusted = await upstreamKey();
    const path = await signedPath({ key: trusted });
    const stranger = await signedPath({ key: await generateSecretKey('stranger-1') });
    // As if it had come through us before.
    const ours = await signedPath({ key: first });
    const given = [stranger, path, ours].flatMap(({ narInfo }) => signaturesOf(narInfo));
    const unsigned = path.narInfo.replace(/^Sig: .*\n/m, '');
    publish(upstream, { ...path, narInfo: unsigned + given.map((text) => `Sig: ${text}\n`).join('') });

    const text = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
    const names = signaturesOf(text).map((signature) => signature.split(':', 1)[0]);
    expect(names).toEqual(['stranger-1', 'upstream.test-1', 'first-1', 'second-1']);
    expect(signaturesOf(text).slice(0, 3)).toEqual(given);
    expect(await (await snowcap.get('/pubkey')).text()).toMatch(/^first-1:\S+\nsecond-1:\S+\n$/);
  });

  it('of thousands of strangers do not hide the one that counts, nor are they kept without limit', async () => {
    const path = await signedPath();
    const signature = signaturesOf(path.narInfo)[0] ?? '';
    const noise = [...Array(2_000).keys()].map((n) => `Sig: s-${n}:${signature.split(':')[1]}\n`).join('');
    publish(upstream, { ...path, narInfo: path.narInfo + noise });
    const text = await (await snowcap.get(`/${path.hash}.narinfo`)).text();
    expect(text).toContain(signature);
    expect(signaturesOf(text).length).toBeLessThanOrEqual(33);
  });
});
