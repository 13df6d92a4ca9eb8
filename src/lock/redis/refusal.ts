import { LockRefusedError } from '../lease-service.ts';

/** What to do about the errors of Redis that a configuration or a deployment causes. */
const ADVICE: readonly (readonly [said: RegExp, advice: string])[] = [
  [/\bNOAUTH\b/, 'give its password'],
  [/\b(WRONGPASS|Unauthorized)\b/, 'the user, password or token is wrong'],
  // Of a script, older versions say it in words.
  [
    /\bNOPERM\b|user executing the script can't/,
    'let its user run EVAL, GET, SET, PEXPIRE, DEL and PUBLISH on keys with the prefix',
  ],
  [/\bREADONLY\b/, 'it is a replica: name the primary'],
  [/\bMISCONF\b/, 'it cannot write to its disk'],
  [/\bOOM\b/, 'its memory is full'],
  [/\bMOVED\b/, 'it is one of a cluster: give one Redis that holds the keys, or a proxy'],
];

/** Longer ones tell where in a script something happened. */
const MOST_CHARACTERS = 200;

/** An error that Redis answered with. @param text what Redis said; it never repeats a secret */
export function refusal(description: string, text: string): LockRefusedError {
  const said = text.slice(0, MOST_CHARACTERS);
  const advice = ADVICE.find(([expression]) => expression.test(said))?.[1];
  return new LockRefusedError(`${description} refused: ${said}${advice === undefined ? '' : ` (${advice})`}`);
}
