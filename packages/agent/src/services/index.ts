export * from './entries.js';
export * from './ruleset.js';
export * from './table.js';
export * from './commands.js';
export * from './observed.js';
export * from './flows.js';
export * from './health.js';
export * from './proxy.js';
