/** What a lab looks like, for people: nodes, addresses, pods. Pure. */
import type { Node, Pod } from '@podway/kube';
import type { LabConfig } from './config.js';
import { apiAddress, CORE_NAME, routerName, type LabRack, type LabTunnel } from './racks.js';
import { INTERNET_ADDRESS, OUTSIDE_ADDRESS } from './underlay.js';

export interface MapNode {
  readonly name: string;
  readonly address: string;
  /** Of a lab with racks. */
  readonly rack?: string;
  readonly podCIDR: string;
  readonly ready: boolean;
  readonly pods: readonly { readonly name: string; readonly namespace: string; readonly address: string; readonly ready: boolean }[];
}

export interface LabMap {
  readonly lab: string;
  readonly backend: string;
  readonly wiring: string;
  readonly clusterCIDR: string;
  readonly mtu: number | undefined;
  readonly underlay: {
    readonly subnet: string; readonly router: string; readonly outside: string; readonly internet: string;
    readonly racks: readonly LabRack[]; readonly tunnels: readonly LabTunnel[];
  };
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
    underlay: {
      subnet: config.underlay.subnet, router: apiAddress(config), outside: OUTSIDE_ADDRESS, internet: INTERNET_ADDRESS,
      racks: config.underlay.racks, tunnels: config.underlay.tunnels,
    },
    nodes: [...nodes].sort((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? '', 'en', { numeric: true })).map((n) => ({
      name: n.metadata?.name ?? '',
      address: n.status?.addresses?.find((a) => a.type === 'InternalIP')?.address ?? '-',
      ...rackOf(config, n.metadata?.name),
      podCIDR: (n.spec?.podCIDRs?.length ? n.spec.podCIDRs : [n.spec?.podCIDR ?? '-']).join(','),
      ready: condition(n, 'Ready'),
      pods: pods.filter((p) => p.spec?.nodeName === n.metadata?.name).map((p) => ({
        name: p.metadata?.name ?? '', namespace: p.metadata?.namespace ?? '', address: p.status?.podIP ?? '-', ready: condition(p, 'Ready'),
      })),
    })),
  };
}

/** What a lab would be: its nodes as the file has them, nothing running. */
export const plannedMap = (config: LabConfig): LabMap => labMap(
  config,
  config.nodes.map((n): Node => ({
    metadata: { name: n.name }, spec: n.podCIDR === undefined ? {} : { podCIDR: n.podCIDR },
    status: { addresses: [{ type: 'InternalIP', address: n.address }], conditions: [{ type: 'Ready', status: 'True' }] },
  })),
  config.pods.map((p): Pod => ({
    metadata: { name: p.name, namespace: p.namespace ?? 'default' }, ...(p.node === undefined ? {} : { spec: { nodeName: p.node, containers: [] } }),
    status: { podIP: p.address ?? '', conditions: [{ type: 'Ready', status: 'True' }] },
  })),
);

/** A line a node, below its rack; long lists of pods are cut with their number. */
export function mapText(m: LabMap): string {
  const wide = (f: (n: MapNode) => string) => Math.max(...m.nodes.map((n) => f(n).length));
  const [name, address, cidr] = [wide((n) => n.name), wide((n) => n.address), wide((n) => n.podCIDR)];
  const shown = 4;
  const drawn = (nodes: readonly MapNode[], indent: string): string[] => nodes.map((n, i) => {
    const pods = n.pods.slice(0, shown).map((p) => `${p.name} ${p.address}${p.ready ? '' : ' (not ready)'}`).join('   ');
    const more = n.pods.length > shown ? `   and ${n.pods.length - shown} more` : '';
    const branch = i === nodes.length - 1 ? '└─' : '├─';
    return `  ${indent}${branch} ${n.name.padEnd(name)}  ${n.address.padEnd(address)}  pods ${n.podCIDR.padEnd(cidr)}  ${pods || '(no pods)'}${more}${n.ready ? '' : '   NOT READY'}`;
  });
  const { underlay: u } = m;
  const outside = `  outside ${u.outside} (also ${u.internet}) ── `;
  if (u.racks.length === 0) return [`${outside}router ${u.router} ── underlay ${u.subnet}`, ...drawn(m.nodes, '')].join('\n');
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
