import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { publish, type SignedPath, signedPath } from '../support/signed-path.ts';
import { expectAgreement } from './agreement.ts';
import { load } from './clients.ts';
import { type Fleet, publishAll, startFleet } from './fleet.ts';
import { type Servers, serversMissing, startServers } from './servers.ts';

const reason = serversMissing();

/** What is asked for; `NAR miss`: what a narinfo has named, and nobody has stored. */
const QUESTIONS = ['narinfo hit', 'NAR hit', 'narinfo miss', 'NAR miss', 'readyz', 'healthz'] as const;

/** The status of each answer. */
type Row = Readonly<Record<(typeof QUESTIONS)[number], number>>;

const SERVED: Row = {
  'narinfo hit': 200,
  'NAR hit': 200,
  'narinfo miss': 200,
  'NAR miss': 200,
  readyz: 200,
  healthz: 200,
};
const HITS_ALONE: Row = { ...SERVED, 'narinfo miss': 502, 'NAR miss': 502 };

/** What is answered while something is down, or takes connections and says nothing. 404 is nowhere. */
const EXPECTED: Readonly<Record<string, Row>> = {
  'locks down': SERVED,
  'locks silent': SERVED,
  'index down': HITS_ALONE,
  'index silent': HITS_ALONE,
  // Bodies come from the upstream meanwhile.
  'storage down': { ...SERVED, readyz: 503 },
  'storage silent': { ...SERVED, readyz: 503 },
  'upstream down': HITS_ALONE,
  'upstream and locks down': HITS_ALONE,
  'upstream and index down': HITS_ALONE,
  // The index alone is left: narinfos.
  'upstream and storage down': { ...HITS_ALONE, 'NAR hit': 502, readyz: 503 },
};

/** The longest that an answer may take, in milliseconds: two looks at a storage that says nothing. */
const MOST_MS = 25_000;

describe.skipIf(reason !== null)(
  `law 6: what is stored is served while its helpers are down${reason === null ? '' : ` (${reason})`}`,
  () => {
    let servers: Servers;
    let fleet: Fleet;
    let stored: SignedPath;
    let made = 0;

    beforeAll(async () => {
      servers = await startServers();
      fleet = await startFleet(servers, { locks: ['tcp'] });
      stored = await signedPath({ name: 'stored', size: 2_000_000, compression: 'zstd' });
      publish(fleet.upstream, stored);
      await load({ urls: fleet.urls, paths: [stored], copies: () => 1 });
      await expectAgreement(fleet, servers, [stored]);
    });
    afterAll(async () => {
      await fleet.close();
      await servers.close();
    });

    async function statusOf(path: string): Promise<number> {
      const begun = performance.now();
      const answer = await fetch(`${fleet.urls[0]}${path}`);
      const body = await answer.arrayBuffer();
      expect(performance.now() - begun, path).toBeLessThan(MOST_MS);
      // Whatever says that it is there is whole.
      if (answer.status === 200) expect(body.byteLength).toBeGreaterThan(0);
      return answer.status;
    }

    /** A path that the upstream has, with bytes that no other has. */
    async function fresh(): Promise<SignedPath> {
      made += 1;
      const path = await signedPath({ name: `fresh-${made}`, seed: 1000 + made, size: 50_000 });
      publishAll(fleet.upstream, [path]);
      return path;
    }

    async function rowWhile(begin: () => Promise<unknown>, end: () => Promise<unknown>): Promise<Row> {
      const never = await fresh();
      const cold = await fresh();
      expect(await statusOf(`/${cold.hash}.narinfo`)).toBe(200);
      const asked: Readonly<Record<keyof Row, string>> = {
        'narinfo hit': `/${stored.hash}.narinfo`,
        'NAR hit': `/${stored.url}`,
        'narinfo miss': `/${never.hash}.narinfo`,
        'NAR miss': `/${cold.url}`,
        readyz: '/readyz',
        healthz: '/healthz',
      };
      await begin();
      try {
        const row = { ...SERVED };
        await Promise.all(
          QUESTIONS.map(async (question) => (row[question] = await statusOf(asked[question]))),
        );
        return row;
      } finally {
        await end();
      }
    }

    it('gives the same answers as this table', async () => {
      const { redisNetwork: locks, indexNetwork: index, s3Network: storage } = servers;
      const { upstream } = fleet;
      const found: Record<string, Row> = {};
      for (const [name, network] of Object.entries({ locks, index, storage })) {
        found[`${name} down`] = await rowWhile(
          () => network.down(),
          () => network.up(),
        );
        found[`${name} silent`] = await rowWhile(
          () => Promise.resolve(network.stall(true)),
          () => {
            network.stall(false);
            // What was sent meanwhile is lost.
            return Promise.resolve(network.dropAll());
          },
        );
      }
      for (const [name, network] of Object.entries({ upstream: null, locks, index, storage })) {
        const what = network === null ? 'upstream down' : `upstream and ${name} down`;
        found[what] = await rowWhile(
          () => Promise.all([upstream.down(), network?.down()]),
          () => Promise.all([upstream.up(), network?.up()]),
        );
        // Until its circuit is closed: the first time by a probe, then by a new process, which need not wait for one.
        if (network !== null) await fleet.instances[0]?.restart();
        await expect
          .poll(async () => statusOf(`/${(await fresh()).hash}.narinfo`), { timeout: 60_000 })
          .toBe(200);
      }
      process.stdout.write(`${tableOf(found)}\n`);
      expect(found).toEqual(EXPECTED);
    });
  },
);

/** In Markdown, for the documentation. */
function tableOf(rows: Readonly<Record<string, Row>>): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['while', ...QUESTIONS]),
    line(['---', ...QUESTIONS.map(() => '---')]),
    ...Object.entries(rows).map(([what, row]) => line([what, ...QUESTIONS.map((question) => row[question])])),
  ].join('\n');
}
