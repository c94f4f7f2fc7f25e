/**
 * What this kernel has. A kind of link, qdisc or classifier that it lacks is known only by trying:
 * the probe makes one in a nameless namespace of its own, which goes away with all that is in it.
 *
 * The kernel answers EOPNOTSUPP ("Unknown device type") for links and ENOENT for qdiscs,
 * classifiers and generic netlink families, after it has tried to load the module.
 * Side effect of a successful probe on a kernel with modules: the module stays loaded.
 */
import { isPodwayError, PodwayError } from '@podway/errors';
import { Netns } from '../netns.js';
import { addRedirectRequest } from './filter.js';
import { createRequests, type LinkSpec } from './link.js';
import { addQdiscRequest, type QdiscSpec } from './qdisc.js';
import { NetlinkSocket, type Request } from './socket.js';

export type KernelPart = 'link' | 'qdisc' | 'filter' | 'genl';

/** Modules whose name is not the kind's, and the option that builds them. */
const MODULES: Readonly<Record<string, readonly [module: string, option: string]>> = {
  'link ip6tnl': ['ip6_tunnel', 'IPV6_TUNNEL'], 'link ipip': ['ipip', 'NET_IPIP'], 'link sit': ['sit', 'IPV6_SIT'], 'link vlan': ['8021q', 'VLAN_8021Q'],
  'link gre': ['ip_gre', 'NET_IPGRE'], 'link vrf': ['vrf', 'NET_VRF'], 'genl ethtool': ['ethtool', 'ETHTOOL_NETLINK'],
};
const PREFIX: Readonly<Record<KernelPart, readonly [module: string, option: string]>> = { link: ['', ''], qdisc: ['sch_', 'NET_SCH_'], filter: ['cls_', 'NET_CLS_'], genl: ['', ''] };
const WORD: Readonly<Record<KernelPart, string>> = { link: 'links of kind', qdisc: 'the qdisc', filter: 'the classifier', genl: 'the netlink family' };

const moduleOf = (part: KernelPart, kind: string): readonly [string, string] =>
  MODULES[`${part} ${kind}`] ?? [`${PREFIX[part][0]}${kind}`, `${PREFIX[part][1]}${kind.toUpperCase()}`];

/** KERNEL_LACKS, naming the module. `cause` is the refusal. */
export function kernelLacks(part: KernelPart, kind: string, cause?: PodwayError): PodwayError {
  const [module, option] = moduleOf(part, kind);
  return new PodwayError('KERNEL_LACKS', `this kernel lacks ${WORD[part]} ${kind}`, {
    object: `kernel module ${module}`,
    ...(cause === undefined ? {} : { cause }),
    ...(cause?.errno === undefined ? {} : { errno: cause.errno }),
    ...(cause?.said === undefined ? {} : { said: cause.said }),
    hint: `Load it with: modprobe ${module} - or run a kernel built with CONFIG_${option}.`,
  });
}

/** Turns the refusal of a creation into KERNEL_LACKS where that is its meaning; any other error comes back as it is. */
export function explainRefusal(e: PodwayError, part: KernelPart, kind: string): PodwayError {
  const lacking = part === 'link' ? e.errno === 'EOPNOTSUPP' : e.errno === 'ENOENT';
  return lacking && e.code === 'NETLINK_REFUSED' ? kernelLacks(part, kind, e) : e;
}

const LO = 1;
/** The least with which the kernel makes one; the rest of the kinds need nothing. */
const LINKS: Readonly<Record<string, LinkSpec>> = {
  veth: { kind: 'veth', name: 'probe', peer: { name: 'probe2' } },
  vxlan: { kind: 'vxlan', name: 'probe', vxlan: { id: 1, port: 8472 } },
  ipip: { kind: 'ipip', name: 'probe', tunnel: { local: '127.0.0.1', remote: '127.0.0.2' } },
};

function probeRequest(part: Exclude<KernelPart, 'genl'>, kind: string): Request[] {
  if (part === 'link') {
    const needsLower = kind === 'macvlan' || kind === 'vlan' || kind === 'ipvlan';
    // A lower device of number 1, the loopback, is refused by those kinds, but by the kind, not for want of it.
    return needsLower ? createRequests({ kind: 'macvlan', name: 'probe', link: LO, mode: 'bridge', ...({ kind } as object) }) : createRequests(LINKS[kind] ?? ({ kind, name: 'probe' } as LinkSpec));
  }
  if (part === 'filter') return [addQdiscRequest({ index: LO, kind: 'ingress' }), addRedirectRequest({ index: LO, to: LO, kind: kind as 'u32' })];
  const spec: QdiscSpec = kind === 'tbf' ? { index: LO, kind, tbf: { rate: 125_000, burst: 2000, limit: 4000 } } : { index: LO, kind: kind as 'fq_codel' };
  return [addQdiscRequest(spec)];
}

/**
 * True when the kernel knows the kind. What is asked is the kernel, not a namespace: the trial has one of its own.
 * @throws NETLINK_REFUSED, SYSCALL_FAILED (EPERM) without the rights to try.
 */
export function kernelHas(part: Exclude<KernelPart, 'genl'>, kind: string): boolean {
  const ns = Netns.createNameless('probe netns');
  try {
    const socket = NetlinkSocket.open(ns);
    try {
      const refusals = socket.batch(probeRequest(part, kind));
      const last = refusals.at(-1)?.error;
      if (last?.errno === 'EPERM') throw last;
      return last === undefined || !isPodwayError(explainRefusal(last, part, kind), 'KERNEL_LACKS');
    } finally {
      socket.close();
    }
  } finally {
    ns.close();
  }
}
