import { type IncomingMessage, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SignedPath } from '../support/signed-path.ts';

/** How one request for a body ended. */
export type Verdict =
  /** Clean, and every byte is right. */
  | 'right'
  /** An error that says so: a fault's status, or a connection that broke after bytes that were all right. */
  | 'honest'
  /** Anything that a client would believe and should not: other bytes, a clean end too early, a 404. */
  | 'wrong';

export interface Answer {
  readonly verdict: Verdict;
  /** What was seen, for a person. */
  readonly what: string;
  /** Milliseconds from the request to its end. */
  readonly tookMs: number;
}

export interface LoadOptions {
  /** The instances. Each client has one that it asks first, and the others after it, as substituters. */
  readonly urls: readonly string[];
  readonly paths: readonly SignedPath[];
  /** Default 100. */
  readonly clients?: number;
  /** How often each NAR is asked for at each instance. Default: 8 times if it is small, else twice. */
  readonly copies?: (path: SignedPath) => number;
  /** Attempts at one request; a fault is tried again after a growing pause, as Nix does. Default 5. */
  readonly attempts?: number;
  /** Whether the other instances are asked where one has failed. Default false. */
  readonly failOver?: boolean;
}

export interface LoadReport {
  /** Every answer that was not right, each as a sentence: what a client sees that tries again is in here too. */
  readonly honest: readonly string[];
  readonly wrong: readonly string[];
  /** NARs that a client did not get in the end. */
  readonly givenUp: readonly string[];
  /** NARs that were got. */
  readonly right: number;
  /** The longest that one answer took, in milliseconds. */
  readonly slowestMs: number;
}

const SMALL = 1024 * 1024;
const FIRST_PAUSE_MS = 250;

/** Many clients that ask for many NARs at the same time, in no order, each for its narinfo first. */
export async function load(options: LoadOptions): Promise<LoadReport> {
  const { urls, paths, clients = 100, copies = copiesOf, attempts = 5, failOver = false } = options;
  const honest: string[] = [];
  const wrong: string[] = [];
  const givenUp: string[] = [];
  let right = 0;
  let slowestMs = 0;

  async function tried<Result>(
    what: string,
    ask: () => Promise<Answer & { readonly result?: Result }>,
  ): Promise<Result | null> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await ask();
      slowestMs = Math.max(slowestMs, answer.tookMs);
      if (answer.verdict === 'right') return answer.result ?? null;
      (answer.verdict === 'wrong' ? wrong : honest).push(`${what}: ${answer.what}`);
      if (answer.verdict === 'wrong' || attempt >= attempts) return null;
      await sleep(FIRST_PAUSE_MS * 2 ** (attempt - 1) * (0.5 + Math.random()));
    }
  }

  async function substituted(path: SignedPath, url: string): Promise<boolean> {
    const what = `${path.storePath} from ${url}`;
    const key = await tried(what, () => askNarInfo(url, path));
    if (key === null) return false;
    return (await tried(what, () => askNar(`${url}/${key}`, path))) !== null;
  }

  async function want(path: SignedPath, instance: number): Promise<void> {
    const order = urls.map((_, n) => urls[(instance + n) % urls.length] ?? '');
    for (const url of failOver ? order : order.slice(0, 1)) {
      if (await substituted(path, url)) {
        right += 1;
        return;
      }
    }
    givenUp.push(path.storePath);
  }

  const wanted = paths.flatMap((path) =>
    urls.flatMap((_, instance) => Array.from({ length: copies(path) }, () => ({ path, instance }))),
  );
  shuffle(wanted);
  const client = async (): Promise<void> => {
    for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
      await want(next.path, next.instance);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return { honest, wrong, givenUp, right, slowestMs };
}

/** How many answers a load should get in the end. */
export function wantedBy({ urls, paths, copies = copiesOf }: LoadOptions): number {
  return paths.reduce((sum, path) => sum + urls.length * copies(path), 0);
}

function copiesOf({ body }: SignedPath): number {
  return body.length <= SMALL ? 8 : 2;
}

/** Asks for a narinfo; `result` is the key of the NAR. */
async function askNarInfo(
  url: string,
  { hash, narHash }: SignedPath,
): Promise<Answer & { readonly result?: string }> {
  const { answer, bytes } = await ask(`${url}/${hash}.narinfo`, null);
  if (answer.verdict !== 'right') return answer;
  const text = Buffer.concat(bytes).toString();
  const key = /^URL: (.*)$/m.exec(text)?.[1];
  if (key === undefined || !text.includes(`NarHash: ${narHash}\n`)) {
    return { ...answer, verdict: 'wrong', what: `another narinfo: ${text}` };
  }
  return { ...answer, result: key };
}

/** Asks for a NAR, and compares every byte of it on its way. `result` is the count of its bytes. */
export async function askNar(
  url: string,
  { body }: SignedPath,
): Promise<Answer & { readonly result?: number }> {
  const { answer } = await ask(url, body);
  return answer.verdict === 'right' ? { ...answer, result: body.length } : answer;
}

interface Asked {
  readonly answer: Answer;
  /** What came, where it was not compared. */
  readonly bytes: readonly Uint8Array[];
}

/** @param expected what a body of status 200 must be; null: any */
function ask(url: string, expected: Uint8Array | null): Promise<Asked> {
  const begun = performance.now();
  const bytes: Uint8Array[] = [];
  const judged = (verdict: Verdict, what: string): Asked => ({
    answer: { verdict, what, tookMs: performance.now() - begun },
    bytes,
  });
  const { promise, resolve } = Promise.withResolvers<Asked>();
  const outgoing = request(url, { agent: false });
  outgoing.once('error', (error) => resolve(judged('honest', error.message)));
  outgoing.once('response', (response) => {
    void read(response, expected, bytes).then(({ verdict, what }) => {
      outgoing.destroy();
      resolve(judged(verdict, what));
    });
  });
  outgoing.end();
  return promise;
}

async function read(
  response: IncomingMessage,
  expected: Uint8Array | null,
  bytes: Uint8Array[],
): Promise<Pick<Answer, 'verdict' | 'what'>> {
  const { statusCode = 0 } = response;
  let size = 0;
  let same = true;
  let clean: boolean;
  try {
    for await (const piece of response as AsyncIterable<Buffer>) {
      if (statusCode !== 200 || expected === null) bytes.push(piece);
      else same &&= piece.equals(expected.subarray(size, size + piece.length));
      size += piece.length;
    }
    clean = response.complete;
  } catch {
    clean = false;
  }
  const what = `${statusCode}, ${size} bytes, ${clean ? 'a clean end' : 'broken'}`;
  if (statusCode >= 500) return { verdict: 'honest', what: `${what}: ${Buffer.concat(bytes).toString()}` };
  if (statusCode !== 200) return { verdict: 'wrong', what: `${what}: ${Buffer.concat(bytes).toString()}` };
  if (!same) return { verdict: 'wrong', what: `${what}, other bytes` };
  if (!clean) return { verdict: 'honest', what };
  const whole = expected === null || size === expected.length;
  return whole ? { verdict: 'right', what } : { verdict: 'wrong', what: `${what} of ${expected.length}` };
}

function shuffle(list: unknown[]): void {
  for (let at = list.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [list[at], list[other]] = [list[other], list[at]];
  }
}
