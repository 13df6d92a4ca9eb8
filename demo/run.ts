/**
 * The demonstration, `npm run demo`: a small real upstream cache (written by Nix, `demo/cache`), Snowcap in
 * front of it, and a client, all on 127.0.0.1. It needs neither Nix nor a network. Every step is checked;
 * the exit code is 1 if one is not as it should be.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeNix32 } from '../src/nix/base32.ts';
import { fingerprint, parseNarInfo } from '../src/nix/nar-info.ts';
import type { NarInfo } from '../src/nix/nar-info.ts';
import { formatPublicKey, parsePublicKey, verifySignature } from '../src/nix/signing-key.ts';
import { startFaultServer } from '../test/support/fault-server.ts';
import type { FaultServer } from '../test/support/fault-server.ts';
import { SnowcapProcess } from '../test/support/snowcap-process.ts';
import type { LogLine } from '../test/support/snowcap-process.ts';
import { expect, failures, heading, note, quote, shown } from './terminal.ts';

const CACHE: string = fileURLToPath(new URL('cache', import.meta.url));

/** What one request brought. */
interface Answer {
  /** Null where the connection broke before the headers. */
  readonly status: number | null;
  readonly body: Buffer;
  /** Whether the body ended as it should, not by a broken connection. */
  readonly whole: boolean;
  readonly milliseconds: number;
}

interface Stage {
  readonly upstream: FaultServer;
  readonly snowcap: SnowcapProcess;
  /** The narinfo that the others hang on. */
  readonly root: string;
  readonly upstreamKey: string;
}

async function main(): Promise<void> {
  const text = async (name: string): Promise<string> => (await readFile(join(CACHE, name), 'utf8')).trim();
  const [root, upstreamKey] = [narInfoPath(await text('root')), await text('public-key')];

  heading('The stage');
  const upstream = await startFaultServer();
  upstream.static(CACHE);
  try {
    const snowcap = await SnowcapProcess.start({
      upstreams: [upstream.url],
      trustedPublicKeys: [upstreamKey],
      env: { SNOWCAP_HOSTNAME: 'snowcap.demo' },
    });
    try {
      note(`An upstream cache that Nix wrote, at ${upstream.url}; its key is ${upstreamKey}`);
      note(`Snowcap in front of it, at ${snowcap.url}; its storage is empty`);
      await play({ upstream, snowcap, root, upstreamKey });
    } finally {
      await snowcap.dispose();
    }
  } finally {
    await upstream.close();
  }
}

async function play(stage: Stage): Promise<void> {
  const { snowcap, upstream } = stage;
  const info = await showMiss(stage);
  await showSignatures(stage, info);

  const closure = await readClosure(snowcap.url, stage.root);
  const photo = closure.find(({ storePath }) => storePath.includes('-demo-photo-'));
  if (photo === undefined)
    throw new Error(`${CACHE} has no photo; write it anew with node demo/make-cache.ts`);
  const others = closure.filter((each) => each !== photo);

  await showFill(stage, others);
  await upstream.down();
  await showHits(stage, others);
  await upstream.up();
  await showCorruption(stage, photo);
}

