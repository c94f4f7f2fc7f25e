export * from './allocator.js';
export * from './block-keeper.js';
export * from './blocks.js';
export * from './disk-store.js';
export * from './ipam.js';
export * from './ranges.js';
export * from './record.js';
export * from './store.js';
