import type { CacheServices } from './services.ts';

/** How each dependency is, told apart. */
export interface Readiness {
  /** Whether requests should be sent here. Storage alone decides it: hits are served without all the others (law 6). */
  readonly ready: boolean;
  readonly dependencies: readonly DependencyState[];
}

export interface DependencyState {
  readonly name: 'storage' | 'index' | 'locks' | 'upstream';
  /** Place without secrets. */
  readonly description: string;
  readonly ok: boolean;
  /** What is wrong; null where nothing is. */
  readonly problem: string | null;
}

const PATIENCE_MS = 3_000;

/** Asks storage, index and locks; of the upstreams only what is known already. Never rejects. */
export async function checkReadiness(services: CacheServices): Promise<Readiness> {
  const { storage, metadata, locks, upstreams } = services;
  const asked = await Promise.all([
    ask(services, 'storage', storage),
    ask(services, 'index', metadata),
    ask(services, 'locks', locks),
  ]);
  const known = upstreams.status().map((upstream): DependencyState => ({
    name: 'upstream',
    description: upstream.url,
    ok: upstream.circuit === 'closed',
    problem:
      upstream.circuit === 'closed' ? null : (upstream.lastFault ?? `its circuit is ${upstream.circuit}`),
  }));
  return { ready: asked[0].ok, dependencies: [...asked, ...known] };
}

async function ask(
  { platform }: CacheServices,
  name: 'storage' | 'index' | 'locks',
  dependency: { readonly description: string; ping(): Promise<void> },
): Promise<DependencyState> {
  const { description } = dependency;
  const patience = new AbortController();
  try {
    await Promise.race([
      dependency.ping(),
      platform.clock.sleep(PATIENCE_MS, patience.signal).then(() => {
        throw new Error(`no answer within ${PATIENCE_MS} ms`);
      }),
    ]);
    return { name, description, ok: true, problem: null };
  } catch (error) {
    return { name, description, ok: false, problem: error instanceof Error ? error.message : String(error) };
  } finally {
    patience.abort();
  }
}
