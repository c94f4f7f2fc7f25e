export * from './types.js';
export * from './observe.js';
export * from './keys.js';
export * from './ownership.js';
export * from './diff.js';
export { linkIncompatible } from './compare.js';
export * from './apply.js';
export { canonicalTable, sameTable } from './nft-compare.js';
export * from './format.js';
