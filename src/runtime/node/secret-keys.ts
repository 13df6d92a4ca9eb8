import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { dirname, resolve, sep } from 'node:path';
import type { Config } from '../../config/config.ts';
import { formatSecretKey, generateSecretKey, parseSecretKey, type SecretKey } from '../../nix/signing-key.ts';
import type { Logger } from '../../telemetry/logger.ts';

/**
 * The keys that sign. Only the embedded default makes a missing one: a file of mode 0600 beside the index, outside
 * the storage, which may be published as it is (law 10).
 *
 * @throws Error where a key file is missing, unreadable or malformed; never with the secret in it
 */
export async function loadSecretKeys(config: Config, logger: Logger): Promise<readonly SecretKey[]> {
  const { secretKeys } = config;
  switch (secretKeys.kind) {
    case 'given':
      return secretKeys.keys;
    case 'file':
      return await readKeys(secretKeys.path, logger);
    case 'generated': {
      const path = resolve(secretKeys.path);
      const { storage } = config;
      if (storage.kind === 'file' && path.startsWith(resolve(storage.path) + sep)) {
        throw new Error(
          `Cannot keep the signing key ${path} inside the storage: set SNOWCAP_DATABASE or SNOWCAP_SECRET_KEY_FILE to a path outside of ${storage.path}`,
        );
      }
      await generateMissing(path, `${config.hostname}-1`, logger);
      return await readKeys(path, logger);
    }
    case 'missing':
      throw new Error('There is no signing key: set SNOWCAP_SECRET_KEY or SNOWCAP_SECRET_KEY_FILE');
  }
}

async function generateMissing(path: string, name: string, logger: Logger): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
  } catch (error) {
    throw new Error(`Cannot make the folder of the secret key ${path}`, { cause: error });
  }
  const text = `${formatSecretKey(await generateSecretKey(name))}\n`;
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(text);
      await file.sync();
    } finally {
      await file.close();
    }
    logger.info('a signing key was generated', { key: name, path });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}

async function readKeys(path: string, logger: Logger): Promise<readonly SecretKey[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new Error(`Cannot read the secret key file ${path}`, { cause: error });
  }
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) {
    logger.warn('the secret key file can be read by others', {
      path,
      mode: `0${(mode & 0o777).toString(8)}`,
    });
  }
  const keys = text.split(/\s+/).filter((part) => part !== '');
  if (keys.length === 0) throw new Error(`The secret key file ${path} holds no key`);
  try {
    return await Promise.all(keys.map((key) => parseSecretKey(key)));
  } catch (error) {
    throw new Error(`The secret key file ${path} cannot be read`, { cause: error });
  }
}
