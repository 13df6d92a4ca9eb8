import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, vi } from 'vitest';
import { closureOf, openClosure, pathNamed } from '../support/closure.ts';
import type { Closure } from '../support/closure.ts';
import type { Behaviour, FaultServer } from '../support/fault-server.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import { narInfoField, readNarInfos, upstreamCacheOf } from '../support/upstream-cache.ts';
import { UPSTREAM_QUIRKS } from '../support/upstream-server.ts';
import {
  createBench,
  expectGenuineStorage,
  expectNothingWrong,
  expectSameAsSource,
  narInfoRoute,
} from './harness.ts';

const reason = skipReason('nix', 'nix-store', 'nix-build');

/** As small as most NARs, held back whole; and one of which a client has most before the lie shows. */
type Size = 'small' | 'large';

interface Lie {
  readonly title: string;
  /** What goes wrong with a NAR of this many bytes; `other` is the file of another NAR. */
  readonly tell: (size: number, other: string) => Behaviour;
  readonly sizes: readonly Size[];
  /** Whether most of it is waiting: until it is given up, or for as long as it asks. */
  readonly waits?: true;
}

const BOTH: readonly Size[] = ['small', 'large'];
const SMALL: readonly Size[] = ['small'];

const half = (size: number): number => Math.floor(size / 2);

const LIES: readonly Lie[] = [
  { title: 'truncates', tell: (size) => ({ truncateAt: half(size), ranges: false }), sizes: BOTH },
  {
    title: 'truncates without having said a length',
    tell: (size) => ({ contentLength: 'close', truncateAt: half(size), ranges: false }),
    sizes: BOTH,
  },
  { title: 'resets the connection', tell: (size) => ({ resetAt: half(size), ranges: false }), sizes: BOTH },
  { title: 'flips a bit in the middle', tell: (size) => ({ flipBitAt: half(size) }), sizes: BOTH },
  { title: 'flips a bit of the last byte', tell: (size) => ({ flipBitAt: size - 1 }), sizes: BOTH },
  { title: 'announces more than it sends', tell: (size) => ({ contentLength: size + 1000 }), sizes: BOTH },
  { title: 'announces less than there is', tell: (size) => ({ contentLength: size - 10 }), sizes: BOTH },
  { title: 'stalls in the body', tell: (size) => ({ stallAt: half(size) }), sizes: BOTH, waits: true },
  { title: 'stalls before the headers', tell: () => ({ stallAt: 'headers' }), sizes: SMALL, waits: true },
  { title: 'sends another NAR', tell: (_, other) => ({ body: { file: other } }), sizes: SMALL },
  { title: 'sends nothing', tell: () => ({ body: '' }), sizes: SMALL },
  { title: 'answers 500', tell: () => ({ status: 500, body: 'broken\n' }), sizes: SMALL },
  {
    title: 'answers 503 with Retry-After',
    tell: () => ({ status: 503, headers: { 'Retry-After': '1' }, body: 'busy\n' }),
    sizes: SMALL,
    waits: true,
  },
  {
    title: 'answers 429 with Retry-After',
    tell: () => ({ status: 429, headers: { 'Retry-After': '1' }, body: 'slower\n' }),
    sizes: SMALL,
    waits: true,
  },
];

/** Short enough for a test to wait for, many times over. */
const TIMEOUTS = { SNOWCAP_UPSTREAM_HEADERS_TIMEOUT: '1', SNOWCAP_UPSTREAM_IDLE_TIMEOUT: '1' };

