import { ALL_PATHS_OF_NAR, type NarRecord, type NarWithPaths } from '../../database/metadata-store.ts';
import { isCompression } from '../../nar/decompress.ts';
import { createSha256 } from '../../nar/sha256.ts';
import type { BlobInfo } from '../../storage/blob-store.ts';
import { type ByteStream, leave } from '../../stream/byte-stream.ts';
import { hashing, judgeBody, type Verdict } from '../fill/verdict.ts';
import { noteMissingBody } from '../fill/missing-body.ts';
import { render } from '../render.ts';
import { storeNarInfoOfPresent } from '../store-nar-info.ts';
import { sameBytes, storedNarInfo, streamOfBody } from '../stored-bytes.ts';
import { isStillJustified, judge, unsignedUpstreamsOf } from '../trust.ts';
import { createWorkLocks } from '../work-lock.ts';
import { found, looking, type VerifyContext } from './context.ts';

const noop = (): void => undefined;

/** Compares a row of the index with storage, and its narinfos with the bucket's; with `content`, reads the body too. */
export async function verifyRow(context: VerifyContext, nar: NarRecord): Promise<void> {
  context.findings.checked.nars += 1;
  const look = (): Promise<void> => verifyStateOf(context, nar);
  await looking(context, nar.key, look, () => isUnchanged(context, nar));
}

async function verifyStateOf(context: VerifyContext, nar: NarRecord): Promise<void> {
  switch (nar.state) {
    case 'present':
      return await verifyPresent(context, nar);
    case 'evicting':
      return await context.lockTurn.take(() => verifyEvicting(context, nar));
    case 'known':
    case 'absent':
    case 'quarantined':
      // Their objects, where there are some, are found among the objects.
      return;
  }
}

async function verifyPresent(context: VerifyContext, nar: NarRecord): Promise<void> {
  const { services } = context;
  const blob = await services.storage.head(nar.key);
  if (blob === null) {
    if (!(await isUnchanged(context, nar)) || (await services.storage.head(nar.key)) !== null) return;
    await found(context, 'NAR missing', nar.key, 'the index has it as present, storage has it not', () =>
      noteMissingBody({ services, onPathsChanged: noop }, nar),
    );
    return;
  }
  if (nar.fileSize !== null && blob.size !== nar.fileSize) {
    const now = await services.storage.head(nar.key);
    if (now?.size !== blob.size || !(await isUnchanged(context, nar))) return;
    const detail = `it has ${blob.size} bytes, the index says ${nar.fileSize}`;
    await found(context, 'wrong size', nar.key, detail, () => removeBody(context, nar));
    return;
  }
  const named = await services.metadata.getNar(nar.key, ALL_PATHS_OF_NAR);
  if (named === null || named.nar.generation !== nar.generation || named.nar.state !== 'present') return;
  if (named.paths.length === 0) {
    if (nar.lastAccess >= context.olderThan) return;
    await found(context, 'unclaimed NAR', nar.key, `no path claims these ${blob.size} bytes`, () =>
      removeBody(context, nar),
    );
    return;
  }
  if (context.content && !(await verifyContent(context, named, blob))) return;
  if (context.content) await verifySignatures(context, named);
  await verifyNarInfos(context, named);
}

/**
 * What a trusted key is said to vouch for is signed by it: the rows themselves may be damaged. A path whose key is not
 * trusted now stays as it is, since the key may come back; and so does one that only storage has, as its row may be the
 * only thing that is wrong.
 */
async function verifySignatures(context: VerifyContext, { nar, paths }: NarWithPaths): Promise<void> {
  const { services } = context;
  const unsigned = unsignedUpstreamsOf(services);
  for (const path of paths) {
    const { kind } = path.justification;
    if (kind !== 'key' && kind !== 'content-address') continue;
    if (!isStillJustified(path, services.trustedKeys, unsigned)) continue;
    const judgement = await judge(path, services.trustedKeys, null);
    if (judgement.trusted) continue;
    const forget = async (): Promise<void> => {
      await services.storage.delete([`${path.hash}.narinfo`, `${path.hash}.ls`]);
      await services.upkeep.removePath(path.hash);
    };
    const repair = nar.source === null ? undefined : forget;
    await found(context, 'narinfo not trusted', `${path.hash}.narinfo`, judgement.reason, repair);
  }
}

/** Each path's narinfo is in the bucket as the index renders it, or, where it may not be served, not at all. */
async function verifyNarInfos(context: VerifyContext, { nar, paths }: NarWithPaths): Promise<void> {
  const { services } = context;
  const unsigned = unsignedUpstreamsOf(services);
  for (const path of paths) {
    const key = `${path.hash}.narinfo`;
    const known = { path, nar };
    const stored = await storedNarInfo(services.storage, path.hash);
    const justified = isStillJustified(path, services.trustedKeys, unsigned);
    const expected = justified ? render(known).bytes : null;
    if (sameBytes(stored, expected)) continue;
    // Row and object are not read in one instant: what changed meanwhile is no fault.
    const now = await services.metadata.getPath(path.hash);
    const again = await storedNarInfo(services.storage, path.hash);
    const changed =
      now === null ||
      now.path.revision !== path.revision ||
      now.nar.generation !== nar.generation ||
      now.nar.state !== 'present';
    if (changed || !sameBytes(stored, again)) continue;
    if (expected === null) {
      await found(context, 'narinfo not trusted', key, 'no trusted key vouches for it', () =>
        services.storage.delete([key, `${path.hash}.ls`]),
      );
    } else if (stored === null) {
      await found(context, 'narinfo missing', key, `${nar.key} is stored`, () =>
        storeNarInfoOfPresent(services, known),
      );
    } else {
      await found(context, 'narinfo differs', key, 'it is not what the index stands for', () =>
        storeNarInfoOfPresent(services, known),
      );
    }
  }
}

