export * from './objects.js';
export * from './client.js';
