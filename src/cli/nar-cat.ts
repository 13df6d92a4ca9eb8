import { readNar } from '../nar/reader.ts';
import { write } from './context.ts';
import { Failure } from './failure.ts';
import type { NarCommandContext } from './nar-context.ts';
import { checkedNar, innerPath, openNar } from './nar-read.ts';

/**
 * Prints a file in a NAR. The NAR is read to its end, since some checksums come only there: the
 * command succeeds only if the whole NAR is sound.
 *
 * @throws Failure where there is no such file; NarError where the NAR is malformed
 */
export async function printNarFile(place: string, path: string, context: NarCommandContext): Promise<void> {
  const source = await openNar(place, context);
  const wanted = innerPath(path);
  let found = false;
  for await (const event of readNar(checkedNar(source))) {
    if (event.path !== wanted || event.kind === 'directory-end') continue;
    if (event.kind === 'directory')
      throw new Failure(`Cannot print ${JSON.stringify(path)}: it is a directory`);
    if (event.kind === 'symlink') {
      throw new Failure(
        `Cannot print ${JSON.stringify(path)}: it is a symbolic link to ${JSON.stringify(event.target)}`,
      );
    }
    found = true;
    for await (const chunk of event.contents) await write(context.stdout, chunk);
  }
  if (!found) throw new Failure(`Cannot find ${JSON.stringify(path)} in ${source.label}`);
}
