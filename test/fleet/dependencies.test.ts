import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SignedPath, signedPath, type SignedPathOptions } from '../support/signed-path.ts';
import type { TcpProxy } from '../support/tcp-proxy.ts';
import { expectAgreement } from './agreement.ts';
import { load } from './clients.ts';
import { type Fleet, publishAll, startFleet } from './fleet.ts';
import { type Servers, serversMissing, startServers } from './servers.ts';

const reason = serversMissing();

/** What is asked for; `NAR miss`: what a narinfo has named, and nobody has stored. */
const QUESTIONS = ['narinfo hit', 'NAR hit', 'narinfo miss', 'NAR miss', 'readyz', 'healthz'] as const;

/** The status of each answer. */
type Row = Readonly<Record<(typeof QUESTIONS)[number], number>>;
/** By what is at fault. */
type Rows = Readonly<Record<string, Row>>;

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
const EXPECTED: Rows = {
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

interface Scene {
  readonly servers: Servers;
  readonly fleet: Fleet;
  /** What the instance has stored. */
  readonly stored: SignedPath;
}

describe.skipIf(reason !== null)(
  `law 6: what is stored is served while its helpers are down${reason === null ? '' : ` (${reason})`}`,
  () => {
    let servers: Servers;
    const fleets: Fleet[] = [];
    let made = 0;

    beforeAll(async () => {
      servers = await startServers();
    });
    afterAll(async () => {
      await Promise.all(fleets.map((fleet) => fleet.close()));
      await servers.close();
    });

    /** An instance that has a path stored, over networks that are its own. */
    async function startScene(): Promise<Scene> {
      const own = await servers.apart();
      const fleet = await startFleet(own, { locks: ['tcp'] });
      fleets.push(fleet);
      const stored = await fresh(fleet, { size: 2_000_000, compression: 'zstd' });
      await load({ urls: fleet.urls, paths: [stored], copies: () => 1 });
      await expectAgreement(fleet, own, [stored]);
      return { servers: own, fleet, stored };
    }

    async function statusOf({ urls }: Fleet, path: string): Promise<number> {
      const begun = performance.now();
      const answer = await fetch(`${urls[0]}${path}`);
      const body = await answer.arrayBuffer();
      expect(performance.now() - begun, path).toBeLessThan(MOST_MS);
      // Whatever says that it is there is whole.
      if (answer.status === 200) expect(body.byteLength).toBeGreaterThan(0);
      return answer.status;
    }

    /** A path that the upstream has, with bytes that no other has. */
    async function fresh({ upstream }: Fleet, options: SignedPathOptions = {}): Promise<SignedPath> {
      made += 1;
      const path = await signedPath({ name: `fresh-${made}`, seed: 1000 + made, size: 50_000, ...options });
      publishAll(upstream, [path]);
      return path;
    }

    async function rowWhile(
      { fleet, stored }: Scene,
      begin: () => Promise<unknown>,
      end: () => Promise<unknown>,
    ): Promise<Row> {
      const never = await fresh(fleet);
      const cold = await fresh(fleet);
      expect(await statusOf(fleet, `/${cold.hash}.narinfo`)).toBe(200);
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
          QUESTIONS.map(async (question) => (row[question] = await statusOf(fleet, asked[question]))),
        );
        return row;
      } finally {
        await end();
      }
    }

    async function expectReached(fleet: Fleet): Promise<void> {
      await expect
        .poll(async () => statusOf(fleet, `/${(await fresh(fleet)).hash}.narinfo`), { timeout: 60_000 })
        .toBe(200);
    }

    /** The rows of one dependency: down, silent, and down together with the upstream. */
    async function rowsOf(name: string, networkOf: (servers: Servers) => TcpProxy): Promise<Rows> {
      const scene = await startScene();
      const { fleet } = scene;
      const network = networkOf(scene.servers);
      const down = await rowWhile(
        scene,
        () => network.down(),
        () => network.up(),
      );
      const silent = await rowWhile(
        scene,
        () => Promise.resolve(network.stall(true)),
        () => {
          network.stall(false);
          // What was sent meanwhile is lost.
          return Promise.resolve(network.dropAll());
        },
      );
      // A new process: this one may still have the body of a hit, as a fill that its storage has not taken.
      await fleet.instances[0]?.restart();
      const both = await rowWhile(
        scene,
        () => Promise.all([fleet.upstream.down(), network.down()]),
        () => Promise.all([fleet.upstream.up(), network.up()]),
      );
      // Nor need a new one wait for a probe until the circuit of its upstream is closed.
      await fleet.instances[0]?.restart();
      await expectReached(fleet);
      return { [`${name} down`]: down, [`${name} silent`]: silent, [`upstream and ${name} down`]: both };
    }

    /** The row of the upstream alone, whose circuit a probe closes again. */
    async function rowOfUpstream(): Promise<Rows> {
      const scene = await startScene();
      const { fleet } = scene;
      const down = await rowWhile(
        scene,
        () => fleet.upstream.down(),
        () => fleet.upstream.up(),
      );
      await expectReached(fleet);
      return { 'upstream down': down };
    }

    it('gives the same answers as this table', async () => {
      // At the same time, as most of it is waiting.
      const rows = await Promise.all([
        rowsOf('locks', ({ redisNetwork }) => redisNetwork),
        rowsOf('index', ({ indexNetwork }) => indexNetwork),
        rowsOf('storage', ({ s3Network }) => s3Network),
        rowOfUpstream(),
      ]);
      const found: Rows = Object.fromEntries(rows.flatMap((some) => Object.entries(some)));
      process.stdout.write(`${tableOf(found)}\n`);
      expect(found).toEqual(EXPECTED);
    });
  },
);

/** In Markdown, for the documentation, in the order of what is expected. */
function tableOf(rows: Rows): string {
  const line = (cells: readonly (string | number | undefined)[]): string => `| ${cells.join(' | ')} |`;
  return [
    line(['while', ...QUESTIONS]),
    line(['---', ...QUESTIONS.map(() => '---')]),
    ...Object.keys(EXPECTED).map((what) =>
      line([what, ...QUESTIONS.map((question) => rows[what]?.[question])]),
    ),
  ].join('\n');
}
