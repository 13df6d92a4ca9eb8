/** What a verification can find, in the words of its report. */
export type FindingKind =
  /** The index has a NAR as present that is not in storage. */
  | 'NAR missing'
  /** The stored body has another size than the index says. */
  | 'wrong size'
  /** The stored body is not what is signed. */
  | 'wrong content'
  /** The storage has it, and cannot read it. */
  | 'unreadable'
  /** The stored body cannot be decoded here: nobody can tell. No fault by itself. */
  | 'unverifiable'
  /** A whole body that the index does not have as present. */
  | 'NAR not in the index'
  /** A body that no path claims. */
  | 'unclaimed NAR'
  /** A body that was quarantined is in storage. */
  | 'quarantined NAR'
  /** The narinfo of a present NAR is not in the bucket. */
  | 'narinfo missing'
  /** The narinfo in the bucket is not what the index stands for. */
  | 'narinfo differs'
  /** The bucket has a narinfo whose NAR it has not. */
  | 'narinfo without NAR'
  /** The bucket has a narinfo that the index does not know. */
  | 'narinfo not in the index'
  /** A narinfo of the bucket may not be served: no trusted key vouches for it. */
  | 'narinfo not trusted'
  /** A listing of a path that is not known. */
  | 'stale listing'
  /** An eviction that died has left a NAR half removed. */
  | 'unfinished eviction'
  /** A pushed path refers to one that is not there. */
  | 'dangling reference'
  /** Multipart uploads, or files, that interrupted writes left long ago: they take room, and cost. */
  | 'unfinished writes'
  /** The size counters are not what the rows sum up to. */
  | 'wrong totals'
  /** An object of nobody's. No fault by itself, and never removed. */
  | 'foreign object';

/** Kinds that tell something, but that nothing is wrong. */
const NOTES: ReadonlySet<FindingKind> = new Set(['unverifiable', 'foreign object']);

export interface Finding {
  readonly kind: FindingKind;
  /** Storage key or store path that it is about. */
  readonly about: string;
  readonly detail: string;
  /** Whether it was put right. */
  readonly repaired: boolean;
}

export interface VerifyReport {
  /** Whether it came to its end; else a later run goes on. */
  readonly finished: boolean;
  readonly repair: boolean;
  readonly content: boolean;
  readonly checked: {
    /** Rows of NARs. */
    readonly nars: number;
    /** Objects of the bucket. */
    readonly objects: number;
    /** Bodies that were read. */
    readonly bodies: number;
    /** Bytes of these. */
    readonly bytes: number;
  };
  /** How many of each kind. */
  readonly found: Readonly<Partial<Record<FindingKind, number>>>;
  /** Faults that were not put right. */
  readonly remaining: number;
  /** The first of the findings of this run. */
  readonly findings: readonly Finding[];
}

/** As many are listed one by one; all are counted. */
const MOST_LISTED = 10_000;

/** What is kept of a run that did not come to its end: all but the list. */
export type FoundBefore = Pick<VerifyReport, 'checked' | 'found' | 'remaining'>;

/** A report in the making. */
export class Findings {
  readonly checked: { nars: number; objects: number; bodies: number; bytes: number };
  readonly #listed: Finding[] = [];
  readonly #found: Partial<Record<FindingKind, number>>;
  #remaining: number;

  /** @param before what an earlier run has found, which this one continues */
  constructor(before: FoundBefore | null = null) {
    this.checked = { nars: 0, objects: 0, bodies: 0, bytes: 0, ...before?.checked };
    this.#found = { ...before?.found };
    this.#remaining = before?.remaining ?? 0;
  }

  add(finding: Finding): void {
    this.#found[finding.kind] = (this.#found[finding.kind] ?? 0) + 1;
    if (!finding.repaired && !NOTES.has(finding.kind)) this.#remaining += 1;
    if (this.#listed.length < MOST_LISTED) this.#listed.push(finding);
  }

  /** For a run that continues this one. */
  sums(): FoundBefore {
    return { checked: { ...this.checked }, found: { ...this.#found }, remaining: this.#remaining };
  }

  report(state: Pick<VerifyReport, 'finished' | 'repair' | 'content'>): VerifyReport {
    return {
      ...state,
      checked: { ...this.checked },
      found: { ...this.#found },
      remaining: this.#remaining,
      findings: [...this.#listed],
    };
  }
}