describe.skipIf(reason !== null)(`an upstream that lies${reason === null ? '' : ` (${reason})`}`, () => {
  const bench = createBench();
  let closure: Closure;
  let directory: string;
  let roots: Readonly<Record<Size, string>>;

  beforeAll(async () => {
    closure = await openClosure();
    directory = await upstreamCacheOf(closure, 'zstd');
    roots = { small: pathNamed(closure, 'layer-2-0'), large: pathNamed(closure, 'large') };
  });

  interface Scene {
    readonly upstream: FaultServer;
    readonly snowcap: SnowcapProcess;
    /** Below the root there is nothing to lie about. */
    readonly root: string;
  }

  /** Snowcap behind an upstream that answers for one NAR what each of `lies` makes of it, in turn. */
  async function scene(size: Size, ...lies: readonly Lie['tell'][]): Promise<Scene> {
    const root = roots[size];
    const upstream = await bench.upstream(directory);
    const snowcap = await bench.snowcap({
      upstreams: [upstream.url],
      trustedPublicKeys: [closure.publicKey],
      env: { ...TIMEOUTS, SNOWCAP_NEGATIVE_TTL: '0' },
    });
    const narInfos = await readNarInfos(directory);
    const urlOf = (path: string): string =>
      narInfoField(narInfos.get(narInfoRoute(path).slice(1, 33)) ?? [], 'URL');
    const bytes = (await stat(join(directory, urlOf(root)))).size;
    const other = join(directory, urlOf(pathNamed(closure, 'wide')));
    upstream.route(
      `/${urlOf(root)}`,
      lies.map((tell) => tell(bytes, other)),
    );
    return { upstream, snowcap, root };
  }

  function testLie({ tell, sizes }: Lie): void {
    it.each(sizes)(
      'once: a client gets the right bytes or an error, the next one the right bytes (%s)',
      async (size) => {
        const { snowcap, root } = await scene(size, tell, () => ({}));
        const client = await bench.client();
        const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
        await expectNothingWrong(client, closure);
        await expectGenuineStorage(snowcap, [directory]);
        // A small NAR is held back until it is verified: the client has nothing wrong to go on from, and asks again.
        if (size === 'small') expect(result.code, result.stderr).toBe(0);
        await expectRecovery(snowcap, root);
      },
    );

    it('always: makes an error, and nothing wrong anywhere, until it tells the truth again', async () => {
      const { upstream, snowcap, root } = await scene('small', tell);
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [root], {
        trustedPublicKeys: [closure.publicKey],
        settings: { 'download-attempts': '2' },
      });
      expect(result.code).not.toBe(0);
      expect((await client.validPaths()).has(root)).toBe(false);
      await expectNothingWrong(client, closure);
      await expectGenuineStorage(snowcap, [directory]);
      upstream.reset();
      await expectRecovery(snowcap, root);
    });
  }

  describe.each(LIES.filter(({ waits }) => waits !== true))('and $title', (lie) => {
    testLie(lie);
  });
  // At the same time: waiting takes nothing of the machine.
  describe.concurrent.each(LIES.filter(({ waits }) => waits === true))('and $title', (lie) => {
    testLie(lie);
  });

  it.each([
    ['truncates', (size: number): Behaviour => ({ truncateAt: Math.ceil(size / 3) })],
    ['resets the connection', (size: number): Behaviour => ({ resetAt: Math.ceil(size / 3) })],
  ] as const)('and always %s, but honours ranges, is got over within one copy', async (_, tell) => {
    const { snowcap, root } = await scene('large', tell);
    const client = await bench.client();
    const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
    expect(result.code, result.stderr).toBe(0);
    await expectSameAsSource(client, closure, root);
    await expectGenuineStorage(snowcap, [directory]);
  });

  /** A circuit that opened on the lies closes again, within about half a minute. */
  async function expectRecovery(snowcap: SnowcapProcess, root: string): Promise<void> {
    await vi.waitFor(
      async () => {
        const client = await bench.client();
        const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
        expect(result.code, result.stderr).toBe(0);
        await expectSameAsSource(client, closure, root);
      },
      { timeout: 60_000, interval: 1000 },
    );
    // A fill is committed just after its last byte was sent.
    const expected = new Set(closureOf(closure, root).map(({ sha256 }) => sha256)).size;
    await vi.waitFor(async () => expect(await expectGenuineStorage(snowcap, [directory])).toBe(expected), {
      timeout: 10_000,
      interval: 100,
    });
  }

  it('about a NAR for which it gives no FileHash is found out by the NarHash', async () => {
    const quirk = UPSTREAM_QUIRKS.find(({ title }) => title.startsWith('nix-serve'));
    const plain = await upstreamCacheOf(closure, 'none');
    const upstream = await bench.upstream(plain, quirk);
    const snowcap = await bench.snowcap({
      upstreams: [upstream.url],
      trustedPublicKeys: [closure.publicKey],
    });
    const root = pathNamed(closure, 'wide');
    const lines = (await readNarInfos(plain)).get(narInfoRoute(root).slice(1, 33)) ?? [];
    const narHash = narInfoField(lines, 'NarHash').replace('sha256:', '');
    upstream.route(`/nar/${narInfoRoute(root).slice(1, 33)}-${narHash}.nar`, {
      body: { file: join(plain, narInfoField(lines, 'URL')) },
      // A digit in a file: the archive stays well-formed.
      flipBitAt: 1000,
    });
    const client = await bench.client();
    const result = await client.copyFrom(snowcap.url, [root], {
      trustedPublicKeys: [closure.publicKey],
      settings: { 'download-attempts': '2' },
    });
    expect(result.code).not.toBe(0);
    expect((await client.validPaths()).size).toBe(0);
    expect(await expectGenuineStorage(snowcap, [plain])).toBe(0);
  });

  it.each([
    ['answers 500 once', [{ status: 500, body: 'broken\n' }, {}]],
    ['truncates once', [{ truncateAt: 100 }, {}]],
    ['resets once', [{ resetAt: 100 }, {}]],
    ['stalls once', [{ stallAt: 100 }, {}]],
  ] as const)('about a narinfo and %s: the client gets the right one', async (_, behaviours) => {
    const root = roots.small;
    const upstream = await bench.upstream(directory);
    const snowcap = await bench.snowcap({
      upstreams: [upstream.url],
      trustedPublicKeys: [closure.publicKey],
      env: TIMEOUTS,
    });
    upstream.route(narInfoRoute(root), behaviours);
    const client = await bench.client();
    const result = await client.copyFrom(snowcap.url, [root], { trustedPublicKeys: [closure.publicKey] });
    expect(result.code, result.stderr).toBe(0);
    await expectSameAsSource(client, closure, root);
  });
});
