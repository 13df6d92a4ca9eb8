import { readFile, writeFile } from 'node:fs/promises';

/**
 * Writes `test/fixtures/packages/debian-12.txt` from an index of Debian packages (`Packages`, unpacked), whose path is the
 * argument: real sizes and real closures for the traces of `npm run bench:replay`. A line is a package: its name, bytes
 * of its archive, and the numbers of the lines that it depends on, from 0.
 */
const FILE = new URL('../test/fixtures/packages/debian-12.txt', import.meta.url);

/** What machines and builds ask for: their closures are the fixture. */
const ROOTS = `
  ansible apache2 ardour audacity bind9 blender build-essential cargo chromium clang cmake docker.io dovecot-imapd elixir
  emacs erlang firefox-esr freecad gdb ghc gimp git gnome gnuradio golang gradle inkscape kde-plasma-desktop kdenlive kicad
  libboost-all-dev libgtk-4-dev libopencv-dev libreoffice libvirt-daemon-system lldb mariadb-server maven
  mesa-vulkan-drivers meson mono-complete neovim nginx ninja-build nodejs npm obs-studio ocaml octave openjdk-17-jdk
  openscad php-fpm podman postfix postgresql prometheus python3-pandas python3-scipy python3-sklearn qemu-system-x86 qgis
  qt6-base-dev qtbase5-dev qtcreator r-base racket redis ruby-rails rustc sagemath samba sbcl texlive-full thunderbird
  valgrind vim-gtk3 vlc wine wireshark xfce4 zabbix-server-pgsql`
  .trim()
  .split(/\s+/);

interface Package {
  readonly size: number;
  /** As the index has it: alternatives by `|`, versions in parentheses. */
  readonly depends: string;
}

const [, , index = ''] = process.argv;
const packages = new Map<string, Package>();
const providers = new Map<string, string>();
for (const stanza of (await readFile(index, 'utf8')).split('\n\n')) {
  const fields = new Map(
    Array.from(stanza.matchAll(/^([A-Za-z-]+): (.*)$/gm), ([, name, text]) => [name, text]),
  );
  const name = fields.get('Package');
  if (name === undefined) continue;
  const depends = [fields.get('Pre-Depends'), fields.get('Depends')].filter(Boolean).join(', ');
  packages.set(name, { size: Number(fields.get('Size')), depends });
  for (const provided of namesIn(fields.get('Provides') ?? '')) {
    if (!providers.has(provided)) providers.set(provided, name);
  }
}

function namesIn(list: string): readonly string[] {
  return list.split(/[,|]/).flatMap((entry) => entry.trim().split(/[ (:]/)[0] || []);
}

/** Of alternatives the first that there is, as an installation takes it. */
function dependenciesOf({ depends }: Package): readonly string[] {
  return depends.split(',').flatMap((alternatives) => {
    const known = namesIn(alternatives).map((name) => (packages.has(name) ? name : providers.get(name)));
    return known.find((name) => name !== undefined) ?? [];
  });
}

const chosen = new Map<string, readonly string[]>();
const waiting = [...ROOTS];
for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
  const found = packages.get(name);
  if (found === undefined) throw new Error(`${index} has no package ${JSON.stringify(name)}`);
  if (chosen.has(name)) continue;
  const dependencies = [...new Set(dependenciesOf(found))].filter((other) => other !== name);
  chosen.set(name, dependencies);
  waiting.push(...dependencies);
}

const names = [...chosen.keys()].toSorted();
const numbers = new Map(names.map((name, number) => [name, number]));
const lines = names.map((name) => {
  const numbersOfDependencies = (chosen.get(name) ?? []).map((other) => numbers.get(other));
  return [name, packages.get(name)?.size, ...numbersOfDependencies].join(' ');
});
await writeFile(FILE, `${lines.join('\n')}\n`);
