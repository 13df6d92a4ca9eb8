import { SnowcapProcess } from '../support/snowcap-process.ts';
import { testRuntime } from './runtime.contract.ts';

testRuntime({
  name: 'Node over files and SQLite',
  async start({ upstreams, trustedPublicKeys, delivery, env = {} }) {
    const snowcap = await SnowcapProcess.start({
      upstreams,
      trustedPublicKeys,
      env: { SNOWCAP_LOG_LEVEL: 'info', SNOWCAP_NAR_DELIVERY: delivery, ...env },
    });
    return { url: snowcap.url, publicKey: await snowcap.publicKey(), stop: () => snowcap.dispose() };
  },
  largeNar: 'streamed',
  unsupported: { redirects: 'files have no address of their own that a client could be sent to' },
});
