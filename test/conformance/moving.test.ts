import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { formatSecretKey, generateSecretKey } from '../../src/nix/signing-key.ts';
import { createS3Store } from '../../src/storage/s3/s3.ts';
import { openClosure, pathNamed } from '../support/closure.ts';
import { type CommandResult, runCommand } from '../support/nix-command.ts';
import { postgresMissing, startPostgres } from '../support/postgres-server.ts';
import { startPublicBucket } from '../support/public-bucket.ts';
import { skipReason } from '../support/require.ts';
import { startS3Server } from '../support/s3-server.ts';
import { s3StoreOptions } from '../support/s3-store.ts';
import { upstreamCacheOf } from '../support/upstream-cache.ts';
import { createBench, expectSameAsSource } from './harness.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const reason = skipReason('nix', 'nix-store', 'nix-build') ?? postgresMissing();

/** The commands of a guide, as they stand there. */
async function commandsOf(guide: string, sections?: readonly string[]): Promise<string> {
  const text = await readFile(join(REPOSITORY, 'docs', guide), 'utf8');
  const parts = text
    .split(/^## /m)
    .filter((part) => sections === undefined || sections.some((name) => part.startsWith(`${name}\n`)));
  const blocks = [...parts.join('\n').matchAll(/```sh\n([^]*?)```/g)].map(([, block = '']) => block);
  if (blocks.length === 0) throw new Error(`${guide} has no commands`);
  return blocks.join('');
}

describe.skipIf(reason !== null)(
  `the commands of docs/moving.md and docs/keys.md${reason === null ? '' : ` (${reason})`}`,
  () => {
    const bench = createBench();
    let tools: string;

    beforeAll(async () => {
      tools = await mkdtemp(join(tmpdir(), 'snowcap-moving-'));
      const node = join(REPOSITORY, 'node_modules/.bin/node');
      const script = `#!/bin/sh\nexec '${node}' '${join(REPOSITORY, 'bin/snowcap.js')}' "$@"\n`;
      await writeFile(join(tools, 'snowcap'), script, { mode: 0o755 });
    });

    afterAll(() => rm(tools, { recursive: true, force: true }));

    it('move a cache from files and SQLite to S3 and PostgreSQL, and rotate its key; a plain client reads the bucket', async () => {
      const [server, postgres, closure] = await Promise.all([
        startS3Server(),
        startPostgres(),
        openClosure(),
      ]);
      const root = pathNamed(closure, 'layer-2-0');
      bench.afterwards(() => server.close());
      bench.afterwards(() => postgres.stop());
      const oldKey = formatSecretKey(await generateSecretKey('cache.example.org-1'));
      const upstream = await bench.upstream(await upstreamCacheOf(closure, 'zstd'));
      const snowcap = await bench.snowcap({
        upstreams: [upstream.url],
        trustedPublicKeys: [closure.publicKey],
        env: { SNOWCAP_SECRET_KEY: oldKey },
      });
      const first = await bench.client();
      const filled = await first.copyFrom(snowcap.url, [root], {
        trustedPublicKeys: [await snowcap.publicKey()],
      });
      expect(filled.code, filled.stderr).toBe(0);
      await snowcap.stop();
      await upstream.down();
      const before = await readdir(join(snowcap.storage, 'nar'));

      const options = s3StoreOptions(server);
      const query = new URLSearchParams({
        endpoint: server.endpoint,
        region: server.region,
        pathStyle: 'true',
      });
      const newStorage = `s3://${server.bucket}/${options.prefix}?${query.toString()}`;
      const newDatabase = await postgres.createDatabase();
      const place = join(snowcap.directory, 'commands');
      await mkdir(place);
      const run = async (commands: string, settings: Record<string, string>): Promise<CommandResult> => {
        const done = await runCommand('/bin/sh', ['-euc', commands], {
          cwd: place,
          env: {
            PATH: `${tools}:${process.env['PATH'] ?? ''}`,
            HOME: place,
            AWS_ACCESS_KEY_ID: server.credentials.accessKeyId,
            AWS_SECRET_ACCESS_KEY: server.credentials.secretAccessKey,
            SNOWCAP_SECRET_KEY: oldKey,
            SNOWCAP_UPSTREAMS: upstream.url,
            SNOWCAP_TRUSTED_PUBLIC_KEYS: closure.publicKey,
            ...settings,
          },
        });
        expect(done.code, done.stderr + done.stdout).toBe(0);
        return done;
      };
      const moved = await run(await commandsOf('moving.md'), {
        OLD_STORAGE: `file:${snowcap.storage}`,
        NEW_STORAGE: newStorage,
        OLD_DATABASE: `sqlite:${join(snowcap.directory, 'index.db')}`,
        NEW_DATABASE: newDatabase,
      });
      expect(moved.stdout).toContain('nothing found');

      const rotated = await run(await commandsOf('keys.md'), {
        OLD_KEY: oldKey,
        OLD_KEY_NAME: 'cache.example.org-1',
        SNOWCAP_STORAGE: newStorage,
        SNOWCAP_DATABASE: newDatabase,
      });
      const publicKey = /^cache\.example\.org-2:\S+$/m.exec(rotated.stdout)?.[0] ?? '';
      expect(publicKey).not.toBe('');

      const store = createS3Store(options);
      const bucket = await startPublicBucket(store);
      bench.afterwards(async () => {
        await bucket.close();
        await store.close();
      });
      const client = await bench.client();
      const copied = await client.copyFrom(bucket.url, [root], { trustedPublicKeys: [publicKey] });
      expect(copied.code, copied.stderr).toBe(0);
      await expectSameAsSource(client, closure, root);
      const oldClient = await bench.client();
      const refused = await oldClient.copyFrom(bucket.url, [root], {
        trustedPublicKeys: [await snowcapKey(oldKey, tools)],
      });
      expect(refused.code).not.toBe(0);
      expect((await readdir(join(snowcap.storage, 'nar'))).sort()).toEqual(before.sort());
    });
  },
);

/** The public key of a secret one. */
async function snowcapKey(secretKey: string, tools: string): Promise<string> {
  const file = join(tools, 'old-key');
  await writeFile(file, secretKey, { mode: 0o600 });
  const shown = await runCommand(join(tools, 'snowcap'), ['key', 'public', file], {
    cwd: tools,
    env: { PATH: process.env['PATH'] ?? '' },
  });
  return shown.stdout.trim();
}
