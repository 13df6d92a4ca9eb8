import { readFile } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import { parseNetrc } from '../upstream/netrc.ts';
import { createUndiciTransport } from '../upstream/undici-transport.ts';
import { Failure } from './failure.ts';
import { basic } from './place.ts';
import type { Remote } from './place.ts';

/**
 * Access to URLs with the proxy, certificates and credentials of the configuration.
 *
 * @throws Failure where one of its files cannot be read
 */
export async function createRemote(config: Config, version: string): Promise<Remote> {
  const caBundle = config.caFile === null ? null : await readText(config.caFile, 'SNOWCAP_CA_FILE');
  const netrc =
    config.netrcFile === null ? null : parseNetrc(await readText(config.netrcFile, 'SNOWCAP_NETRC_FILE'));
  return {
    transport: createUndiciTransport({
      userAgent: `snowcap/${version}`,
      proxy: config.proxy,
      connectTimeoutMs: config.upstreamTimeouts.connectMs,
      ...(caBundle !== null && { caBundle }),
    }),
    authorization: (url) => {
      const found = netrc?.lookup(url.hostname) ?? null;
      return found === null ? null : basic(found.user, found.password);
    },
    headersTimeoutMs: config.upstreamTimeouts.headersMs,
    idleTimeoutMs: config.upstreamTimeouts.idleMs,
  };
}

async function readText(path: string, name: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new Failure(`Cannot read ${name} ${JSON.stringify(path)}`, { cause });
  }
}
