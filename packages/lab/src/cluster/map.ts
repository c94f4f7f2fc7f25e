/** What a lab looks like, for people: nodes, addresses, pods. Pure. */
import type { Node, Pod } from '@podway/kube';
import type { LabConfig } from './config.js';
import { INTERNET_ADDRESS, OUTSIDE_ADDRESS } from './underlay.js';

export interface MapNode {
  readonly name: string;
  readonly address: string;
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
  readonly underlay: { readonly subnet: string; readonly router: string; readonly outside: string; readonly internet: string };
  readonly nodes: readonly MapNode[];
}

const condition = (o: Node | Pod, type: string): boolean =>
  (o.status?.conditions as readonly { type: string; status: string }[] | undefined)?.some((c) => c.type === type && c.status === 'True') ?? false;

export function labMap(config: LabConfig, nodes: readonly Node[], pods: readonly Pod[]): LabMap {
  return {
    lab: config.name, backend: config.network.backend.type, wiring: config.network.wiring, clusterCIDR: config.network.clusterCIDR, mtu: config.network.mtu,
    underlay: { subnet: config.underlay.subnet, router: config.underlay.gateway, outside: OUTSIDE_ADDRESS, internet: INTERNET_ADDRESS },
    nodes: [...nodes].sort((a, b) => (a.metadata?.name ?? '').localeCompare(b.metadata?.name ?? '', 'en', { numeric: true })).map((n) => ({
      name: n.metadata?.name ?? '',
      address: n.status?.addresses?.find((a) => a.type === 'InternalIP')?.address ?? '-',
      podCIDR: (n.spec?.podCIDRs?.length ? n.spec.podCIDRs : [n.spec?.podCIDR ?? '-']).join(','),
      ready: condition(n, 'Ready'),
      pods: pods.filter((p) => p.spec?.nodeName === n.metadata?.name).map((p) => ({
        name: p.metadata?.name ?? '', namespace: p.metadata?.namespace ?? '', address: p.status?.podIP ?? '-', ready: condition(p, 'Ready'),
      })),
    })),
  };
}

/** Two lines a node at most; long lists of pods are cut with their number. */
export function mapText(m: LabMap): string {
  const wide = (f: (n: MapNode) => string) => Math.max(...m.nodes.map((n) => f(n).length));
  const [name, address, cidr] = [wide((n) => n.name), wide((n) => n.address), wide((n) => n.podCIDR)];
  const shown = 4;
  const lines = m.nodes.map((n, i) => {
    const pods = n.pods.slice(0, shown).map((p) => `${p.name} ${p.address}${p.ready ? '' : ' (not ready)'}`).join('   ');
    const more = n.pods.length > shown ? `   and ${n.pods.length - shown} more` : '';
    const branch = i === m.nodes.length - 1 ? '└─' : '├─';
    return `  ${branch} ${n.name.padEnd(name)}  ${n.address.padEnd(address)}  pods ${n.podCIDR.padEnd(cidr)}  ${pods || '(no pods)'}${more}${n.ready ? '' : '   NOT READY'}`;
  });
  return [
    `  outside ${m.underlay.outside} (also ${m.underlay.internet}) ── router ${m.underlay.router} ── underlay ${m.underlay.subnet}`,
    ...lines,
  ].join('\n');
}
