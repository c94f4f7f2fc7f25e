/**
 * What each device of a node is for, and whose it is: names and kinds that the known pod networks
 * use, and our own mark. Pure. Where nothing is known, the role says just what the device is.
 */
import { ALIAS_PREFIX } from './ownership.js';
import type { Link, NetnsState } from './types.js';

export interface LinkRole {
  readonly name: string;
  /** `loopback`, `uplink`, `pod bridge`, `VTEP`, `host end of a pod's veth` … */
  readonly role: string;
  /** `podway`, `flannel`, `calico`, `cilium`, `docker`, `kube-proxy` …; undefined: the machine's own or unknown. */
  readonly owner?: string;
  /** Why it looks unused, in words. */
  readonly unused?: string;
}

interface Known {
  readonly name: RegExp;
  readonly kind?: string;
  readonly role: string;
  readonly owner: string;
}

/** First match wins. Sources: the projects' documentation of their interfaces. */
const KNOWN: readonly Known[] = [
  { name: /^flannel\.\d+$/, kind: 'vxlan', role: 'VTEP', owner: 'flannel' },
  { name: /^flannel-(v6\.)?\w+$/, role: 'tunnel between nodes', owner: 'flannel' },
  { name: /^vxlan(-v6)?\.calico$/, kind: 'vxlan', role: 'VTEP', owner: 'calico' },
  { name: /^tunl0$/, role: 'IPIP tunnel between nodes', owner: 'calico' },
  { name: /^wireguard\.cali$/, role: 'WireGuard tunnel between nodes', owner: 'calico' },
  { name: /^cali[0-9a-f]{11}$/, kind: 'veth', role: "host end of a pod's veth", owner: 'calico' },
  { name: /^cilium_host$/, role: "host side of Cilium's own veth", owner: 'cilium' },
  { name: /^cilium_net$/, role: "inner side of Cilium's own veth", owner: 'cilium' },
  { name: /^cilium_(vxlan|geneve)$/, role: 'VTEP', owner: 'cilium' },
  { name: /^lxc[0-9a-f]+$/, kind: 'veth', role: "host end of a pod's veth", owner: 'cilium' },
  { name: /^lxc_health$/, role: "host end of Cilium's health endpoint", owner: 'cilium' },
  { name: /^(weave|datapath)$/, role: 'pod bridge', owner: 'weave' },
  { name: /^vethwe/, role: "port of Weave's bridge", owner: 'weave' },
  { name: /^antrea-gw0$/, role: 'gateway of pods', owner: 'antrea' },
  { name: /^antrea-tun0$/, role: 'tunnel between nodes', owner: 'antrea' },
  { name: /^kube-bridge$/, kind: 'bridge', role: 'pod bridge', owner: 'kube-router' },
  { name: /^kube-ipvs0$/, role: 'carries the Service addresses (IPVS)', owner: 'kube-proxy' },
  { name: /^nodelocaldns$/, role: 'address of the node-local DNS cache', owner: 'node-local-dns' },
  { name: /^docker0$/, kind: 'bridge', role: "Docker's default bridge", owner: 'docker' },
  { name: /^br-[0-9a-f]{12}$/, kind: 'bridge', role: "bridge of a Docker network", owner: 'docker' },
  { name: /^cni0$/, kind: 'bridge', role: 'pod bridge', owner: 'cni' },
  { name: /^virbr\d+$/, kind: 'bridge', role: 'bridge of virtual machines', owner: 'libvirt' },
];

const BY_KIND: Readonly<Record<string, string>> = {
  loopback: 'loopback', bridge: 'bridge', vxlan: 'VTEP', veth: 'veth', dummy: 'dummy', ifb: 'shapes incoming traffic (ifb)', macvlan: 'macvlan',
  ipip: 'IPIP tunnel', wireguard: 'WireGuard tunnel', tun: 'tun/tap', device: 'network card',
};

/** In the order of the state's links. */
export function linkRoles(state: NetnsState): LinkRole[] {
  const uplinks = new Set(state.routes.filter((r) => r.table === 254 && /\/0$/.test(r.dst) && r.dev !== undefined).map((r) => r.dev));
  return state.links.map((link) => {
    const role = roleOf(link, uplinks);
    const unused = unusedReason(link, state);
    return { name: link.name, ...role, ...(unused === undefined ? {} : { unused }) };
  });
}

function roleOf(link: Link, uplinks: ReadonlySet<string | undefined>): { role: string; owner?: string } {
  const alias = link.alias?.startsWith(ALIAS_PREFIX) ? link.alias.slice(ALIAS_PREFIX.length).trim() : undefined;
  if (alias !== undefined) {
    const role = link.kind === 'veth' ? `host end of ${alias}` : alias;
    return { role, owner: 'podway' };
  }
  const known = KNOWN.find((k) => k.name.test(link.name) && (k.kind === undefined || k.kind === link.kind));
  if (known) return { role: known.role, owner: known.owner };
  if (uplinks.has(link.name)) return { role: 'uplink' };
  if (link.kind === 'veth' && link.master !== undefined) return { role: `veth, port of ${link.master}` };
  return { role: BY_KIND[link.kind] ?? link.kind };
}

/** A bridge without ports that carries an address is what an uninstalled network leaves behind. */
function unusedReason(link: Link, state: NetnsState): string | undefined {
  if (link.kind !== 'bridge' || link.alias?.startsWith(ALIAS_PREFIX)) return undefined;
  return state.links.some((l) => l.master === link.name) ? undefined : 'no ports';
}
