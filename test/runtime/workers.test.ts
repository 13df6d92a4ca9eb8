import { startBundledWorker } from '../support/bundled-worker.ts';
import { testRuntime } from './runtime.contract.ts';

testRuntime({
  name: 'Cloudflare Workers over R2 and D1',
  start: ({ upstreams, trustedPublicKeys, delivery, env = {} }) =>
    startBundledWorker({
      settings: {
        SNOWCAP_UPSTREAMS: upstreams.join(' '),
        SNOWCAP_TRUSTED_PUBLIC_KEYS: trustedPublicKeys.join(' '),
        SNOWCAP_NAR_DELIVERY: delivery,
        ...env,
      },
    }),
  largeNar: 'streamed',
  unsupported: { redirects: 'the binding of a bucket gives no address that a client could be sent to' },
});
