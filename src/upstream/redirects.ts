import { TransportError } from './transport.ts';
import type { TransportRequest, TransportResponse } from './transport.ts';

/** RFC 9110 §15.4; 303 too, since only GET and HEAD are sent. */
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);
const MAX_REDIRECTS = 10;

/**
 * One request with the redirects that its answer asks for, for transports that follow none by themselves.
 *
 * @param headers of the first request; credentials among them are not sent to another origin
 * @param exchange sends one request and follows nothing
 * @throws TransportError where the redirects have no end or lead out of http; what `exchange` throws
 */
export async function followRedirects(
  request: TransportRequest,
  headers: Readonly<Record<string, string>>,
  exchange: (url: URL, headers: Readonly<Record<string, string>>) => Promise<TransportResponse>,
): Promise<TransportResponse> {
  let { url } = request;
  let sent = headers;
  for (let redirects = 0; ; redirects += 1) {
    const response = await exchange(url, sent);
    const location = response.headers['location'];
    if (!REDIRECTS.has(response.status) || location === undefined) return response;
    await response.body[Symbol.asyncIterator]().return?.();
    if (redirects === MAX_REDIRECTS) {
      throw new TransportError(
        'protocol',
        `${request.url.origin} redirects more than ${MAX_REDIRECTS} times`,
      );
    }
    const target = redirectTarget(location, url);
    if (target.origin !== url.origin) sent = withoutCredentials(sent);
    url = target;
  }
}

function redirectTarget(location: string, from: URL): URL {
  const target = URL.canParse(location, from.href) ? new URL(location, from) : null;
  if (target === null || (target.protocol !== 'http:' && target.protocol !== 'https:')) {
    throw new TransportError(
      'protocol',
      `${from.origin} redirects to something that is not an http or https URL`,
    );
  }
  return target;
}

/** What was meant for one origin stays there, also when a later redirect leads back. */
function withoutCredentials(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).filter(([name]) => !/^(authorization|cookie|proxy-authorization)$/i.test(name)),
  );
}
