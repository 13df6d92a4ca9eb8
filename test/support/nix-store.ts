import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkedCommand, digestOfOutput, runCommand } from './nix-command.ts';
import type { CommandResult } from './nix-command.ts';

/** Nix settings of one command, as after `--option`. */
export type NixSettings = Readonly<Record<string, string>>;

export interface CopyOptions {
  /** Public keys that the client trusts; none: it takes only content-addressed paths. */
  readonly trustedPublicKeys?: readonly string[];
  readonly settings?: NixSettings;
  /** Milliseconds. @default 120_000 */
  readonly timeoutMs?: number;
}

/** What a store says of a path of its own; `narHash` is `sha256:<nix32>` or SRI, as Nix prints it. */
export interface ValidPath {
  readonly path: string;
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly signatures: readonly string[];
  readonly ca: string | null;
}

export interface DumpDigest {
  /** Hex, of the NAR. */
  readonly sha256: string;
  /** Bytes of the NAR. */
  readonly size: number;
}

/**
 * A Nix store of its own below a directory, with its own state, logs, settings, home, and memory of
 * caches: nothing of the machine's is read or written, and nobody needs a daemon or root's /nix.
 * Paths are called `/nix/store/…` in it, and lie in `<directory>/root/nix/store/…`.
 */
export class NixStore {
  readonly directory: string;
  /** For `--store`, `--to` and NIX_REMOTE. */
  readonly uri: string;
  #answers = 0;

  constructor(directory: string) {
    this.directory = directory;
    this.uri = `local?root=${join(directory, 'root')}`;
  }

  /** The environment of a client of this store. */
  environment(): Record<string, string> {
    const own = (name: string): string => join(this.directory, name);
    return {
      PATH: process.env['PATH'] ?? '/usr/bin:/bin',
      LC_ALL: 'C.UTF-8',
      HOME: own('home'),
      TMPDIR: own('tmp'),
      XDG_CACHE_HOME: own(`answers-${this.#answers}`),
      XDG_CONFIG_HOME: own('config'),
      XDG_DATA_HOME: own('data'),
      NIX_CONF_DIR: own('etc'),
      NIX_STATE_DIR: own('state'),
      NIX_LOG_DIR: own('log'),
      NIX_REMOTE: this.uri,
      NIX_CONFIG: [
        'experimental-features = nix-command',
        'build-users-group =',
        'sandbox = true',
        'sandbox-paths = /bin /lib /lib64 /usr',
        'substituters =',
        'fsync-metadata = false',
        'connect-timeout = 5',
        'stalled-download-timeout = 20',
      ].join('\n'),
    };
  }

  /** Forgets every answer of a cache (a client keeps narinfos 30 days and 404s one hour), as a new user would. */
  forgetAnswers(): void {
    this.#answers += 1;
  }

