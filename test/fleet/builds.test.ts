import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FaultServer, startFaultServer } from '../support/fault-server.ts';
import { servedKey } from '../support/replaced.ts';
import { publish, type SignedPath, type SignedPathOptions, signedPath } from '../support/signed-path.ts';
import { until } from '../support/test-cache.ts';
import { askNar } from './clients.ts';
import { type Fleet, startFleet } from './fleet.ts';
import { type Servers, serversMissing, startServers } from './servers.ts';

const reason = serversMissing();

/** Two builds or encodings of one store path, each at an upstream of its own. */
const PAIRS: readonly (readonly [string, SignedPathOptions, SignedPathOptions])[] = [
  ['two builds', {}, { seed: 2 }],
  ['two encodings', { compression: 'zstd' }, { compression: 'gzip' }],
  [
    'two encodings under opaque URLs without FileHash',
    { compression: 'zstd', url: () => 'nar/one.nar.zst', fileFields: false },
    { compression: 'none', url: () => 'nar/other.nar', fileFields: false },
  ],
  [
    'one under its FileHash and one under an opaque URL',
    { compression: 'none' },
    { compression: 'br', url: () => 'nar/opaque.nar', fileFields: false },
  ],
];

describe.skipIf(reason !== null)(
  `two instances, each with an upstream of its own${reason === null ? '' : ` (${reason})`}`,
  () => {
    let servers: Servers;
    let upstreams: readonly [FaultServer, FaultServer];
    let fleet: Fleet;
    let made = 0;

    beforeAll(async () => {
      servers = await startServers();
      upstreams = [await startFaultServer(), await startFaultServer()];
      fleet = await startFleet(servers, {
        locks: ['tcp', 'rest'],
        upstreamsOf: (instance) => [upstreams[instance === 0 ? 0 : 1].url],
        settings: { SNOWCAP_FILL_WAIT: '5' },
      });
    });
    afterAll(async () => {
      await fleet.close();
      await Promise.all(upstreams.map((upstream) => upstream.close()));
      await servers.close();
    });

    async function versions(name: string, one: SignedPathOptions, other: SignedPathOptions) {
      // Bodies that no other test has.
      made += 10;
      const both = { name, size: 300_000, seed: made };
      const pair = [
        await signedPath({ ...both, ...one }),
        await signedPath({ ...both, ...other, seed: made + (other.seed ?? 0) }),
      ] as const;
      publish(upstreams[0], pair[0]);
      publish(upstreams[1], pair[1]);
      return pair;
    }

    it.each(PAIRS)(
      'that meet %s agree on the first answer, and never mix their bytes',
      async (what, one, other) => {
        const pair = await versions(`raced ${what}`.replaceAll(' ', '-'), one, other);
        const [first, second] = fleet.instances;
        if (first === undefined || second === undefined) throw new Error('Two are started');
        // At the same time: whoever records its answer first wins.
        const keys = await Promise.all([first, second].map((instance) => servedKey(instance, pair[0])));
        expect(new Set(keys).size).toBe(1);
        const [key = ''] = keys;
        const row = await fleet.index.getPath(pair[0].hash);
        const won = pair.find(
          ({ narHash, compression }) => row?.path.narHash === narHash && row.nar.compression === compression,
        );
        if (won === undefined) throw new Error('Neither of the two was recorded');
        // The instance that has not this upstream has it of the bucket, once the other one has stored it.
        const [own, foreign] = won === pair[0] ? [first, second] : [second, first];
        expect(await askNar(`${own.url}/${key}`, won)).toMatchObject({ verdict: 'right' });
        await until(async () => (await fleet.bucket.head(key)) !== null);
        expect(await askNar(`${foreign.url}/${key}`, won)).toMatchObject({ verdict: 'right' });
        await expectStored(key, won);
      },
    );

    it.each(PAIRS)(
      'of which one client still has the URL of a lost index, with %s, keep it good',
      async (what, one, other) => {
        const pair = await versions(`lost ${what}`.replaceAll(' ', '-'), one, other);
        const [first, second] = fleet.instances;
        if (first === undefined || second === undefined) throw new Error('Two are started');
        const oldKey = await servedKey(first, pair[0]);
        expect(await askNar(`${first.url}/${oldKey}`, pair[0])).toMatchObject({ verdict: 'right' });
        // Nothing is on its way any more.
        await until(async () => (await fleet.index.getNar(oldKey))?.nar.state === 'present');
        await fleet.loseIndex();
        const newKey = await servedKey(second, pair[1]);
        expect(await askNar(`${second.url}/${newKey}`, pair[1])).toMatchObject({ verdict: 'right' });
        await until(async () => (await fleet.bucket.head(newKey)) !== null);
        expect(newKey).not.toBe(oldKey);
        for (const { url } of fleet.instances) {
          expect(await askNar(`${url}/${oldKey}`, pair[0])).toMatchObject({ verdict: 'right' });
          expect(await askNar(`${url}/${newKey}`, pair[1])).toMatchObject({ verdict: 'right' });
        }
        await expectStored(oldKey, pair[0]);
        await expectStored(newKey, pair[1]);
      },
    );

    async function expectStored(key: string, { body }: SignedPath): Promise<void> {
      const blob = await fleet.bucket.get(key);
      if (blob?.kind !== 'found') throw new Error(`${key} is not in the bucket`);
      const chunks: Uint8Array[] = [];
      if (blob.body.kind === 'bytes') chunks.push(blob.body.bytes);
      else for await (const chunk of blob.body.stream) chunks.push(Buffer.from(chunk));
      expect(Buffer.concat(chunks).equals(body)).toBe(true);
    }
  },
);
