/** The user names and passwords of a netrc file. */
export interface Netrc {
  /**
   * The credentials for a host: those of the first `machine` of that name, else those of `default`.
   *
   * @param host without a port; upper and lower case are the same
   */
  lookup(host: string): { readonly user: string; readonly password: string } | null;
}

interface Entry {
  /** In lower case; null for `default`. */
  readonly machine: string | null;
  user: string | null;
  password: string | null;
}

interface Token {
  readonly text: string;
  /** Counted from 1. */
  readonly line: number;
}

/**
 * Reads a netrc file as curl does, which is what Nix uses: `machine NAME`, `default`, `login`, `password` and `account`
 * in any layout, tokens in double quotes with `\"`, `\\`, `\n`, `\r` and `\t` in them, comments from a `#` that
 * stands where a keyword would, and `macdef` skipped up to the next blank line.
 *
 * @throws SyntaxError that names the line, and never shows what stands there
 */
export function parseNetrc(text: string): Netrc {
  const scanner = new Scanner(text);
  const machines = new Map<string, Entry>();
  let fallback: Entry | null = null;
  let entry: Entry | null = null;

  for (let keyword = scanner.keyword(); keyword !== null; keyword = scanner.keyword()) {
    switch (keyword.text) {
      case 'machine': {
        const machine = scanner.value(keyword).toLowerCase();
        entry = { machine, user: null, password: null };
        // The first one counts, as in curl.
        if (!machines.has(machine)) machines.set(machine, entry);
        break;
      }
      case 'default':
        entry = { machine: null, user: null, password: null };
        fallback ??= entry;
        break;
      case 'login':
      case 'password':
      case 'account': {
        const value = scanner.value(keyword);
        if (entry === null) throw fault(keyword.line, `"${keyword.text}" stands before any "machine"`);
        if (keyword.text === 'login') entry.user = value;
        if (keyword.text === 'password') entry.password = value;
        break;
      }
      case 'macdef':
        scanner.value(keyword);
        scanner.skipToBlankLine();
        break;
      default:
        throw fault(keyword.line, 'expected machine, default, login, password, account or macdef');
    }
  }

  return {
    lookup(host) {
      const found = machines.get(host.toLowerCase()) ?? fallback;
      if (found === null || (found.user === null && found.password === null)) return null;
      return { user: found.user ?? '', password: found.password ?? '' };
    },
  };
}

const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);

class Scanner {
  readonly #text: string;
  #at = 0;
  #line = 1;

  constructor(text: string) {
    this.#text = text;
  }

  /** The next token where a keyword is expected, comments skipped; null at the end. */
  keyword(): Token | null {
    for (;;) {
      this.#skipSpace();
      if (this.#text[this.#at] !== '#') return this.#token();
      const end = this.#text.indexOf('\n', this.#at);
      this.#at = end < 0 ? this.#text.length : end;
    }
  }

  /** The token after a keyword. @throws SyntaxError if there is none */
  value(keyword: Token): string {
    this.#skipSpace();
    const token = this.#token();
    if (token === null) throw fault(keyword.line, `"${keyword.text}" has no value`);
    return token.text;
  }

  skipToBlankLine(): void {
    const blank = /\n[ \t\r]*\n/g;
    blank.lastIndex = this.#at;
    this.#moveTo(blank.exec(this.#text) === null ? this.#text.length : blank.lastIndex);
  }

  #skipSpace(): void {
    const space = /\s*/y;
    space.lastIndex = this.#at;
    space.exec(this.#text);
    this.#moveTo(space.lastIndex);
  }

  #token(): Token | null {
    const line = this.#line;
    if (this.#at >= this.#text.length) return null;
    if (this.#text[this.#at] === '"') return { text: this.#quoted(line), line };
    const word = /\S+/y;
    word.lastIndex = this.#at;
    const text = word.exec(this.#text)?.[0] ?? '';
    this.#moveTo(word.lastIndex);
    return { text, line };
  }

  #quoted(line: number): string {
    let text = '';
    for (let at = this.#at + 1; at < this.#text.length; at += 1) {
      const character = this.#text.charAt(at);
      if (character === '"') {
        this.#moveTo(at + 1);
        return text;
      }
      if (character === '\n') break;
      if (character === '\\') {
        at += 1;
        const escaped = this.#text.charAt(at);
        text += ESCAPES.get(escaped) ?? escaped;
      } else {
        text += character;
      }
    }
    throw fault(line, 'a double quote is not closed on its line');
  }

  #moveTo(at: number): void {
    for (
      let index = this.#text.indexOf('\n', this.#at);
      index >= 0 && index < at;
      index = this.#text.indexOf('\n', index + 1)
    ) {
      this.#line += 1;
    }
    this.#at = at;
  }
}

function fault(line: number, why: string): SyntaxError {
  return new SyntaxError(`Cannot parse the netrc file: line ${line}: ${why}`);
}
