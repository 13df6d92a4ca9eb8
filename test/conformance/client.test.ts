import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { madeOnce } from '../support/closure-lock.ts';
import { closureOf, openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import {
  narInfoField,
  narInfoLines,
  narInfoText,
  readNarInfos,
  upstreamCacheOf,
  writeUpstreamCache,
} from '../support/upstream-cache.ts';
import { startClientProxy } from './client-proxy.ts';
import type { ClientProxy } from './client-proxy.ts';
import { createBench, expectSameAsSource, narInfoRoute, narRequests } from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

describe.skipIf(reason !== null)(`what a client does${reason === null ? '' : ` (${reason})`}`, () => {
  const bench = createBench();
  let closure: Closure;
  let directory: string;
  let upstream: FaultServer;
  let snowcap: SnowcapProcess;
  let root: string;
  let large: string;

  beforeAll(async () => {
    closure = await openClosure();
    directory = await upstreamCacheOf(closure, 'zstd');
    upstream = await bench.upstream(directory);
    snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [closure.publicKey] });
    root = pathNamed(closure, 'layer-4-3');
    large = pathNamed(closure, 'large');
  });

  async function proxyTo(target: string): Promise<ClientProxy> {
    const proxy = await startClientProxy(target);
    bench.afterwards(() => proxy.close());
    return proxy;
  }

  const trusting = (): { readonly trustedPublicKeys: readonly string[] } => ({
    trustedPublicKeys: [closure.publicKey],
  });

  describe('with nix-cache-info', () => {
    it('finds the cache with nix store ping', async () => {
      const client = await bench.client();
      const result = await client.run('nix', ['store', 'ping', '--store', snowcap.url]);
      expect(result.code, result.stderr).toBe(0);
    });

    it('reads the store directory, a number as priority, and the wish for mass queries', async () => {
      const response = await snowcap.get('/nix-cache-info');
      expect(response.status).toBe(200);
      const text = await response.text();
      expect(text).toMatch(/^StoreDir: \/nix\/store\n/m);
      expect(text).toMatch(/^WantMassQuery: 1\n/m);
      expect(text).toMatch(/^Priority: \d+\n/m);
    });

    it('gets it also while every upstream is down, and never has to PUT one', async () => {
      const alone = await bench.snowcap({ upstreams: ['http://127.0.0.1:9'] });
      const proxy = await proxyTo(alone.url);
      const client = await bench.client();
      const result = await client.run('nix', ['store', 'ping', '--store', proxy.url]);
      expect(result.code, result.stderr).toBe(0);
      expect(proxy.seen.map(({ method, path, status }) => [method, path, status])).toEqual([
        ['GET', '/nix-cache-info', 200],
      ]);
    });
  });

  describe('with narinfos', () => {
    it('begins with HEAD of the root narinfo, then GETs the references; only GET and HEAD are sent', async () => {
      const proxy = await proxyTo(snowcap.url);
      const client = await bench.client();
      const result = await client.copyFrom(proxy.url, [root], trusting());
      expect(result.code, result.stderr).toBe(0);
      const narInfos = proxy.seen.filter(({ path }) => path.endsWith('.narinfo'));
      expect(narInfos[0]).toMatchObject({ method: 'HEAD', path: narInfoRoute(root), status: 200 });
      expect(new Set(proxy.seen.map(({ method }) => method))).toEqual(new Set(['GET', 'HEAD']));
      expect(new Set(proxy.seen.map(({ status }) => status))).toEqual(new Set([200]));
      const got = narInfos.filter(({ method }) => method === 'GET').map(({ path }) => path);
      expect(new Set(got)).toEqual(new Set(closureOf(closure, root).map(({ path }) => narInfoRoute(path))));
    });

    it('gets them as Nix prints them, with only the signature of Snowcap more than the upstream has', async () => {
      const genuine = await readNarInfos(directory);
      for (const { path } of closureOf(closure, pathNamed(closure, 'text-with-reference'))) {
        const response = await snowcap.get(narInfoRoute(path));
        expect(response.headers.get('content-type')).toMatch(/^text\/x-nix-narinfo\b/);
        const text = await response.text();
        const lines = narInfoLines(text);
        expect(narInfoText(lines)).toBe(text);
        const others = lines.filter(
          ([key, value]) => !(key === 'Sig' && value.startsWith('snowcap.test-1:')),
        );
        expect(others).toEqual(genuine.get(narInfoRoute(path).slice(1, 33)));
        expect(lines.length).toBe(others.length + 1);
      }
    });

    it('gets empty references as `References: `, with the space', async () => {
      const text = await (await snowcap.get(narInfoRoute(pathNamed(closure, 'empty-file')))).text();
      expect(text).toContain('\nReferences: \n');
    });

    it('gets for HEAD what it gets for GET, without the body', async () => {
      const cold = narInfoRoute(pathNamed(closure, 'padding'));
      const head = await snowcap.get(cold, { method: 'HEAD' });
      const get = await snowcap.get(cold);
      expect([head.status, await head.text()]).toEqual([200, '']);
      expect(head.headers.get('content-length')).toBe(String((await get.arrayBuffer()).byteLength));
      expect(head.headers.get('content-type')).toBe(get.headers.get('content-type'));
    });

    it('shows with nix path-info what the source says of every path', async () => {
      const client = await bench.client();
      const result = await client.run('nix', [
        'path-info',
        '--store',
        snowcap.url,
        '--recursive',
        '--json',
        closure.root,
      ]);
      expect(result.code, result.stderr).toBe(0);
      const source = await closure.store.validPaths();
      const infos = recordsOf(JSON.parse(result.stdout));
      expect(infos.length).toBe(closure.paths.size);
      for (const { path, narHash, narSize, references, downloadSize, url } of infos) {
        const own = source.get(String(path));
        expect([path, narHash, narSize]).toEqual([own?.path, own?.narHash, own?.narSize]);
        expect(new Set(Array.isArray(references) ? references : [])).toEqual(new Set(own?.references));
        expect(downloadSize).toBeGreaterThan(0);
        expect(url).toMatch(/^nar\//);
      }
    });

    it('takes 404 for a path that nobody has, and goes on to say so', async () => {
      const client = await bench.client();
      const nobody = `/nix/store/${'1'.repeat(32)}-nobody-has-this`;
      const proxy = await proxyTo(snowcap.url);
      const result = await client.copyFrom(proxy.url, [nobody], trusting());
      expect(result.code).toBe(1);
      expect(result.stderr).toContain('there is no substituter that can build it');
      // A fault would have been asked for again.
      expect(
        proxy.seen.filter(({ path }) => path.endsWith('.narinfo')).every(({ status }) => status === 404),
      ).toBe(true);
      expect(proxy.seen.filter(({ path }) => path.endsWith('.narinfo')).length).toBeLessThanOrEqual(2);
    });
  });

  describe('with NARs', () => {
    it('installs with nix-store --realise as from any substituter', async () => {
      const client = await bench.client();
      const result = await client.realise([closure.root], [snowcap.url], trusting());
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, closure.root);
    });

    it('is told the exact length of a NAR, that ranges are taken, and no Content-Encoding', async () => {
      const genuine = (await readNarInfos(directory)).get(narInfoRoute(large).slice(1, 33)) ?? [];
      const route = `/${narInfoField(genuine, 'URL')}`;
      const response = await snowcap.get(route, { headers: { 'accept-encoding': 'gzip, br, zstd' } });
      expect(response.status).toBe(200);
      expect(response.headers.get('content-length')).toBe(narInfoField(genuine, 'FileSize'));
      expect(response.headers.get('accept-ranges')).toBe('bytes');
      expect(response.headers.get('content-encoding')).toBeNull();
      await response.body?.cancel();
    });

    it.each(['cold', 'stored'])('resumes a cut download with a Range: %s', async (state) => {
      const own = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
      });
      if (state === 'stored') {
        const first = await bench.client();
        const result = await first.copyFrom(own.url, [large], trusting());
        expect(result.code, result.stderr).toBe(0);
      }
      const genuine = (await readNarInfos(directory)).get(narInfoRoute(large).slice(1, 33)) ?? [];
      const route = `/${narInfoField(genuine, 'URL')}`;
      const proxy = await proxyTo(own.url);
      proxy.cutOnce(route, 3_000_000);
      const client = await bench.client();
      const result = await client.copyFrom(proxy.url, [large], trusting());
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, large);
      const gets = proxy.seen.filter(({ method, path }) => method === 'GET' && path === route);
      expect(gets.map(({ status }) => status)).toEqual([200, 206]);
      expect(gets[1]?.range).toMatch(/^bytes=[1-9]\d*-$/);
    });

    it('may come four at a time to a cold cache: each NAR is fetched once', async () => {
      const source = await bench.upstream(directory);
      const own = await bench.snowcap({ upstreams: [source.url], trustedPublicKeys: [closure.publicKey] });
      const clients = await Promise.all([1, 2, 3, 4].map(() => bench.client()));
      const results = await Promise.all(
        clients.map((client) => client.copyFrom(own.url, [closure.root], trusting())),
      );
      for (const result of results) expect(result.code, result.stderr).toBe(0);
      for (const client of clients) await expectSameAsSource(client, closure, closure.root);
      expect([...narRequests(source)].filter(([, count]) => count > 1)).toEqual([]);
    });
  });

  describe('with the rest', () => {
    it('lists a path with nix store ls as the source does (2.8 reads the NAR for it)', async () => {
      const client = await bench.client();
      for (const name of ['unicode', 'dangling', 'padding', 'executable', 'layer-5-2']) {
        const args = ['store', 'ls', '--json', '--recursive', pathNamed(closure, name)];
        const result = await client.run('nix', [...args, '--store', snowcap.url]);
        expect(result.code, result.stderr).toBe(0);
        const own: unknown = JSON.parse(await closure.store.check('nix', args));
        expect(withoutOffsets(JSON.parse(result.stdout))).toEqual(own);
      }
    });

    it('gets the .ls listing of a path as Nix itself writes it to a cache', async () => {
      const paths = [
        'unicode',
        'dangling',
        'padding',
        'executable',
        'symlink',
        'empty-directory',
        'layer-5-2',
      ].map((name) => pathNamed(closure, name));
      const written = await madeOnce(closure.directory, 'listings', (place) =>
        writeUpstreamCache(closure.store, paths, place, { compression: 'none', listings: true }),
      );
      for (const path of paths) {
        const route = narInfoRoute(path).replace(/narinfo$/, 'ls');
        const response = await snowcap.get(route);
        expect([path, response.status]).toEqual([path, 200]);
        expect(response.headers.get('content-type')).toMatch(/^application\/json\b/);
        expect(await response.text()).toBe(await readFile(`${written}${route}`, 'utf8'));
      }
    });

    it('prints a file with nix store cat', async () => {
      const client = await bench.client();
      const file = `${pathNamed(closure, 'unicode')}/Ünïcödé/雪/❄.txt`;
      const result = await client.run('nix', ['store', 'cat', '--store', snowcap.url, file]);
      expect([result.code, result.stdout], result.stderr).toEqual([0, 'snow\n']);
    });

    it('verifies contents and signatures of the cache with nix store verify', async () => {
      const client = await bench.client();
      const result = await client.run(
        'nix',
        ['store', 'verify', '--store', snowcap.url, '--recursive', root],
        {
          settings: { 'trusted-public-keys': await snowcap.publicKey() },
        },
      );
      expect(result.code, result.stderr).toBe(0);
      const stranger = await client.run(
        'nix',
        ['store', 'verify', '--store', snowcap.url, '--recursive', root],
        {
          settings: { 'trusted-public-keys': '' },
        },
      );
      expect(stranger.code).not.toBe(0);
      expect(stranger.stderr).toContain('untrusted');
    });

    it('is told at once by nix log that there is no log', async () => {
      const client = await bench.client();
      const proxy = await proxyTo(snowcap.url);
      const result = await client.run('nix', ['log', '--store', proxy.url, root], {
        settings: { substituters: proxy.url },
        timeoutMs: 20_000,
      });
      expect(result.code).not.toBe(0);
      expect(result.stderr).toContain('is not available');
    });
  });
});

/** Only the listing of a NAR says where in it a file is. */
function withoutOffsets(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([key]) => key !== 'narOffset');
  return Object.fromEntries(entries.map(([key, inner]) => [key, withoutOffsets(inner)]));
}

/** The objects of a JSON array. */
function recordsOf(value: unknown): readonly Readonly<Record<string, unknown>>[] {
  const list: readonly unknown[] = Array.isArray(value) ? value : [];
  return list.map((entry) => ({ ...(typeof entry === 'object' && entry !== null ? entry : {}) }));
}
