/** What a lab looks like, for people: nodes, addresses, pods. Pure. */
import { podCidrsOf, type Node, type Pod } from '@podway/kube';
import { clusterRanges, nodeAddresses, type LabConfig } from './config.js';
import { apiAddress, CORE_NAME, routerName, type LabRack, type LabTunnel } from './racks.js';
import { outsideAddresses } from './underlay.js';

export interface MapNode {
  readonly name: string;
  readonly address: string;
  /** Of a lab with racks. */
  readonly rack?: string;
  readonly podCIDR: string;
  /** One a family, the first first. */
  readonly addresses: readonly string[];
  readonly podCIDRs: readonly string[];
  readonly ready: boolean;
  readonly pods: readonly { readonly name: string; readonly namespace: string; readonly address: string; readonly addresses: readonly string[]; readonly ready: boolean }[];
}

export interface LabMap {
  readonly lab: string;
  readonly backend: string;
  readonly wiring: string;
  readonly clusterCIDR: string;
  readonly clusterCIDRs: readonly string[];
  readonly mtu: number | undefined;
  readonly underlay: {
    readonly subnet: string; readonly router: string; readonly outside: string; readonly internet: string;
    readonly racks: readonly LabRack[]; readonly tunnels: readonly LabTunnel[];
  };
  /** The underlay in the lab's second family. */
  readonly second?: { readonly subnet: string; readonly router: string; readonly outside: string; readonly internet: string };
  readonly nodes: readonly MapNode[];
}

const condition = (o: Node | Pod, type: string): boolean =>
  (o.status?.conditions as readonly { type: string; status: string }[] | undefined)?.some((c) => c.type === type && c.status === 'True') ?? false;

const rackOf = (config: LabConfig, node: string | undefined): { rack?: string } => {
  const rack = config.nodes.find((n) => n.name === node)?.rack;
  return rack === undefined ? {} : { rack };
};

export function labMap(config: LabConfig, nodes: readonly Node[], pods: readonly Pod[]): LabMap {
  return {
    lab: config.name, backend: config.network.backend.type, wiring: config.network.wiring, clusterCIDR: config.network.clusterCIDR, mtu: config.network.mtu,
    clusterCIDRs: clusterRanges(config).map((r) => r.cidr),
    underlay: {
      subnet: config.underlay.subnet, router: apiAddress(config), ...outsideAddresses(config)[0]!,
      racks: config.underlay.racks, tunnels: config.underlay.tunnels,
    },
    ...(config.second ? { second: { subnet: config.second.subnet, router: config.second.gateway, ...outsideAddresses(config)[1]! } } : {}),
    nodes: [...nodes].sort((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? '', 'en', { numeric: true })).map((n) => ({
      name: n.metadata?.name ?? '',
      address: n.status?.addresses?.find((a) => a.type === 'InternalIP')?.address ?? '-',
      ...rackOf(config, n.metadata?.name),
      podCIDR: podCidrsOf(n).join(',') || '-',
      addresses: n.status?.addresses?.filter((a) => a.type === 'InternalIP').map((a) => a.address) ?? [],
      podCIDRs: podCidrsOf(n),
      ready: condition(n, 'Ready'),
      pods: pods.filter((p) => p.spec?.nodeName === n.metadata?.name).map((p) => ({
        name: p.metadata?.name ?? '', namespace: p.metadata?.namespace ?? '', address: p.status?.podIP ?? '-', addresses: p.status?.podIPs?.map((i) => i.ip ?? '') ?? [], ready: condition(p, 'Ready'),
      })),
    })),
  };
}

/** What a lab would be: its nodes as the file has them, nothing running. */
export const plannedMap = (config: LabConfig): LabMap => labMap(
  config,
  config.nodes.map((n): Node => ({
    metadata: { name: n.name }, spec: n.podCIDR === undefined ? {} : { podCIDR: n.podCIDR },
    status: { addresses: nodeAddresses(n).map((address) => ({ type: 'InternalIP', address })), conditions: [{ type: 'Ready', status: 'True' }] },
  })),
  config.pods.map((p): Pod => ({
    metadata: { name: p.name, namespace: p.namespace ?? 'default' }, ...(p.node === undefined ? {} : { spec: { nodeName: p.node, containers: [] } }),
    status: { podIP: p.address?.[0] ?? '', podIPs: (p.address ?? []).map((ip) => ({ ip })), conditions: [{ type: 'Ready', status: 'True' }] },
  })),
);

/** A line a node, below its rack; long lists of pods are cut with their number. */
export function mapText(m: LabMap): string {
  const wide = (f: (n: MapNode) => string) => Math.max(...m.nodes.map((n) => f(n).length));
  const [address, cidr] = [(n: MapNode) => n.addresses.join(' ') || '-', (n: MapNode) => n.podCIDRs.join(' ') || '-'];
  const name = wide((n) => n.name);
  const shown = 4;
  const drawn = (nodes: readonly MapNode[], indent: string): string[] => nodes.map((n, i) => {
    const pods = n.pods.slice(0, shown).map((p) => `${p.name} ${p.addresses.join(' ') || '-'}${p.ready ? '' : ' (not ready)'}`).join('   ');
    const more = n.pods.length > shown ? `   and ${n.pods.length - shown} more` : '';
    const branch = i === nodes.length - 1 ? '└─' : '├─';
    return `  ${indent}${branch} ${n.name.padEnd(name)}  ${address(n).padEnd(wide(address))}  pods ${cidr(n).padEnd(wide(cidr))}  ${pods || '(no pods)'}${more}${n.ready ? '' : '   NOT READY'}`;
  });
  const { underlay: u } = m;
  const outside = `  outside ${u.outside} (also ${u.internet}) ── `;
  if (u.racks.length === 0) {
    return [...[u, ...(m.second ? [m.second] : [])].map((x) => `  outside ${x.outside} (also ${x.internet}) ── router ${x.router} ── underlay ${x.subnet}`), ...drawn(m.nodes, '')].join('\n');
  }
  const last = u.racks.length - 1;
  return [
    `${outside}${CORE_NAME} ${u.router}`,
    ...u.racks.flatMap((r, i) => [
      `  ${i === last ? '└─' : '├─'} rack ${r.name}  ${r.subnet}  ${routerName(r.name)} ${r.gateway}${r.asn === undefined ? '' : `  AS ${r.asn}`}${mtusOf(r)}`,
      ...drawn(m.nodes.filter((n) => n.rack === r.name), i === last ? '   ' : '│  '),
    ]),
    ...u.tunnels.map((t) => `  ${routerName(t.between[0])} ══ tunnel, MTU ${t.link.mtu} ══ ${routerName(t.between[1])}`),
  ].join('\n');
}

/** What is particular; nothing where all have the same. */
function mtusOf(r: LabRack): string {
  const said = [
    r.mtu === 1500 ? '' : `MTU ${r.mtu}`, r.switchMTU === r.mtu ? '' : `its switch passes ${r.switchMTU}`, r.link.mtu === r.mtu ? '' : `MTU ${r.link.mtu} to the core`,
  ].filter(Boolean);
  return said.length ? `  ${said.join(', ')}` : '';
}
