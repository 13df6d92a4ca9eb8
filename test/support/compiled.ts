import { fileURLToPath } from 'node:url';

/**
 * Where `bin/snowcap.js` keeps what Node has compiled and stripped of its types. A process that a test starts with the
 * same sources is given it as NODE_COMPILE_CACHE: a third of the time of its start is saved, some two hundred times in a
 * run. What ends by SIGKILL leaves nothing there, unless it calls `flushCompileCache`.
 */
export const COMPILED: string = fileURLToPath(new URL('../../node_modules/.cache/snowcap', import.meta.url));
