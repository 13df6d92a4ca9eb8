// Adds to package-lock.json the optional packages for other platforms that npm left out. To be run after `npm install`:
//
//   node .ci/complete-lockfile.ts
//
// npm leaves out what the registry at hand does not have, and `npm ci`
// then refuses the lock file that it wrote itself (npm issue 9846). Their versions are pinned by the packages that
// want them; platforms are told by their names. What is not known here is their integrity.
import { readFile, writeFile } from 'node:fs/promises';

interface LockedPackage {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

interface Lockfile {
  packages: Record<string, LockedPackage & Record<string, unknown>>;
}

const FILE = new URL('../package-lock.json', import.meta.url);
const PLATFORM =
  /(?:^|[-/])(aix|android|darwin|freebsd|linux|netbsd|openbsd|openharmony|sunos|win32|windows)-([a-z0-9]+)/;

const lockfile = JSON.parse(await readFile(FILE, 'utf8')) as Lockfile;
const added: string[] = [];
for (const [place, parent] of Object.entries(lockfile.packages)) {
  for (const [name, version] of Object.entries(parent.optionalDependencies ?? {})) {
    const known = Object.keys(lockfile.packages).some((key) => key.endsWith(`node_modules/${name}`));
    const [, os, cpu] = PLATFORM.exec(name) ?? [];
    const wasm = name.includes('wasm32');
    if (known || !/^\d/.test(version) || (os === undefined && !wasm)) continue;
    lockfile.packages[`node_modules/${name}`] = {
      version,
      cpu: [wasm ? 'wasm32' : cpu === '64' ? 'x64' : (cpu ?? '')],
      ...(parent.dev === true ? { dev: true } : {}),
      optional: true,
      ...(os === undefined ? {} : { os: [os === 'windows' ? 'win32' : os] }),
    };
    added.push(`${name}@${version} (for ${place})`);
  }
}
const sorted = Object.entries(lockfile.packages).toSorted(([a], [b]) => a.localeCompare(b, 'en'));
lockfile.packages = Object.fromEntries(sorted);
await writeFile(FILE, `${JSON.stringify(lockfile, null, 2)}\n`);
process.stdout.write(`${[...added, `${added.length} packages added`].join('\n')}\n`);