async function showMiss({ snowcap, upstream, root }: Stage): Promise<NarInfo> {
  heading('A miss: a client asks for a narinfo that Snowcap does not have');
  const answer = await get(snowcap.url, root);
  note(`GET ${root} → ${answer.status}, ${shown(answer.milliseconds)}`);
  quote(answer.body.toString('utf8'));
  expect('Snowcap asked the upstream for it once', upstream.requestsTo(root).length === 1);
  expect('No NAR was fetched for a narinfo', upstream.requestsTo(/^\/nar\//).length === 0);
  return parseNarInfo(answer.body.toString('utf8'));
}

async function showSignatures({ snowcap, upstreamKey }: Stage, info: NarInfo): Promise<void> {
  heading('The signatures: a client may trust the upstream, or Snowcap, or both');
  note('What is signed:');
  quote(fingerprint(info));
  const own = await snowcap.publicKey();
  for (const text of [upstreamKey, own]) {
    const key = parsePublicKey(text);
    const trusted = new Map([[formatPublicKey(key), key]]);
    const valid = await Promise.all(
      info.signatures.map((signature) => verifySignature(fingerprint(info), signature, trusted)),
    );
    expect(
      `One of its ${info.signatures.length} signatures is valid by ${text}`,
      valid.some((by) => by !== null),
    );
  }
}

async function showFill({ snowcap, upstream }: Stage, infos: readonly NarInfo[]): Promise<void> {
  heading('The fill: the client fetches NARs; they are stored while they pass');
  for (const info of infos) {
    const answer = await get(snowcap.url, `/${info.url}`);
    note(`${nameOf(info)}: ${answer.body.length} bytes (${info.compression}), ${shown(answer.milliseconds)}`);
    expect('  Its SHA-256 is the FileHash of the narinfo', sha256(answer.body) === info.fileHash);
  }
  expect(
    'Each was fetched from the upstream once',
    upstream.requestsTo(/^\/nar\//, 'GET').length === infos.length,
  );
  const kept = await eventually(async () => {
    const stored = await storedNars(snowcap);
    return infos.every(({ url }) => stored.includes(url));
  });
  note(`The storage, ${snowcap.storage}, is a plain Nix cache now:`);
  quote((await readdir(snowcap.storage)).filter((name) => !name.startsWith('.')).join('\n'));
  expect('Every NAR lies in it', kept);
}

async function showHits({ snowcap, upstream }: Stage, infos: readonly NarInfo[]): Promise<void> {
  heading('The hits: the upstream is switched off, and the client asks again');
  const before = upstream.requests.length;
  const gone = await get(upstream.url, '/nix-cache-info');
  expect('The upstream refuses connections', gone.status === null);
  for (const info of infos) {
    const narInfo = await get(snowcap.url, narInfoPath(info.storePath));
    const nar = await get(snowcap.url, `/${info.url}`);
    note(`${nameOf(info)}: narinfo ${shown(narInfo.milliseconds)}, NAR ${shown(nar.milliseconds)}`);
    expect(
      '  Narinfo and NAR are the same as before',
      narInfo.status === 200 && sha256(nar.body) === info.fileHash,
    );
  }
  expect('The upstream was asked for nothing', upstream.requests.length === before);
}

async function showCorruption({ snowcap, upstream }: Stage, photo: NarInfo): Promise<void> {
  heading('A lie: the upstream is back, and flips one bit of a NAR that Snowcap does not have yet');
  const size = photo.fileSize ?? 0;
  upstream.route(`/${photo.url}`, { flipBitAt: Math.floor(size / 3) });
  const bad = await get(snowcap.url, `/${photo.url}`);
  const place = bad.whole ? 'the end' : 'a broken connection';
  note(`${nameOf(photo)}: ${bad.body.length} of ${size} bytes, then ${place}`);
  expect('The client was not given a whole body', !bad.whole && bad.body.length < size);
  expect('Nothing of it was stored', !(await storedNars(snowcap)).includes(photo.url));
  const complaint = (): LogLine | undefined =>
    snowcap.logs.find(({ msg }) => msg?.includes('wrong body') === true);
  expect('Snowcap says so in its log', await eventually(async () => complaint() !== undefined));
  quote(JSON.stringify({ ...complaint(), error: undefined }));

  upstream.route(`/${photo.url}`, {});
  note('The upstream tells the truth again, and the client asks again:');
  const good = await getUntilWhole(snowcap.url, `/${photo.url}`);
  note(`${nameOf(photo)}: ${good.body.length} bytes, ${shown(good.milliseconds)}`);
  expect('The client has the right bytes', sha256(good.body) === photo.fileHash);
  expect('They are stored', await eventually(async () => (await storedNars(snowcap)).includes(photo.url)));
}

/** The narinfos of a closure, by following the references from `root`. */
async function readClosure(url: string, root: string): Promise<readonly NarInfo[]> {
  const found = new Map<string, NarInfo>();
  const queue = [root];
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (found.has(path)) continue;
    const info = parseNarInfo((await get(url, path)).body.toString('utf8'));
    found.set(path, info);
    queue.push(...info.references.map((reference) => narInfoPath(`/nix/store/${reference}`)));
  }
  return [...found.values()];
}

async function get(url: string, path: string): Promise<Answer> {
  const begun = performance.now();
  const chunks: Uint8Array[] = [];
  let status: number | null = null;
  let whole = false;
  try {
    const response = await fetch(`${url}${path}`, { headers: { 'accept-encoding': 'identity' } });
    status = response.status;
    const body: AsyncIterable<Uint8Array> | null = response.body;
    if (body !== null) for await (const chunk of body) chunks.push(chunk);
    whole = true;
  } catch {
    // Refused or broken: `whole` says so.
  }
  return { status, body: Buffer.concat(chunks), whole, milliseconds: performance.now() - begun };
}

/** A fill is committed just after its last byte was sent: looks for up to five seconds. */
async function eventually(met: () => Promise<boolean>): Promise<boolean> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    if (await met()) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}

/** As a Nix client does it: up to five attempts. */
async function getUntilWhole(url: string, path: string): Promise<Answer> {
  for (let attempt = 1; ; attempt += 1) {
    const answer = await get(url, path);
    if ((answer.status === 200 && answer.whole) || attempt === 5) return answer;
    await new Promise((resolve) => setTimeout(resolve, 250 * 2 ** attempt));
  }
}

async function storedNars(snowcap: SnowcapProcess): Promise<readonly string[]> {
  const names = await readdir(join(snowcap.storage, 'nar')).catch(() => []);
  return names.map((name) => `nar/${name}`);
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${encodeNix32(createHash('sha256').update(bytes).digest())}`;
}

/** `/<hash>.narinfo` of a full store path. */
function narInfoPath(storePath: string): string {
  return `/${storePath.slice('/nix/store/'.length, '/nix/store/'.length + 32)}.narinfo`;
}

function nameOf({ storePath }: NarInfo): string {
  return storePath.slice('/nix/store/'.length + 33);
}

await main();
heading(failures() === 0 ? 'All of it went as it should' : `Steps that went wrong: ${failures()}`);
if (failures() > 0) process.exitCode = 1;
