import { createListing, formatListing } from '../nar/listing.ts';
import { readNar } from '../nar/reader.ts';
import type { NarEvent } from '../nar/reader.ts';
import { write } from './context.ts';
import { Failure } from './failure.ts';
import type { NarCommandContext } from './nar-context.ts';
import { checkedNar, innerPath, openNar } from './nar-read.ts';

/** How `snowcap nar ls` prints. */
export interface ListOptions {
  readonly recursive: boolean;
  readonly long: boolean;
  readonly json: boolean;
}

/** Lines are written in pieces of about this many characters. */
const PIECE = 64 * 1024;

/**
 * Lists what is in a NAR, in the manner of `nix nar ls`. The NAR is read to its end, so what was
 * listed is of a whole NAR if the command succeeds.
 *
 * @throws Failure where the path is not in it; NarError where it is malformed
 */
export async function listNar(
  place: string,
  path: string,
  options: ListOptions,
  context: NarCommandContext,
): Promise<void> {
  const source = await openNar(place, context);
  if (options.json) {
    await write(context.stdout, `${formatListing(await createListing(checkedNar(source)))}\n`);
    return;
  }
  const wanted = innerPath(path);
  const terminal = context.stdout.isTTY === true;
  let found = false;
  let lines = '';
  for await (const event of readNar(checkedNar(source))) {
    if (event.kind === 'directory-end') continue;
    found ||= event.path === wanted;
    const name = shownName(event, wanted, options.recursive);
    if (name === null) continue;
    const line = options.long ? longLine(event, name) : name;
    lines += `${terminal ? harmless(line) : line}\n`;
    if (lines.length >= PIECE) {
      await write(context.stdout, lines);
      lines = '';
    }
  }
  if (!found) throw new Failure(`Cannot find ${JSON.stringify(path)} in ${source.label}`);
  await write(context.stdout, lines);
}

type Entry = Exclude<NarEvent, { kind: 'directory-end' }>;

/** How an entry is called in the list; null where it is not in it. */
function shownName(event: Entry, wanted: string, recursive: boolean): string | null {
  if (event.path === wanted) return event.kind === 'directory' ? null : wanted || '.';
  const prefix = wanted === '' ? '' : `${wanted}/`;
  if (!event.path.startsWith(prefix)) return null;
  const name = event.path.slice(prefix.length);
  return recursive || !name.includes('/') ? `./${name}` : null;
}

function longLine(event: Entry, name: string): string {
  switch (event.kind) {
    case 'directory':
      return `dr-xr-xr-x ${column(0)} ${name}`;
    case 'symlink':
      return `lrwxrwxrwx ${column(0)} ${name} -> ${event.target}`;
    case 'file':
      return `${event.executable ? '-r-xr-xr-x' : '-r--r--r--'} ${column(event.size)} ${name}`;
  }
}

function column(size: number): string {
  return String(size).padStart(20);
}

/** A name may hold anything, also what a terminal would take for a command. */
function harmless(line: string): string {
  return line.replace(/\p{Cc}/gu, '?');
}
