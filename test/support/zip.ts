import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { inflateRawSync } from 'node:zlib';

const END_OF_DIRECTORY = 0x06054b50;
const DEFLATED = 8;

/**
 * Unpacks a zip file of plain files, as the artefact of a function is one (PKWARE APPNOTE 4.3).
 *
 * @returns the names of the files, in the order of the archive
 */
export async function unzip(file: string, directory: string): Promise<readonly string[]> {
  const bytes = await readFile(file);
  let end = bytes.length - 22;
  while (end >= 0 && bytes.readUInt32LE(end) !== END_OF_DIRECTORY) end -= 1;
  if (end < 0) throw new Error(`${file} is not a zip file`);
  const names: string[] = [];
  let at = bytes.readUInt32LE(end + 16);
  for (let left = bytes.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((offset) =>
      bytes.readUInt16LE(at + offset),
    ) as [number, number, number];
    const name = bytes.toString('utf8', at + 46, at + 46 + nameLength);
    const local = bytes.readUInt32LE(at + 42);
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    const packed = bytes.subarray(start, start + bytes.readUInt32LE(at + 20));
    const target = join(directory, name);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, bytes.readUInt16LE(at + 10) === DEFLATED ? inflateRawSync(packed) : packed);
    names.push(name);
    at += 46 + nameLength + extraLength + commentLength;
  }
  return names;
}
