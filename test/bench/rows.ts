/** What is compared, and how it is to come out. */
export interface Measure {
  readonly section: string;
  readonly name: string;
  readonly unit: 'ms' | 's' | 'req/s' | 'MB' | 'count';
  /**
   * What the reference is: nginx over the same files, the upstream without Snowcap, or the store itself; null
   * where the figure stands for itself.
   */
  readonly reference: 'nginx' | 'direct' | 'store' | null;
  /** Of the ratio Snowcap : reference, or of the figure itself where there is no reference. */
  readonly target: Target | null;
}

export type Target =
  { readonly atMost: number } | { readonly atLeast: number } | { readonly exactly: number };

export interface Row extends Measure {
  /** One figure for each run. */
  readonly runs: { readonly reference: readonly number[]; readonly snowcap: readonly number[] };
  /** Median of the runs; for a peak the highest. */
  readonly referenceFigure: number | null;
  readonly snowcapFigure: number;
  readonly ratio: number | null;
  /** Null where there is no target. */
  readonly ok: boolean | null;
}

export function median(figures: readonly number[]): number {
  const sorted = figures.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? NaN) + upper) / 2;
}

/** A figure that stands for itself. */
export function measureOf(
  section: string,
  name: string,
  unit: Measure['unit'],
  target: Target | null = null,
): Measure {
  return { section, name, unit, reference: null, target };
}

/** A row from the figures of all runs. */
export function rowOf(measure: Measure, snowcap: readonly number[], reference: readonly number[] = []): Row {
  const worst = measure.reference === null;
  const snowcapFigure = worst ? Math.max(...snowcap) : median(snowcap);
  const referenceFigure = worst ? null : median(reference);
  const ratio = referenceFigure === null ? null : snowcapFigure / referenceFigure;
  const ok = measure.target === null ? null : meets(measure.target, ratio ?? snowcapFigure);
  return { ...measure, runs: { reference, snowcap }, referenceFigure, snowcapFigure, ratio, ok };
}

function meets(target: Target, figure: number): boolean {
  if ('atMost' in target) return figure <= target.atMost;
  if ('atLeast' in target) return figure >= target.atLeast;
  return figure === target.exactly;
}

const HEADINGS = ['measure', 'reference', 'Snowcap', 'ratio', 'target', ''] as const;

/** The rows as a table for a terminal. */
export function formatTable(rows: readonly Row[]): string {
  const cells = rows.map((row) => [
    row.name,
    row.referenceFigure === null ? '' : formatFigure(row.referenceFigure, row.unit),
    formatFigure(row.snowcapFigure, row.unit),
    row.ratio === null ? '' : row.ratio.toFixed(2),
    row.target === null ? '' : formatTarget(row),
    row.ok === null ? '' : row.ok ? 'ok' : 'OVER',
  ]);
  const all = [[...HEADINGS], ...cells];
  const widths = HEADINGS.map((_, column) => Math.max(...all.map((line) => line[column]?.length ?? 0)));
  const lines = all.map((line) =>
    line
      .map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
      )
      .join('  ')
      .trimEnd(),
  );
  return [lines[0], '-'.repeat(widths.reduce((sum, width) => sum + width + 2, -2)), ...lines.slice(1)].join(
    '\n',
  );
}

function formatFigure(figure: number, unit: Measure['unit']): string {
  if (unit === 'count') return String(figure);
  const digits = figure >= 1000 ? 0 : figure >= 10 ? 1 : 2;
  return `${figure.toFixed(digits)} ${unit}`;
}

function formatTarget({ target, reference, unit }: Measure): string {
  if (target === null) return '';
  const suffix = reference === null ? (unit === 'count' ? '' : ` ${unit}`) : ' ×';
  if ('atMost' in target) return `<= ${target.atMost}${suffix}`;
  if ('atLeast' in target) return `>= ${target.atLeast}${suffix}`;
  return `= ${target.exactly}${suffix}`;
}
