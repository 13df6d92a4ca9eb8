import { appendFile, chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import { runCommand } from '../support/nix-command.ts';
import { requireServer, requireTool, skipReason } from '../support/require.ts';
import { narInfoField, readNarInfos, upstreamCacheOf } from '../support/upstream-cache.ts';
import { startClientProxy } from './client-proxy.ts';
import { createBench, expectNothingWrong, expectSameAsSource, narInfoRoute } from './harness.ts';

// What the other files take for granted: that these helpers see what is wrong, and that Nix alone behaves as assumed.

const reason = skipReason('nix', 'nix-store', 'nix-build');

describe('a tool or server that a test needs', () => {
  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('skips the test with the reason where it is missing', async () => {
    vi.stubEnv('CI', '');
    const skip = vi.fn();
    requireTool({ skip }, 'no-such-tool');
    await requireServer({ skip }, 'no-such-server', () => Promise.reject(new Error('refused')));
    expect(skip.mock.calls).toEqual([
      ['no-such-tool is not installed'],
      ['no-such-server does not answer: refused'],
    ]);
  });

  it('fails the test where it is missing and CI is true', async () => {
    vi.stubEnv('CI', 'true');
    const skip = vi.fn();
    expect(() => requireTool({ skip }, 'no-such-tool')).toThrow('no-such-tool is not installed');
    await expect(
      requireServer({ skip }, 'no-such-server', () => Promise.reject(new Error('refused'))),
    ).rejects.toThrow('no-such-server does not answer');
    expect(skip).not.toHaveBeenCalled();
  });

  it('is no reason to skip where it is there', async () => {
    const skip = vi.fn();
    requireTool({ skip }, 'sh');
    await requireServer({ skip }, 'a server', () => Promise.resolve());
    expect(skip).not.toHaveBeenCalled();
  });
});

it('ends a command that takes too long', async () => {
  const begun = performance.now();
  await expect(
    runCommand('sleep', ['60'], { env: { PATH: process.env['PATH'] ?? '' }, timeoutMs: 100 }),
  ).rejects.toThrow('did not end within 100 ms');
  expect(performance.now() - begun).toBeLessThan(10_000);
});

describe.skipIf(reason !== null)(
  `a client of an upstream, without Snowcap${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createBench();
    let closure: Closure;
    let directory: string;
    let root: string;

    beforeAll(async () => {
      closure = await openClosure();
      directory = await upstreamCacheOf(closure, 'none');
      root = pathNamed(closure, 'layer-2-1');
    });

    it('has the same paths as the source, and one that was changed is noticed', async () => {
      const upstream = await bench.upstream(directory);
      const client = await bench.client();
      const result = await client.copyFrom(upstream.url, [root], { trustedPublicKeys: [closure.publicKey] });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, root);
      await expect(expectSameAsSource(client, closure, closure.root)).rejects.toThrow('does not have');

      const changed = join(client.fileOf(root), 'share/references');
      await chmod(changed, 0o644);
      await appendFile(changed, 'one line more\n');
      await expect(expectNothingWrong(client, closure)).rejects.toThrow('differ from the source');
    });

    it('asks again for what it forgot, and not for what it remembers', async () => {
      const upstream = await bench.upstream(directory);
      const client = await bench.client();
      const ask = async (): Promise<number> => {
        upstream.reset();
        const result = await client.run('nix', ['path-info', '--store', upstream.url, root]);
        expect(result.code, result.stderr).toBe(0);
        return upstream.requestsTo(narInfoRoute(root)).length;
      };
      expect(await ask()).toBeGreaterThan(0);
      expect(await ask()).toBe(0);
      client.forgetAnswers();
      expect(await ask()).toBeGreaterThan(0);
    });

    it('resumes a cut download with a Range', async () => {
      const upstream = await bench.upstream(directory);
      const proxy = await startClientProxy(upstream.url);
      bench.afterwards(() => proxy.close());
      const lines = (await readNarInfos(directory)).get(narInfoRoute(root).slice(1, 33)) ?? [];
      const route = `/${narInfoField(lines, 'URL')}`;
      proxy.cutOnce(route, 1000);
      const client = await bench.client();
      const result = await client.copyFrom(proxy.url, [root], { trustedPublicKeys: [closure.publicKey] });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, root);
      expect(
        proxy.seen.filter(({ path }) => path === route).map(({ range, status }) => [range, status]),
      ).toEqual([
        [undefined, 200],
        ['bytes=1000-', 206],
      ]);
    });

    it('touches nothing outside its directory', async () => {
      const client = await bench.client();
      const file = join(client.directory, 'tree');
      await mkdir(file);
      await writeFile(join(file, 'leaf'), 'leaf\n');
      const path = await client.add(file);
      expect(path).toMatch(/^\/nix\/store\/[0-9a-z]{32}-tree$/);
      expect(client.fileOf(path).startsWith(client.directory)).toBe(true);
      expect([...(await client.validPaths()).keys()]).toEqual([path]);
      expect(Object.values(client.environment()).filter((value) => value.startsWith('/nix'))).toEqual([]);
    });
  },
);
