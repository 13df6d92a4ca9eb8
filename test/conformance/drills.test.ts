import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Closure, openClosure } from '../support/closure.ts';
import type { FaultServer } from '../support/fault-server.ts';
import { type CommandResult, runCommand } from '../support/nix-command.ts';
import { skipReason } from '../support/require.ts';
import type { SnowcapProcess } from '../support/snowcap-process.ts';
import { upstreamCacheOf } from '../support/upstream-cache.ts';
import { createBench, expectSameAsSource } from './harness.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const reason = skipReason('nix', 'nix-store', 'nix-build');

/** The commands of a section of the guide, as they stand there. */
async function commandsOf(section: string): Promise<string> {
  const guide = await readFile(join(REPOSITORY, 'docs/recovery.md'), 'utf8');
  const start = guide.indexOf(`## ${section}\n`);
  const end = guide.indexOf('\n## ', start);
  const text = guide.slice(start, end === -1 ? undefined : end);
  const blocks = [...text.matchAll(/```sh\n([^]*?)```/g)].map(([, block = '']) => block);
  if (start === -1 || blocks.length === 0) throw new Error(`The guide has no commands for ${section}`);
  return blocks.join('');
}

describe.skipIf(reason !== null)(
  `the drills of docs/recovery.md${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createBench();
    let closure: Closure;
    let upstream: FaultServer;
    let snowcap: SnowcapProcess;
    let tools: string;

    beforeAll(async () => {
      closure = await openClosure();
      tools = await mkdtemp(join(tmpdir(), 'snowcap-drills-'));
      const node = join(REPOSITORY, 'node_modules/.bin/node');
      const script = `#!/bin/sh\nexec '${node}' '${join(REPOSITORY, 'bin/snowcap.js')}' "$@"\n`;
      await writeFile(join(tools, 'snowcap'), script, { mode: 0o755 });
    });

    afterAll(() => rm(tools, { recursive: true, force: true }));

    beforeEach(async () => {
      upstream = await bench.upstream(await upstreamCacheOf(closure, 'zstd'));
      snowcap = await bench.snowcap({ upstreams: [upstream.url], trustedPublicKeys: [closure.publicKey] });
      await copied();
      await snowcap.stop();
    });

    /** A new client gets the whole closure, and trusts Snowcap's key alone. */
    async function copied(): Promise<void> {
      const client = await bench.client();
      const result = await client.copyFrom(snowcap.url, [closure.root], {
        trustedPublicKeys: [await snowcap.publicKey()],
      });
      expect(result.code, result.stderr).toBe(0);
      await expectSameAsSource(client, closure, closure.root);
    }

    async function drill(section: string, changes: Record<string, string> = {}): Promise<CommandResult> {
      return await runCommand('/bin/sh', ['-euc', await commandsOf(section)], {
        cwd: snowcap.directory,
        env: {
          PATH: `${tools}:${process.env['PATH'] ?? ''}`,
          HOME: snowcap.directory,
          DATA: snowcap.directory,
          SNOWCAP_STORAGE: `file:${snowcap.storage}`,
          SNOWCAP_DATABASE: `sqlite:${join(snowcap.directory, 'index.db')}`,
          SNOWCAP_HOSTNAME: 'snowcap.test',
          SNOWCAP_UPSTREAMS: upstream.url,
          SNOWCAP_TRUSTED_PUBLIC_KEYS: closure.publicKey,
          ...changes,
        },
      });
    }

    async function nars(): Promise<readonly string[]> {
      return (await readdir(join(snowcap.storage, 'nar')).catch(() => [])).toSorted((one, other) =>
        one < other ? -1 : 1,
      );
    }

    it('the database is lost: all is there again, without an upstream', async () => {
      const before = await nars();
      const done = await drill('The database is lost');
      expect(done.code, done.stderr + done.stdout).toBe(0);
      expect(done.stdout).toMatch(/\b1\d\d narinfos read/);
      expect(done.stdout).toContain('nothing found');
      await upstream.down();
      await snowcap.restart();
      await copied();
      expect(await nars()).toEqual(before);
    });

    it('the bucket is lost: all is fetched again', async () => {
      await rm(snowcap.storage, { recursive: true });
      const done = await drill('The bucket is lost');
      expect(done.code, done.stderr + done.stdout).toBe(0);
      expect(done.stdout).toContain('repaired  NAR missing');
      await snowcap.restart();
      await copied();
    });

    it('an object is corrupted: it is found, removed and fetched again', async () => {
      const largest = (await nars())[0] ?? '';
      const file = join(snowcap.storage, 'nar', largest);
      const bytes = await readFile(file);
      bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
      await writeFile(file, bytes);
      const done = await drill('An object is corrupted');
      expect(done.code, done.stderr + done.stdout).toBe(0);
      expect(done.stdout).toContain(`repaired  wrong content  nar/${largest}`);
      expect(await nars()).not.toContain(largest);
      await snowcap.restart();
      await copied();
      expect(await nars()).toContain(largest);
    });

    it('an upstream key is withdrawn: its paths are gone from answers and bucket', async () => {
      await snowcap.restart({ trustedPublicKeys: [] });
      const { path } = [...closure.paths.values()].find(({ ca }) => ca === null) ?? { path: '' };
      const hash = path.slice('/nix/store/'.length).slice(0, 32);
      expect((await snowcap.get(`/${hash}.narinfo`)).status).toBe(404);
      await snowcap.stop();
      const done = await drill('An upstream key is withdrawn', { SNOWCAP_TRUSTED_PUBLIC_KEYS: '' });
      expect(done.code, done.stderr + done.stdout).toBe(0);
      expect(await readdir(snowcap.storage)).not.toContain(`${hash}.narinfo`);
    });
  },
);
