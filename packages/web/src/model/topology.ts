/** From a world to what a map shows of it. Pure. */
import { linkRoles, type Link } from '@podway/netstate';
import { pointOf, WorldIndex, type World, type WorldNamespace } from '@podway/trace';
import type { DeviceRole, TopoDevice, Topology, TopoNamespace, TopoPod, TopoProcess } from './types.js';

/** Processes of a pod, from whoever runs it. */
export interface PodProcesses {
  /** `default/web-a` */
  readonly pod: string;
  readonly pause?: TopoProcess;
  readonly containers: readonly TopoProcess[];
}

export interface TopologyInput {
  readonly name: string;
  readonly world: World;
  readonly processes: readonly PodProcesses[];
  readonly mayTrace: boolean;
}

export const deviceId = (netns: string, dev: string): string => `${netns} ${dev}`;

export function topologyOf({ name, world, processes, mayTrace }: TopologyInput): Topology {
  const index = new WorldIndex(world);
  const byPod = new Map(processes.map((p) => [p.pod, p]));
  return {
    source: { kind: 'lab', name }, taken: world.taken,
    namespaces: world.namespaces.map((n) => namespaceOf(world, n)),
    pods: world.pods.map((p): TopoPod => {
      const id = `${p.namespace}/${p.name}`;
      const known = byPod.get(id);
      return {
        id, namespace: p.namespace, name: p.name, node: p.node, netns: p.netns, ips: p.ips,
        ...(known?.pause === undefined ? {} : { pause: known.pause }),
        containers: known?.containers ?? p.containers.map((c) => ({ ...c, namespaces: {} })),
      };
    }),
    devices: world.namespaces.flatMap((n) => devicesOf(index, n)),
    links: world.links.map((l) => {
      const [a, b] = [deviceId(l.a.netns, l.a.dev), deviceId(l.b.netns, l.b.dev)];
      return { id: `${a} ↔ ${b}`, a, b };
    }),
    unread: world.unread, mayTrace,
  };
}

function namespaceOf(world: World, n: WorldNamespace): TopoNamespace {
  const node = n.role === 'node' ? world.nodes.find((x) => x.netns === n.key) : undefined;
  return {
    id: n.key, role: n.role, ...(n.node === undefined ? {} : { node: n.node }), inode: `net:[${n.state.netns.id}]`,
    addresses: node?.addresses ?? n.state.addresses.filter((a) => a.scope === 'global').map((a) => a.address),
    podCIDRs: node?.podCIDRs ?? [], forwards: n.state.sysctls['net.ipv4.ip_forward'] === '1',
  };
}

function devicesOf(index: WorldIndex, n: WorldNamespace): TopoDevice[] {
  const roles = linkRoles(n.state);
  return n.state.links.map((l, i): TopoDevice => {
    const known = roles[i]!;
    const role = roleOf(index, n, l);
    return {
      id: deviceId(n.key, l.name), netns: n.key, name: l.name, ...(l.index === undefined ? {} : { index: l.index }), kind: l.kind, role,
      purpose: n.role === 'node' ? known.role : l.kind, ...(known.owner === undefined ? {} : { owner: known.owner }),
      state: !l.up ? 'down' : l.lowerUp === false ? 'no carrier' : 'up',
      ...(l.mtu === undefined ? {} : { mtu: l.mtu }), ...(l.address === undefined ? {} : { mac: l.address }),
      addresses: n.state.addresses.filter((a) => a.dev === l.name && a.scope !== 'link').map((a) => `${a.address}/${a.prefix}`),
      ...(l.master === undefined ? {} : { master: l.master }),
      ...(l.kind === 'veth' && l.peer ? { peerIndex: l.peer.index } : {}),
      ...(l.kind === 'veth' && !index.peer(n.key, l.name) && role !== 'uplink' ? { orphan: true as const } : {}),
      ...(known.unused === undefined ? {} : { unused: known.unused }),
    };
  });
}

/** The roles of capture points, and loopback. */
function roleOf(index: WorldIndex, n: WorldNamespace, l: Link): DeviceRole {
  if (l.kind === 'loopback') return 'loopback';
  return pointOf(index, n.key, l.name).role;
}
