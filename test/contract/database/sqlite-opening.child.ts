/**
 * Opens the index at the path given, without the rights of root, and prints the error:
 * `node sqlite-opening.child.ts <path>`.
 */
import { createSqliteStore } from '../../../src/database/sqlite/node.ts';

const NOBODY = 65_534;

if (process.getuid?.() === 0) {
  process.setgroups?.([]);
  process.setgid?.(NOBODY);
  process.setuid?.(NOBODY);
}
try {
  const store = await createSqliteStore({ path: process.argv[2] ?? '', busyTimeoutMs: 100 });
  await store.close();
  console.log('opened');
} catch (error) {
  console.log(String(error));
}
