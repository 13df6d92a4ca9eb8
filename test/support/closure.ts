import { createCipheriv } from 'node:crypto';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkedCommand } from './nix-command.ts';
import { createNixStore, NixStore } from './nix-store.ts';
import type { DumpDigest } from './nix-store.ts';
import { madeOnce } from './closure-lock.ts';

const EXPRESSION: string = fileURLToPath(new URL('../fixtures/closure/default.nix', import.meta.url));

/** Set by the global set-up to a directory that all test files of a run share. */
const SHARED_DIRECTORY = 'TEST_CLOSURE_DIRECTORY';

/** A path of the closure, as the store says in which it was built. */
export interface ClosurePath extends DumpDigest {
  /** In full, `/nix/store/<hash>-<name>`. */
  readonly path: string;
  /** In full, sorted; its own path too, where it refers to itself. */
  readonly references: readonly string[];
  readonly ca: string | null;
}

/** A real closure of more than 100 paths with references, in a store of its own, with keys to sign it. */
export interface Closure {
  readonly store: NixStore;
  /** The path that all others are below of. */
  readonly root: string;
  readonly paths: ReadonlyMap<string, ClosurePath>;
  /** File of the secret key that upstream caches sign with. */
  readonly secretKeyFile: string;
  /** Its public key, in Nix's format. */
  readonly publicKey: string;
  /** Below it are things made once per run: upstream caches. */
  readonly directory: string;
}

let opened: Promise<Closure> | undefined;

/** The closure, built when it is asked for the first time in a run (about three seconds). */
export function openClosure(): Promise<Closure> {
  opened ??= readClosure();
  return opened;
}

/** The path of the closure with this name, without its hash. @throws Error if there is none */
export function pathNamed(closure: Closure, name: string): string {
  for (const path of closure.paths.keys()) if (basename(path).slice(33) === name) return path;
  throw new Error(`The closure has no path named ${JSON.stringify(name)}`);
}

/** The paths that `root` needs, itself too. */
export function closureOf(closure: Closure, root: string): readonly ClosurePath[] {
  const found = new Map<string, ClosurePath>();
  const visit = (path: string): void => {
    const entry = closure.paths.get(path);
    if (entry === undefined) throw new Error(`The closure has no path ${JSON.stringify(path)}`);
    if (found.has(path)) return;
    found.set(path, entry);
    entry.references.forEach(visit);
  };
  visit(root);
  return [...found.values()];
}

async function readClosure(): Promise<Closure> {
  const directory = process.env[SHARED_DIRECTORY] ?? (await ownDirectory());
  const place = await madeOnce(directory, 'closure', buildClosure);
  const file = (name: string): Promise<string> => readFile(join(place, name), 'utf8');
  const paths = parsePaths(await file('paths.json'));
  return {
    store: new NixStore(join(place, 'store')),
    root: (await file('root')).trim(),
    paths: new Map(paths.map((path) => [path.path, path])),
    secretKeyFile: join(place, 'upstream.secret'),
    publicKey: (await file('upstream.public')).trim(),
    directory,
  };
}

/** Written by `buildClosure`, in this version: the directory lives no longer than the run. */
function parsePaths(json: string): readonly ClosurePath[] {
  return JSON.parse(json) as readonly ClosurePath[];
}

/** Where no set-up gave a directory (a suite of another folder, a single process): gone with the process. */
async function ownDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'snowcap-closure-'));
  process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function buildClosure(place: string): Promise<void> {
  const [added, large, fixed] = ['added', 'large', 'fixed.txt'].map((name) => join(place, name)) as [
    string,
    string,
    string,
  ];
  await Promise.all(
    [added, large, join(place, 'store')].map((directory) => mkdir(directory, { recursive: true })),
  );
  await writeFile(join(added, 'file'), 'added by hand: a content-addressed directory\n');
  await writeFile(fixed, 'added by hand: a fixed file\n');
  await writeFile(join(large, 'blob'), largeBlob());

  const store = await createNixStore(join(place, 'store'));
  const [root] = await store.build(EXPRESSION, {
    added: await store.add(added),
    fixed: await store.addFixed('sha256', fixed),
    large,
  });
  if (root === undefined) throw new Error('The closure was not built');
  const valid = await store.validPaths();
  const paths: ClosurePath[] = [];
  for (const path of await store.requisites(root)) {
    const { references = [], ca = null } = valid.get(path) ?? {};
    paths.push({ path, references, ca, ...(await store.dumpDigest(path)) });
  }
  await writeFile(join(place, 'paths.json'), JSON.stringify(paths, null, 1));
  await writeFile(join(place, 'root'), root);
  await checkedCommand(
    'nix-store',
    [
      '--generate-binary-cache-key',
      'upstream-1',
      join(place, 'upstream.secret'),
      join(place, 'upstream.public'),
    ],
    { env: store.environment() },
  );
  await rm(large, { recursive: true });
}

/** 20 MB, two fifths of them without any pattern; the same on every machine. */
function largeBlob(): Buffer {
  const random = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16)).update(
    Buffer.alloc(8_000_000),
  );
  return Buffer.concat([random, Buffer.alloc(12_000_000, 'snow falls on the cap, and the cap holds it. ')]);
}
