export { hostPortsOf, portWords, refuseTaken } from './mapping.js';
export { HostPorts } from './program.js';
export { hostPortProblems } from './check.js';
export { elementsOf, hostPortMasquerade, hostPortObjects, prefixOf, routeLocalnet, WHERE, type Family } from './table.js';
