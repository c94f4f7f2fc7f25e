/** What a lab looks like, for people: nodes, addresses, pods. Pure. */
import { podCidrsOf, type Node, type Pod } from '@podway/kube';
import { clusterRanges, type LabConfig } from './config.js';
import { outsideAddresses } from './underlay.js';

export interface MapNode {
  readonly name: string;
  readonly address: string;
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
  readonly clusterCIDR: string;
  readonly clusterCIDRs: readonly string[];
  readonly mtu: number | undefined;
  readonly underlay: { readonly subnet: string; readonly router: string; readonly outside: string; readonly internet: string };
  /** The underlay in the lab's second family. */
  readonly second?: LabMap['underlay'];
  readonly nodes: readonly MapNode[];
}

const condition = (o: Node | Pod, type: string): boolean =>
  (o.status?.conditions as readonly { type: string; status: string }[] | undefined)?.some((c) => c.type === type && c.status === 'True') ?? false;

export function labMap(config: LabConfig, nodes: readonly Node[], pods: readonly Pod[]): LabMap {
  return {
    lab: config.name, backend: config.network.backend.type, clusterCIDR: config.network.clusterCIDR, mtu: config.network.mtu,
    clusterCIDRs: clusterRanges(config).map((r) => r.cidr),
    underlay: { subnet: config.underlay.subnet, router: config.underlay.gateway, ...outsideAddresses(config)[0]! },
    ...(config.second ? { second: { subnet: config.second.subnet, router: config.second.gateway, ...outsideAddresses(config)[1]! } } : {}),
    nodes: [...nodes].sort((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? '', 'en', { numeric: true })).map((n) => ({
      name: n.metadata?.name ?? '',
      address: n.status?.addresses?.find((a) => a.type === 'InternalIP')?.address ?? '-',
      podCIDR: n.spec?.podCIDR ?? '-',
      addresses: n.status?.addresses?.filter((a) => a.type === 'InternalIP').map((a) => a.address) ?? [],
      podCIDRs: podCidrsOf(n),
      ready: condition(n, 'Ready'),
      pods: pods.filter((p) => p.spec?.nodeName === n.metadata?.name).map((p) => ({
        name: p.metadata?.name ?? '', namespace: p.metadata?.namespace ?? '', address: p.status?.podIP ?? '-', addresses: p.status?.podIPs?.map((i) => i.ip ?? '') ?? [], ready: condition(p, 'Ready'),
      })),
    })),
  };
}

/** Two lines a node at most; long lists of pods are cut with their number. */
export function mapText(m: LabMap): string {
  const wide = (f: (n: MapNode) => string) => Math.max(...m.nodes.map((n) => f(n).length));
  const [address, cidr] = [(n: MapNode) => n.addresses.join(' ') || '-', (n: MapNode) => n.podCIDRs.join(' ') || '-'];
  const name = wide((n) => n.name);
  const shown = 4;
  const lines = m.nodes.map((n, i) => {
    const pods = n.pods.slice(0, shown).map((p) => `${p.name} ${p.addresses.join(' ') || '-'}${p.ready ? '' : ' (not ready)'}`).join('   ');
    const more = n.pods.length > shown ? `   and ${n.pods.length - shown} more` : '';
    const branch = i === m.nodes.length - 1 ? '└─' : '├─';
    return `  ${branch} ${n.name.padEnd(name)}  ${address(n).padEnd(wide(address))}  pods ${cidr(n).padEnd(wide(cidr))}  ${pods || '(no pods)'}${more}${n.ready ? '' : '   NOT READY'}`;
  });
  return [
    ...[m.underlay, ...(m.second ? [m.second] : [])].map((u) => `  outside ${u.outside} (also ${u.internet}) ── router ${u.router} ── underlay ${u.subnet}`),
    ...lines,
  ].join('\n');
}
