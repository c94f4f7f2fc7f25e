export * from './model.js';
export * from './endpoints.js';
export * from './slices.js';
