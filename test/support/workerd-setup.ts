/** Global set-up of the suite that runs inside workerd. */
export default async function setup(): Promise<void> {
  // Else miniflare asks Cloudflare where it is. (Metrics are sent by wrangler's commands only.)
  process.env['CLOUDFLARE_CF_FETCH_ENABLED'] = 'false';
}
