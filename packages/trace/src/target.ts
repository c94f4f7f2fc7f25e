/** From what people write to a flow: `web-a web-d`, `web-a 10.244.2.5:80`, `m1 default/web-d:8080`, `web-a fd00::5`. Pure. */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { PodwayError } from '@podway/errors';
import type { Flow } from './simulate/types.js';
import { findPod, type World } from './world.js';

export interface FlowWords {
  /** A pod (`web-a`, `default/web-a`), a node (`m1`, `node/m1`), or another namespace of the world (`outside`). */
  readonly from: string;
  /** The same, or an address; `:PORT` may follow. */
  readonly to: string;
  /** Default: `tcp` when a port is given, else `icmp`. */
  readonly proto?: 'icmp' | 'tcp' | 'udp';
  readonly port?: number;
}

interface Found {
  readonly netns: string;
  readonly address: string | undefined;
}

/**
 * @throws TRACE_UNKNOWN_TARGET (with what there is), TRACE_NO_ADDRESS (a pod that has none yet), TRACE_BAD_PORT.
 */
export function flowFor(world: World, w: FlowWords): Flow {
  const from = find(world, w.from);
  const m = /^(.*):(\d+)$/.exec(w.to);
  const [name, port] = m && !m[1]!.includes(':') ? [m[1]!, Number(m[2])] : [w.to, w.port];
  if (port !== undefined && !(Number.isInteger(port) && port > 0 && port < 65536)) throw new PodwayError('TRACE_BAD_PORT', `${port} is not a port`, { hint: 'Ports go from 1 to 65535.' });
  const proto = w.proto ?? (port === undefined ? 'icmp' : 'tcp');
  const dst = isIP(name) ? name.toLowerCase() : addressOf(find(world, name), name);
  return { from: from.netns, dst, proto, ...(proto === 'icmp' ? {} : { dstPort: port ?? 80 }) };
}

function addressOf(f: Found, name: string): string {
  if (f.address !== undefined) return f.address;
  throw new PodwayError('TRACE_NO_ADDRESS', `${name} has no address`, { object: name, hint: `Look at it with: podway get pods -o wide` });
}

function find(world: World, word: string): Found {
  // IPv4 where there is one.
  const usual = (addresses: readonly string[]): string | undefined => addresses.find((a) => isIPv4(a)) ?? addresses.find((a) => isIPv6(a));
  const pod = word.startsWith('node/') ? undefined : findPod(world, word);
  if (pod) return { netns: pod.netns, address: usual(pod.ips) };
  const node = world.nodes.find((n) => n.name === word.replace(/^node\//, ''));
  if (node) return { netns: node.netns, address: usual(node.addresses) };
  const other = world.namespaces.find((n) => n.key === word);
  if (other) return { netns: other.key, address: usual(other.state.addresses.filter((a) => a.scope === 'global').map((a) => a.address)) };
  const pods = world.pods.map((p) => (p.namespace === 'default' ? p.name : `${p.namespace}/${p.name}`));
  const rest = world.namespaces.filter((n) => n.role !== 'pod' && n.role !== 'node').map((n) => n.key);
  throw new PodwayError('TRACE_UNKNOWN_TARGET', `there is no pod or node ${word}`, {
    object: word, hint: `Pods: ${pods.join(', ') || 'none'}. Nodes: ${world.nodes.map((n) => n.name).join(', ') || 'none'}.${rest.length ? ` Others: ${rest.join(', ')}.` : ''}`,
  });
}
