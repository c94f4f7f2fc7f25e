/** wireguard-go as a daemon of the agent: WireGuard where the kernel has none. One program per device. */
import { readUserspaceWireguard, WIREGUARD_SOCKET_DIR } from '@podway/kernel';
import { PodwayError } from '@podway/errors';
import type { DaemonControl, DaemonSpec } from '../daemons/spec.js';

export const WIREGUARD_GO = 'wireguard-go';
/** Debian's package. */
export const WIREGUARD_GO_PACKAGE = 'wireguard-go';

export const wireguardGo = (device: string): DaemonSpec => ({
  name: `${WIREGUARD_GO}-${device}`, program: WIREGUARD_GO, package: WIREGUARD_GO_PACKAGE, device,
  argv: [WIREGUARD_GO, '--foreground', device],
  env: { LOG_LEVEL: 'error' }, files: [],
});

/**
 * It takes requests before it has seen that its device is up; a port it listens on says that it has.
 * @param make makes the device, if it is not there
 */
export const wireguardGoControl = (directory = WIREGUARD_SOCKET_DIR, make?: (device: string) => void): DaemonControl => ({
  // By itself it would make a device that ends with it.
  before: (spec) => make?.(spec.device!),
  ready: async (spec) => {
    const { listenPort } = readUserspaceWireguard(spec.device!, directory);
    if (listenPort === 0) throw new PodwayError('WIREGUARD_GONE', `${spec.device} is not up`, { object: `link ${spec.device}` });
    return Promise.resolve();
  },
});
