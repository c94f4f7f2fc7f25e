/** A cluster's network configuration: where it is kept, and what of a new one a node can take over while pods run. */
import { createHash } from 'node:crypto';
import { kernelHas } from '@podway/kernel';
import { PodwayError } from '@podway/errors';
import { podMtu, type LocalNode } from '../backends/index.js';
import { parseNetworkConfig, type NetworkConfig } from '../config.js';
import { lacksForWireguard } from '../wireguard/index.js';

/** Tells one text of a configuration from another. */
export const networkDigest = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);

/** Where a cluster keeps its network configuration: `kubectl -n kube-system get configmap podway-config`. */
export const NETWORK_CONFIG_MAP = { namespace: 'kube-system', name: 'podway-config', key: 'net-conf.json' } as const;

/** In words, what this kernel would need for a backend and has not. */
function lackingModule(next: NetworkConfig): string | undefined {
  if (next.backend.type === 'wireguard') return lacksForWireguard(next.backend);
  const kind = LINK_KIND[next.backend.type];
  if (kind === undefined || kernelHas('link', kind)) return undefined;
  return `backend ${next.backend.type} needs the kernel module ${kind}, which this kernel lacks`;
}
const LINK_KIND: Readonly<Record<string, 'vxlan' | 'ipip' | undefined>> = { vxlan: 'vxlan', ipip: 'ipip' };

/** In words, what differs and would need every pod to be made anew; undefined when nothing does. */
function whatCannotChange(now: NetworkConfig, next: NetworkConfig): string | undefined {
  if (now.clusterCidrs.join() !== next.clusterCidrs.join()) {
    return `the range of pods cannot change on a running cluster (${now.clusterCidrs.join(', ')} to ${next.clusterCidrs.join(', ')})`;
  }
  const [was, wanted] = [wiringWords(now), wiringWords(next)];
  if (was !== wanted) {
    return `the wiring of pods cannot change on a running cluster (${was} to ${wanted}): the routes in each running pod name the gateway of ${was}, which would be gone. Make the cluster anew with it`;
  }
  if (now.ipam !== next.ipam) return `where addresses come from cannot change on a running cluster (${now.ipam ?? 'podCIDR'} to ${next.ipam ?? 'podCIDR'}): pods have addresses of ranges that would be another node's`;
  if (now.bridge !== next.bridge) return `the bridge cannot change on a running cluster (${now.bridge} to ${next.bridge})`;
  return undefined;
}

const wiringWords = (c: NetworkConfig): string => (c.gateway === undefined ? c.wiring : `${c.wiring} with a ${c.gateway} gateway`);

/**
 * The configuration in a text, when this node can change over to it.
 * @throws NETWORK_CONFIG_INVALID, NETWORK_CONFIG_FIXED, KERNEL_LACKS, MTU_TOO_BIG
 */
export function acceptNetwork(text: string, now: NetworkConfig, local: LocalNode | undefined): NetworkConfig {
  const next = parseNetworkConfig(text);
  const fixed = whatCannotChange(now, next);
  if (fixed !== undefined) throw new PodwayError('NETWORK_CONFIG_FIXED', fixed);
  const lacking = lackingModule(next);
  if (lacking !== undefined) throw new PodwayError('KERNEL_LACKS', lacking);
  // An MTU that does not fit is told now, and not by every comparison to come.
  if (local) podMtu(next, local);
  return next;
}
