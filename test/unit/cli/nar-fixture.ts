/** A tree: the contents of a file, a link, or a directory whose names are in order. */
export type Tree =
  | string
  | { readonly executable: string }
  | { readonly link: string }
  | { readonly entries: Readonly<Record<string, Tree>> };

/** The NAR of a tree, as `nix-store --dump` would write it. */
export function narOf(tree: Tree): Buffer {
  return Buffer.concat([word('nix-archive-1'), node(tree)]);
}

function node(tree: Tree): Buffer {
  return Buffer.concat([word('('), word('type'), ...inner(tree), word(')')]);
}

function inner(tree: Tree): Buffer[] {
  if (typeof tree === 'string') return [word('regular'), word('contents'), word(tree)];
  if ('executable' in tree) {
    return [word('regular'), word('executable'), word(''), word('contents'), word(tree.executable)];
  }
  if ('link' in tree) return [word('symlink'), word('target'), word(tree.link)];
  const entries = Object.entries(tree.entries).map(([name, entry]) =>
    Buffer.concat([word('entry'), word('('), word('name'), word(name), word('node'), node(entry), word(')')]),
  );
  return [word('directory'), ...entries];
}

function word(text: string): Buffer {
  const bytes = Buffer.from(text, 'utf8');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
}
