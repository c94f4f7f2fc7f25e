export * from './server.js';
export * from './podsubresources.js';
export type { Store, StoreChange } from './store/store.js';
export { MemoryStore } from './store/memory.js';
export { openLmdbStore } from './store/lmdb.js';
export { Registry, BUILT_IN } from './kinds/registry.js';
export type { KindSpec, Column, Cell } from './kinds/spec.js';
export { podSummary } from './kinds/podstatus.js';
export { since, humanDuration } from './duration.js';
