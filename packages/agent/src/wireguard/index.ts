export * from './settings.js';
export * from './keys.js';
export { WIREGUARD_GO, WIREGUARD_GO_PACKAGE, wireguardGo, wireguardGoControl } from './daemon.js';
export { implementationOf, lacksForWireguard, withWireguard, wireguardSecrets } from './node.js';
