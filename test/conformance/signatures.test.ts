import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { closureOf, openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { checkedCommand } from '../support/nix-command.ts';
import { skipReason } from '../support/require.ts';
import {
  narInfoField,
  narInfoLines,
  narInfoText,
  readNarInfos,
  upstreamCacheOf,
  withNarInfoFields,
} from '../support/upstream-cache.ts';
import { createBench, expectSameAsSource, narInfoRoute } from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

describe.skipIf(reason !== null)(`signatures${reason === null ? '' : ` (${reason})`}`, () => {
  const bench = createBench();
  let closure: Closure;
  /** Input-addressed, with references. */
  let root: string;
  let signed: string;
  let unsigned: string;
  let strangerKey: string;

  beforeAll(async () => {
    closure = await openClosure();
    root = pathNamed(closure, 'layer-3-1');
    [signed, unsigned] = await Promise.all([
      upstreamCacheOf(closure, 'zstd'),
      upstreamCacheOf(closure, 'zstd', 'unsigned'),
    ]);
    strangerKey = await newPublicKey('stranger-1');
  });

  async function newPublicKey(name: string): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'snowcap-key-'));
    const files = ['secret', 'public'].map((file) => join(directory, file));
    await checkedCommand('nix-store', ['--generate-binary-cache-key', name, ...files], {
      env: closure.store.environment(),
    });
    const key = await checkedCommand('cat', files.slice(1), { env: closure.store.environment() });
    await rm(directory, { recursive: true });
    return key.trim();
  }

  function unsignedUpstream(): Promise<FaultServer> {
    return bench.upstream(unsigned);
  }

  describe('of a signed upstream', () => {
    it('are kept, and one of Snowcap is added: a client accepts either key alone, and no third one', async () => {
      const upstream = await bench.upstream(signed);
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
      });
      const own = await snowcap.publicKey();
      expect(own).toMatch(/^snowcap\.test-1:[A-Za-z0-9+/]{43}=$/);
      for (const key of [closure.publicKey, own]) {
        const client = await bench.client();
        const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [key] });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, root);
        const signers = [...(await client.validPaths()).values()].map(({ signatures }) =>
          signatures.map((signature) => signature.split(':')[0]).join(' '),
        );
        expect(new Set(signers)).toEqual(new Set(['snowcap.test-1 upstream-1']));
      }
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [strangerKey] });
      expect(result.code).not.toBe(0);
      expect(result.stderr).toContain('lacks a valid signature');
      expect((await client.validPaths()).size).toBe(0);
    });

    it('are added once, however often and from however many processes a path is answered', async () => {
      const upstream = await bench.upstream(signed);
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
      });
      const signers = async (): Promise<string[]> =>
        narInfoLines(await (await snowcap.get(narInfoRoute(root))).text())
          .filter(([key]) => key === 'Sig')
          .map(([, value]) => value.split(':')[0] ?? '');
      const first = await signers();
      expect(first.toSorted()).toEqual(['snowcap.test-1', 'upstream-1']);
      expect(await signers()).toEqual(first);
      await snowcap.restart();
      expect(await signers()).toEqual(first);
    });

    it('keep a path out whose key Snowcap does not trust: the client is told 404', async () => {
      const upstream = await bench.upstream(signed);
      const snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [strangerKey] });
      expect((await snowcap.get(narInfoRoute(root))).status).toBe(404);
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
      expect(result.code).not.toBe(0);
      expect((await client.validPaths()).size).toBe(0);
    });

    it('do not cover a narinfo that was changed: another NarHash, size or reference is refused', async () => {
      const upstream = await bench.upstream(signed);
      const lines = (await readNarInfos(signed)).get(narInfoRoute(root).slice(1, 33)) ?? [];
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
        env: { SNOWCAP_NEGATIVE_TTL: '0' },
      });
      const forgeries = [
        { NarHash: `sha256:${'1'.repeat(52)}` },
        { NarSize: String(Number(narInfoField(lines, 'NarSize')) + 8) },
        { References: '' },
        { StorePath: pathNamed(closure, 'layer-3-2') },
      ];
      for (const forgery of forgeries) {
        upstream.route(narInfoRoute(root), { body: narInfoText(withNarInfoFields(lines, forgery)) });
        const response = await snowcap.get(narInfoRoute(root));
        expect([forgery, response.status]).toEqual([forgery, 404]);
      }
      upstream.route(narInfoRoute(root), { body: narInfoText(lines) });
      expect((await snowcap.get(narInfoRoute(root))).status).toBe(200);
    });

    it('lose their worth with their key: what only a dropped key justified is not served any more', async () => {
      const upstream = await bench.upstream(signed);
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
      });
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
      expect(result.code, result.stderr).toBe(0);
      await snowcap.restart({ trustedPublicKeys: [strangerKey] });
      for (const { path } of closureOf(closure, root)) {
        expect((await snowcap.get(narInfoRoute(path))).status).toBe(404);
      }
      await snowcap.restart({ trustedPublicKeys: [closure.publicKey] });
      expect((await snowcap.get(narInfoRoute(root))).status).toBe(200);
    });
  });

  describe('that an upstream does not give', () => {
    it('keep its paths out: the client is told 404 and copies nothing', async () => {
      const upstream = await unsignedUpstream();
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
      });
      const response = await snowcap.get(narInfoRoute(root));
      expect(response.status, await response.text()).toBe(404);
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], {
        trustedPublicKeys: [await snowcap.publicKey()],
      });
      expect(result.code).not.toBe(0);
      expect(result.stderr).toContain('there is no substituter that can build it');
      expect((await client.validPaths()).size).toBe(0);
    });

    it('are not asked of an upstream with ?unsigned=allow, which is said at the start; Snowcap signs', async () => {
      const upstream = await unsignedUpstream();
      const snowcap = await bench.snowcap({ upstreams: [`${upstream.url}?unsigned=allow`] });
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], {
        trustedPublicKeys: [await snowcap.publicKey()],
      });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, root);
      const warnings = snowcap.logs.filter(({ level }) => level === 'warn');
      expect(warnings.map(({ upstream: url, msg }) => [url, msg])).toContainEqual([
        upstream.url,
        expect.stringMatching(/without a signature/),
      ]);
    });

    it('are not needed by paths whose CA fixes the NarHash, neither for Snowcap nor for the client', async () => {
      const upstream = await unsignedUpstream();
      const snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [strangerKey] });
      const path = pathNamed(closure, 'added');
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [path], { trustedPublicKeys: [] });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, path);
    });

    it('are needed by paths whose CA is of the file or the text: a liar could put any NarHash beside it', async () => {
      const upstream = await unsignedUpstream();
      const snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [strangerKey] });
      for (const name of ['downloaded', 'fixed.txt', 'text-leaf']) {
        expect([name, (await snowcap.get(narInfoRoute(pathNamed(closure, name)))).status]).toEqual([
          name,
          404,
        ]);
      }
    });

    it('are not replaced by a CA field that does not make the store path', async () => {
      const upstream = await unsignedUpstream();
      const path = pathNamed(closure, 'added');
      const lines = (await readNarInfos(unsigned)).get(narInfoRoute(path).slice(1, 33)) ?? [];
      const snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [strangerKey] });
      upstream.route(narInfoRoute(path), {
        body: narInfoText(
          withNarInfoFields(lines, {
            CA: `fixed:r:sha256:${'1'.repeat(52)}`,
            NarHash: `sha256:${'1'.repeat(52)}`,
          }),
        ),
      });
      expect((await snowcap.get(narInfoRoute(path))).status).toBe(404);
    });
  });
});