/** @returns whether the body may be right */
async function verifyContent(
  context: VerifyContext,
  { nar, paths }: NarWithPaths,
  blob: BlobInfo,
): Promise<boolean> {
  const { services, findings } = context;
  const [path] = paths;
  if (path === undefined || !isCompression(nar.compression)) return true;
  const { compression } = nar;
  const verdict = await reading(context, blob, (body) =>
    judgeBody(services, { key: nar.key, ...path }, compression, body),
  );
  if (verdict === null) return true;
  findings.checked.bodies += 1;
  findings.checked.bytes += blob.size;
  const isRightFile = nar.fileHash === null || verdict.fileHash === nar.fileHash;
  if (verdict.of.kind === 'right' && isRightFile) {
    if (nar.verification !== 'nar') await services.metadata.markVerified(nar.key, nar.generation);
    return true;
  }
  if (!(await isUnchanged(context, nar))) return true;
  if (verdict.of.kind === 'unknown' && isRightFile) {
    await found(context, 'unverifiable', nar.key, verdict.of.error.message);
    return true;
  }
  const detail =
    verdict.of.kind === 'wrong'
      ? verdict.of.error.message
      : `its FileHash is ${verdict.fileHash}, expected ${nar.fileHash}`;
  await found(context, 'wrong content', nar.key, detail, () =>
    isRightFile ? quarantine(context, nar, detail) : removeBody(context, nar),
  );
  return false;
}

/** Reads a body twice at most: whoever judges it need not read it to its end. Null where it is gone. */
async function reading(
  context: VerifyContext,
  { key, size }: BlobInfo,
  judge: (body: ByteStream) => Promise<Verdict>,
): Promise<{ readonly of: Verdict; readonly fileHash: string } | null> {
  const { services, signal } = context;
  const options = signal === undefined ? {} : { signal };
  const fileHash = createSha256();
  await context.pace(size);
  const stored = await services.storage.get(key, options);
  if (stored === null || stored.kind === 'unsatisfiable') return null;
  const body = hashing(streamOfBody(stored.body), fileHash);
  let verdict: Verdict;
  try {
    verdict = await judge(body);
  } finally {
    await leave(body);
  }
  if (verdict.kind === 'right') return { of: verdict, fileHash: fileHash.digest() };
  await context.pace(size);
  const again = await services.storage.get(key, options);
  if (again === null || again.kind === 'unsatisfiable') return null;
  const whole = createSha256();
  for await (const _ of hashing(streamOfBody(again.body), whole)) signal?.throwIfAborted();
  return { of: verdict, fileHash: whole.digest() };
}

/** Its source may give it again, or a push. */
async function removeBody({ verification, services }: VerifyContext, nar: NarRecord): Promise<void> {
  await verification.remove(nar.key);
  await services.metadata.markAbsent(nar.key, nar.generation);
}

/** Its FileHash is right and yet it is not what is signed: so is what its source gives. */
async function quarantine(
  { verification, services }: VerifyContext,
  nar: NarRecord,
  why: string,
): Promise<void> {
  // The store first: hits ask no index. Again afterwards: a fill may have come between.
  await verification.remove(nar.key);
  await services.metadata.markQuarantined(nar.key, why);
  await verification.remove(nar.key);
}

/** An eviction that goes on finishes within a moment; one that died is taken up by the next one, or here. */
async function verifyEvicting(context: VerifyContext, nar: NarRecord): Promise<void> {
  const { services, verification } = context;
  const lock = await createWorkLocks(services, '').take('evict', 0, new AbortController().signal);
  if (lock.kind === 'taken') return;
  try {
    if (!(await isUnchanged(context, nar))) return;
    await found(context, 'unfinished eviction', nar.key, 'no eviction is under way', async () => {
      const { key, generation } = nar;
      const now = services.platform.clock.now();
      if ((await services.upkeep.spareEvicting([{ key, generation }], now)).length > 0) return;
      await verification.remove(key);
      await services.upkeep.finishEvicting([{ key, generation }]);
    });
  } finally {
    if (lock.kind === 'held') await lock.release();
  }
}

/** Whether the index still has the row as it was read. */
async function isUnchanged({ services }: VerifyContext, nar: NarRecord): Promise<boolean> {
  const now = await services.metadata.getNar(nar.key, 1);
  return now !== null && now.nar.generation === nar.generation && now.nar.state === nar.state;
}
