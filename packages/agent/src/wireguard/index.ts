export * from './settings.js';
export * from './keys.js';
export { WIREGUARD_GO, WIREGUARD_GO_PACKAGE, wireguardGo, wireguardGoControl } from './daemon.js';
export { implementationName, implementationOf, publishedWireguard, lacksForWireguard, withWireguard, wireguardSecrets } from './node.js';
