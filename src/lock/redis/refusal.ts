import { LockRefusedError } from '../lease-service.ts';

/** What to do about the errors of Redis that a configuration or a deployment causes, by their first word. */
const ADVICE: Readonly<Record<string, string>> = {
  NOAUTH: 'give its password',
  WRONGPASS: 'the user, password or token is wrong',
  Unauthorized: 'the token is wrong',
  NOPERM: 'let its user run EVAL, GET, SET, PEXPIRE, DEL and PUBLISH on keys with the prefix',
  READONLY: 'it is a replica: name the primary',
  MISCONF: 'it cannot write to its disk',
  OOM: 'its memory is full',
  MOVED: 'it is one of a cluster: give one Redis that holds the keys, or a proxy',
};

/** Longer ones tell where in a script something happened. */
const MOST_CHARACTERS = 200;

/** An error that Redis answered with. @param text what Redis said; it never repeats a secret */
export function refusal(description: string, text: string): LockRefusedError {
  const said = text.slice(0, MOST_CHARACTERS);
  // An error within a script comes as `ERR …` of older versions, and as itself of newer ones.
  const advice = Object.entries(ADVICE).find(([word]) => said.split(/[^A-Za-z]+/, 4).includes(word))?.[1];
  return new LockRefusedError(`${description} refused: ${said}${advice === undefined ? '' : ` (${advice})`}`);
}
