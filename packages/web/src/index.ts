/** @podway/web: the page of `podway ui` and the server that serves it. */
export { serveUi, type Ui, type UiOptions } from './server/server.js';
export { type UiSource, type LiveEvent } from './server/live.js';
export { builtPage } from './server/page-files.js';
export { topologyOf, type PodProcesses } from './model/topology.js';
export { explain, unexplained } from './model/glossary.js';
export * from './model/types.js';
