/** Rows of a table as lines of text: columns as wide as their widest cell, two spaces between them. */
export function tableOf(rows: readonly (readonly string[])[]): string {
  const columns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const lines = rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '));
  return lines.map((line) => `${line.trimEnd()}\n`).join('');
}

/** A time for people and programs, to the second; `never` for none. */
export function formatTime(milliseconds: number | null): string {
  return milliseconds === null ? 'never' : new Date(milliseconds).toISOString().replace(/\.\d+Z$/, 'Z');
}
