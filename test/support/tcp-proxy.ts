import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** What a broken network does between a client and a server of the same machine. */
export interface TcpProxy {
  readonly port: number;
  /** How often a client has sent something after an answer: round trips, also those of connections that begin. */
  readonly roundTrips: number;
  /** The next answers of the server are lost, each with its connection. */
  loseAnswers(count: number): void;
  /** Nothing goes through any more, and nobody is told, until it is turned off again. */
  stall(on: boolean): void;
  /** Ends all connections at once. */
  dropAll(): void;
  close(): Promise<void>;
}

/** A proxy on a free port of 127.0.0.1. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let roundTrips = 0;
  let toLose = 0;
  let stalled = false;

  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1');
    let answered = true;
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.setNoDelay(true);
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    client.on('data', (chunk) => {
      if (stalled) return;
      if (answered) roundTrips++;
      answered = false;
      upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      if (stalled) return;
      answered = true;
      if (toLose > 0) {
        toLose--;
        client.resetAndDestroy();
        upstream.destroy();
        return;
      }
      client.write(chunk);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port');
  const dropAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address.port,
    get roundTrips() {
      return roundTrips;
    },
    loseAnswers(count) {
      toLose = count;
    },
    stall(on) {
      stalled = on;
    },
    dropAll,
    async close() {
      server.close();
      dropAll();
      await once(server, 'close');
    },
  };
}
