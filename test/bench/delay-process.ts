import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { answerCalls } from './child-process.ts';
import { HOST } from './places.ts';

export interface DelayCall {
  readonly targetPort: number;
  /** Added to each round trip, in milliseconds: half of it in each direction, and the whole once to connect. */
  readonly roundTripMs: number;
}

answerCalls<DelayCall, number>(({ targetPort, roundTripMs }) => {
  const server = createServer({ noDelay: true }, (client) => {
    const target = connect({ host: HOST, port: targetPort, noDelay: true });
    // The kernel has answered the client's SYN already: the wait for it is put before the first bytes.
    forward(client, target, roundTripMs / 2, roundTripMs);
    forward(target, client, roundTripMs / 2, 0);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, HOST, () => {
      const address = server.address();
      if (address !== null && typeof address === 'object') resolve(address.port);
    });
  });
});

/** Bytes that may be on their way in one direction: 20 ms of a very fast line. */
const WINDOW = 8 * 1024 * 1024;

/** Passes on what `from` sends, in order, each chunk `delayMs` after it came; none waits for another's delay. */
function forward(from: Socket, to: Socket, delayMs: number, connectMs: number): void {
  const connectedAt = performance.now() + connectMs;
  const line: { readonly due: number; act(): void }[] = [];
  let onTheWay = 0;

  const advance = (): void => {
    for (let first = line[0]; first !== undefined; first = line[0]) {
      const wait = first.due - performance.now();
      if (wait > 0.2) {
        setTimeout(advance, wait);
        return;
      }
      line.shift();
      first.act();
    }
  };
  const later = (act: () => void): void => {
    line.push({ due: Math.max(performance.now(), connectedAt) + delayMs, act });
    if (line.length === 1) setTimeout(advance, delayMs);
  };

  from.on('data', (chunk: Buffer) => {
    onTheWay += chunk.length;
    if (onTheWay >= WINDOW) from.pause();
    later(() => {
      to.write(chunk, () => {
        onTheWay -= chunk.length;
        if (onTheWay < WINDOW) from.resume();
      });
    });
  });
  from.on('end', () => later(() => to.end()));
  from.on('error', () => to.destroy());
}
