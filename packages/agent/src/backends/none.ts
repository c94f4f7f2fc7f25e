/** none: the ways between nodes are made by somebody else (a cloud's route tables, an administrator). Pods are wired, nothing more. */
import type { NoneConfig } from '../config.js';
import type { Backend } from './backend.js';

export const none: Backend<NoneConfig> = {
  type: 'none',
  overhead: () => 0,
  publish: () => ({}),
  refuses: () => undefined,
  desired: () => ({}),
};
