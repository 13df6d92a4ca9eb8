import { closureOf, dependantsOf, readPackages } from './package-graph.ts';
import { below, DAY_MS, type Request, seededRandom, type Trace, traceOf } from './trace.ts';

export interface ClosureOptions {
  readonly seed: number;
  readonly weeks: number;
}

const MACHINES = 60;
const PROJECTS = 25;
const BUILDS_PER_DAY = 30;
/** Of the changes of a week: the part of the packages. */
const CHANGED = 0.03;
/** What more packages than these need is changed in the weeks in which all is rebuilt alone. */
const CORE = 150;
const MASS_REBUILD_WEEKS = 4;
const MIRROR_WEEKS = 3;
/** Weeks after which a project takes the packages of the day, about. */
const LOCKED_WEEKS = 4;

/**
 * A company with machines that are updated and builds that begin with nothing, over the closures of real packages. As
 * with Nix, a package is another object as soon as anything below it has changed: each week some packages change, and every
 * fourth week all of them. Machines ask for what is new in their closures once a week; builds for their whole closures, of the
 * packages that their project is locked to. Every third week somebody mirrors all that there is.
 */
export function closureTrace({ seed, weeks }: ClosureOptions): Trace {
  const random = seededRandom(seed);
  const packages = readPackages();
  const dependants = dependantsOf(packages);
  const roots = [...packages.keys()].filter((number) => dependants[number]?.length === 1);
  const sizes: number[] = [];
  const make = (number: number): number => sizes.push(packages[number]?.size ?? 0) - 1;
  /** The object of each package, in the release of the week. */
  let release: readonly number[] = packages.map((_, number) => make(number));

  const closureOfSome = (most: number): readonly number[] => {
    const some = Array.from({ length: 1 + below(most, random) }, () => popular(roots, random));
    return closureOf(packages, some);
  };
  const machines = Array.from({ length: MACHINES }, () => ({
    closure: closureOfSome(6),
    day: below(7, random),
    has: new Set<number>(),
  }));
  const projects = Array.from({ length: PROJECTS }, () => ({ closure: closureOfSome(3), locked: release }));

  function nextRelease(week: number): readonly number[] {
    const changed = new Set<number>();
    for (const above of dependants) {
      if (week % MASS_REBUILD_WEEKS === 0 || (above.length <= CORE && random() < CHANGED)) {
        for (const one of above) changed.add(one);
      }
    }
    return release.map((object, number) => (changed.has(number) ? make(number) : object));
  }

  const requests: Request[] = [];
  function ask(objects: Iterable<number>, begin: number, stepMs: number): void {
    let at = begin;
    for (const object of objects) requests.push({ at: (at += stepMs), object });
  }

  for (let day = 0; day < weeks * 7; day++) {
    if (day % 7 === 0 && day > 0) {
      release = nextRelease(day / 7);
      for (const project of projects) if (random() < 1 / LOCKED_WEEKS) project.locked = release;
    }
    const anyTime = (): number => (day + random()) * DAY_MS;
    for (const { closure, day: own, has } of machines) {
      if (day % 7 !== own) continue;
      const wanted = closure.map((number) => release[number] ?? 0).filter((object) => !has.has(object));
      for (const object of wanted) has.add(object);
      ask(wanted, anyTime(), 150);
    }
    for (let build = 0; build < BUILDS_PER_DAY; build++) {
      const project = popular(projects, random);
      ask(
        project.closure.map((number) => project.locked[number] ?? 0),
        anyTime(),
        60,
      );
    }
    if (day % (MIRROR_WEEKS * 7) === MIRROR_WEEKS * 7 - 1) ask(release, anyTime(), 50);
  }
  return traceOf('closures', requests, sizes);
}

/** The first ones more often. */
function popular<T>(list: readonly T[], random: () => number): T {
  const chosen = list[Math.floor(list.length * random() ** 2)];
  if (chosen === undefined) throw new RangeError('There is nothing to choose from');
  return chosen;
}
