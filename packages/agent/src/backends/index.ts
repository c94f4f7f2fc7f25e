/** The backends there are, by type; and what follows from a configuration whichever it is. Pure. */
import { PodwayError } from '@podway/errors';
import type { BackendConfig, BackendType, NetworkConfig } from '../config.js';
import type { Backend, LocalNode } from './backend.js';
import { bgp } from './bgp.js';
import { hostGw } from './host-gw.js';
import { ipip } from './ipip.js';
import { none } from './none.js';
import { familyOf } from './routes.js';
import { vxlan } from './vxlan.js';
import { wireguard } from './wireguard.js';

export type { Backend, BackendEnd, Family, LocalNode, NodeEnds, Peer, Uplink, UplinkAddress } from './backend.js';
export { tunnelAddress } from './routes.js';
export { vtepMac } from './vxlan.js';

const ALL: { readonly [T in BackendType]: Backend<Extract<BackendConfig, { type: T }>> } = { vxlan, 'host-gw': hostGw, ipip, wireguard, bgp, none };

/** The backend of a configuration. The type says which; that config and backend belong together is known here and nowhere else. */
export const backendOf = (config: NetworkConfig): Backend => ALL[config.backend.type] as unknown as Backend;

/** What nodes call the way that a configuration makes. */
export const wayOf = (config: NetworkConfig): string => backendOf(config).way?.(config) ?? config.backend.type;

/**
 * The MTU of pods, bridge and tunnel: as configured, or the uplink's less the backend's overhead.
 * @throws MTU_TOO_BIG with the arithmetic, when the configured one would not fit
 */
export function podMtu(config: NetworkConfig, local: LocalNode): number {
  const { dev, mtu: uplink, address } = local.uplink;
  const backend = backendOf(config);
  const overhead = Math.max(...(backend.underlays?.(config, local) ?? [familyOf(address)]).map((f) => backend.overhead(config, f)));
  const fits = uplink - overhead;
  if (config.mtu === undefined || config.mtu <= fits) return config.mtu ?? fits;
  throw new PodwayError('MTU_TOO_BIG', `an MTU of ${config.mtu} for pods does not fit`, {
    object: `${dev} of node ${local.name}`,
    said: `${uplink} (${dev}) - ${overhead} (${config.backend.type}) = ${fits}`,
    hint: `Set it to ${fits} or less, or leave it out: it is then derived.`,
  });
}
