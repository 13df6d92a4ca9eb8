import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a broken network does between a client and a server of the same machine. */
export interface TcpProxy {
  readonly port: number;
  /** How often a client has sent something after an answer: round trips, also those of connections that begin. */
  readonly roundTrips: number;
  /** The next answers of the server are lost, each with its connection. */
  loseAnswers(count: number): void;
  /** Nothing goes through any more, and nobody is told, until it is turned off again. */
  stall(on: boolean): void;
  /** From now on each piece that goes through takes so many milliseconds, in both directions; 0 as before. */
  slow(milliseconds: number): void;
  /** Ends all connections at once. */
  dropAll(): void;
  /** Ends all connections, and refuses others until `up`. */
  down(): Promise<void>;
  /** Listens on the same port again. */
  up(): Promise<void>;
  close(): Promise<void>;
}

/** A proxy on a free port of 127.0.0.1. */
export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let roundTrips = 0;
  let toLose = 0;
  let stalled = false;
  let delayMs = 0;

  /** No further piece is read before this one has gone. */
  async function pass(from: Socket, to: Socket, chunk: Buffer): Promise<void> {
    const delay = delayMs;
    if (delay > 0) {
      from.pause();
      await sleep(delay, undefined, { ref: false });
    }
    if (to.write(chunk)) from.resume();
    else {
      from.pause();
      to.once('drain', () => from.resume());
    }
  }

  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1');
    let answered = true;
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      one.setNoDelay(true);
      sockets.add(one);
      // As of a server that is gone or refuses: its clients are not told that all was well.
      one.on('error', () => other.resetAndDestroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    client.on('data', (chunk) => {
      if (stalled) return;
      if (answered) roundTrips++;
      answered = false;
      void pass(client, upstream, chunk);
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
      void pass(upstream, client, chunk);
    });
  });
  const listen = async (port: number): Promise<void> => {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  };
  await listen(0);
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port');
  const dropAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  const { port } = address;
  const down = async (): Promise<void> => {
    const closed = once(server, 'close');
    server.close();
    dropAll();
    await closed;
  };
  return {
    port,
    get roundTrips() {
      return roundTrips;
    },
    loseAnswers(count) {
      toLose = count;
    },
    stall(on) {
      stalled = on;
    },
    slow(milliseconds) {
      delayMs = milliseconds;
    },
    dropAll,
    down,
    up: () => listen(port),
    close: () => (server.listening ? down() : Promise.resolve()),
  };
}
