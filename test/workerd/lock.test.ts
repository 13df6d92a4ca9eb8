import { createLocalLocks } from '../../src/lock/local.ts';
import { testLockManager } from '../contract/lock/lock-manager.contract.ts';

testLockManager({ name: 'local in workerd', create: (clock) => createLocalLocks({ clock }) });