  /** Runs a Nix program on this store, whatever its exit code. */
  run(
    program: 'nix' | 'nix-store' | 'nix-build',
    args: readonly string[],
    { settings = {}, timeoutMs }: { readonly settings?: NixSettings; readonly timeoutMs?: number } = {},
  ): Promise<CommandResult> {
    const options = Object.entries(settings).flatMap(([name, value]) => ['--option', name, value]);
    return runCommand(program, [...args, ...options], {
      env: this.environment(),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
  }

  /** Runs a Nix program that must succeed. @returns its standard output @throws CommandError */
  check(program: 'nix' | 'nix-store' | 'nix-build', args: readonly string[]): Promise<string> {
    return checkedCommand(program, args, { env: this.environment() });
  }

  /** Adds a file or directory as a content-addressed path. */
  async add(file: string): Promise<string> {
    return (await this.check('nix-store', ['--add', file])).trim();
  }

  /** Adds a file as the output of a fixed-output derivation. */
  async addFixed(algorithm: 'sha256' | 'sha1', file: string): Promise<string> {
    return (await this.check('nix-store', ['--add-fixed', algorithm, file])).trim();
  }

  /** Builds an expression with string arguments. @returns the output paths */
  async build(
    file: string,
    stringArguments: Readonly<Record<string, string>> = {},
  ): Promise<readonly string[]> {
    const args = Object.entries(stringArguments).flatMap(([name, value]) => ['--argstr', name, value]);
    return lines(await this.check('nix-build', ['--no-out-link', file, ...args]));
  }

  /** The closure of paths, in no order that means anything. */
  async requisites(...paths: readonly string[]): Promise<readonly string[]> {
    return lines(await this.check('nix-store', ['--query', '--requisites', ...paths]));
  }

  /** Copies the closure of paths from a cache. Look at `code`: it may be meant to fail. */
  copyFrom(url: string, paths: readonly string[], options: CopyOptions = {}): Promise<CommandResult> {
    return this.run('nix', ['copy', '--from', url, ...paths], withKeys(options));
  }

  /** Substitutes paths as an installation does, with these caches and no building. */
  realise(
    paths: readonly string[],
    substituters: readonly string[],
    options: CopyOptions = {},
  ): Promise<CommandResult> {
    const { settings, timeoutMs } = withKeys(options);
    return this.run('nix-store', ['--realise', ...paths], {
      settings: { ...settings, substituters: substituters.join(' '), 'max-jobs': '0' },
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    });
  }

  /** Every valid path. */
  async validPaths(): Promise<ReadonlyMap<string, ValidPath>> {
    const answer: unknown = JSON.parse(await this.check('nix', ['path-info', '--all', '--json']));
    const paths = Array.isArray(answer) ? answer.map(parseValidPath) : [];
    return new Map(paths.map((path) => [path.path, path]));
  }

  /** The NAR of a path, as `nix-store --dump` writes it. */
  dumpDigest(path: string): Promise<DumpDigest> {
    return digestOfOutput('nix-store', ['--dump', this.fileOf(path)], { env: this.environment() });
  }

  /** SHA-256 (hex) of the NARs of paths, in one process: what `dumpDigest` gives, much quicker. */
  async narDigests(paths: readonly string[]): Promise<readonly string[]> {
    if (paths.length === 0) return [];
    const files = paths.map((path) => this.fileOf(path));
    return lines(await this.check('nix', ['hash', 'path', '--type', 'sha256', '--base16', ...files]));
  }

  /** Where the files of a store path really are. */
  fileOf(path: string): string {
    return join(this.directory, 'root', path);
  }

  /** Checks the contents of every valid path against its hash. @throws CommandError */
  async verify(): Promise<void> {
    await this.check('nix-store', ['--verify', '--check-contents']);
  }

  async remove(): Promise<void> {
    // Store paths are read-only, and only root may remove below a read-only directory.
    if (process.getuid?.() !== 0) {
      await runCommand('chmod', ['-R', 'u+w', this.directory], { env: { PATH: process.env['PATH'] ?? '' } });
    }
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** An empty store, in a new temporary directory or in the one given. */
export async function createNixStore(directory?: string): Promise<NixStore> {
  const place = directory ?? (await mkdtemp(join(tmpdir(), 'snowcap-store-')));
  await chmod(place, 0o755);
  const store = new NixStore(place);
  await Promise.all(['home', 'tmp', 'etc'].map((name) => mkdir(join(place, name), { recursive: true })));
  return store;
}

function withKeys({ trustedPublicKeys = [], settings = {}, timeoutMs }: CopyOptions): {
  readonly settings: NixSettings;
  readonly timeoutMs?: number;
} {
  return {
    settings: { 'trusted-public-keys': trustedPublicKeys.join(' '), ...settings },
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
}

function parseValidPath(value: unknown): ValidPath {
  if (typeof value !== 'object' || value === null)
    throw new TypeError(`Cannot read path-info ${String(value)}`);
  const field = (name: string): unknown => Object.entries(value).find(([key]) => key === name)?.[1];
  const texts = (name: string): readonly string[] => {
    const list = field(name);
    return Array.isArray(list) ? list.map(String).toSorted() : [];
  };
  const ca = field('ca');
  return {
    path: String(field('path')),
    narHash: String(field('narHash')),
    narSize: Number(field('narSize')),
    references: texts('references'),
    signatures: texts('signatures'),
    ca: typeof ca === 'string' ? ca : null,
  };
}

function lines(text: string): readonly string[] {
  return text.split('\n').filter((line) => line !== '');
}
