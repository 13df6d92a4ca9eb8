import { parentPort, workerData } from 'node:worker_threads';
import { startRedisRest } from '../support/redis-rest.ts';

// The thread behind `startRestThread`: a bridge that answers in time, however busy the test is.
const { url, token } = await startRedisRest(String(workerData));
parentPort?.postMessage({ url, token });
