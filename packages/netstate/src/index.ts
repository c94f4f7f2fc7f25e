export * from './types.js';
export * from './observe.js';
