import type { RaceResult } from './race.ts';
import type { Upstream } from './upstream.ts';
import type { UpstreamFault } from './upstreams.ts';

/** All upstreams, and which of them count now. */
export class Fleet {
  readonly all: readonly Upstream[];
  readonly #byName: ReadonlyMap<string, Upstream>;

  /** @throws TypeError if two upstreams have the same base URL */
  constructor(upstreams: readonly Upstream[]) {
    this.all = upstreams;
    this.#byName = new Map(upstreams.map((upstream) => [upstream.name, upstream]));
    if (this.#byName.size < upstreams.length) throw new TypeError('Cannot use the same upstream URL twice');
  }

  /** @param name the base URL */
  get(name: string): Upstream | undefined {
    return this.#byName.get(name);
  }

  /**
   * The upstreams whose circuit is closed, best first. Those whose circuit is open are probed beside, if that is
   * due; only where nobody else is left is the first good probe waited for.
   */
  async counting(among: readonly Upstream[] = this.all): Promise<readonly Upstream[]> {
    if (!among.every(isClosed)) await probed(among);
    const closed = among.filter(isClosed);
    for (const upstream of closed) upstream.learnPriority();
    // The sort is stable: among equals the order of the configuration stays.
    return closed.toSorted((a, b) => a.priority - b.priority);
  }

  /**
   * What it means that nobody said yes (law 5): a fault of one who counts is a fault, and so is it when nobody
   * counts; else all who count said no.
   */
  fault(result: Extract<RaceResult<unknown>, { kind: 'none' }>, asked: number): UpstreamFault | null {
    const faults = result.faults.filter(({ reason }) => reason !== 'circuit-open');
    if (faults.length > 0) return merged(faults);
    const noneCounts = asked === result.faults.length && this.all.length > 0;
    return noneCounts ? circuitsOpen(this.all) : null;
  }
}

/** The fault where every upstream that could be asked is left alone for a while. */
export function circuitsOpen(upstreams: readonly Upstream[]): UpstreamFault {
  const each = upstreams.map(
    ({ name, circuit }) => `${name} has failed too often lately (${circuit.lastFault ?? 'no reason'})`,
  );
  return { reason: 'circuit-open', message: each.join('; ') };
}

/** Probes those that are due; resolves with the first one that answers, at once where one counts already. */
async function probed(among: readonly Upstream[]): Promise<void> {
  const probes = among.map(async (upstream) => {
    await upstream.probeIfDue();
    if (!isClosed(upstream)) throw new Error(`${upstream.name} does not answer`);
  });
  const anyGood = Promise.any(probes).catch(() => undefined);
  if (!among.some(isClosed)) await anyGood;
}

function isClosed(upstream: Upstream): boolean {
  return upstream.circuit.state === 'closed';
}

function merged(faults: readonly UpstreamFault[]): UpstreamFault {
  const reasons = new Set(faults.map(({ reason }) => reason));
  const [first] = reasons;
  return {
    reason: reasons.size === 1 && first !== undefined ? first : 'unreachable',
    message: faults.map(({ message }) => message).join('; '),
  };
}
