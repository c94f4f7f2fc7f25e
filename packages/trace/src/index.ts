export * from './world.js';
export * from './live.js';
export * from './sockets.js';
export * from './simulate/index.js';
export * from './simulate/types.js';
export { lookupRoute, decisionText, routeText } from './simulate/route.js';
