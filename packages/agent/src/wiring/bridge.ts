/**
 * Bridge wiring: a veth pair, one end in the pod, the other a port of the node's bridge.
 *
 * Both ends are made at once, the pod's end directly in the pod's namespace (no device is ever
 * moved), named, addressed and marked in the same system call; the pod's side is then configured
 * by one batch. About 1 ms in all. Which state to expect:
 *
 *   node   veth1a2b3c4d   port of cni0, no address, alias `podway: pod NS/NAME eth0 …`
 *   pod    eth0           MAC from the address, ADDRESS/24; default via .1, the cluster via .1
 */
import { createHash } from 'node:crypto';
import { CniError, parseIpCidr, type CniResult } from '@podway/cni';
import {
  addAddrRequest, addRouteRequest, checkIfname, createRequests, setRequest, sysctlDevice, writeSysctl, type LinkInfo, type LinkRemover, type Netns, type Request, type RtNetlink,
  RtNetlink as Rt,
} from '@podway/kernel';
import { ALIAS_PREFIX, mergeStates, type Link, type NetnsState } from '@podway/netstate';
import type { NetworkConfig } from '../config.js';
import type { AttachmentKey, AttachmentRecord } from '../ipam/index.js';
import { holderName } from '../ipam/index.js';
import { quietIpv6 } from '../backends/routes.js';
import { broadcastOf, familyOf } from '../node/addresses.js';

const TABLE_MAIN = 254;
const LOOPBACK_INDEX = 1;

/** The host end's name: 11 hex digits of a hash, so that it is known before and after it exists. */
export function hostIfname(key: AttachmentKey): string {
  const hash = createHash('sha256').update(`${key.containerId}/${key.ifname}`).digest('hex');
  return checkIfname(`veth${hash.slice(0, 11)}`);
}

/** Locally administered, from the same hash: known without asking the kernel what it chose. */
export function hostMac(key: AttachmentKey): string {
  const hash = createHash('sha256').update(`${key.containerId}/${key.ifname}`).digest('hex');
  return `02:${hash.slice(22, 32).match(/../g)!.join(':')}`;
}

const aliasOf = (r: AttachmentRecord): string => `${ALIAS_PREFIX} ${holderName(r)} ${r.ifname} (${r.containerId.slice(0, 13)})`.slice(0, 255);

/** The host end as it must be. */
export const hostLink = (config: NetworkConfig, r: AttachmentRecord, mtu: number): Link => ({
  name: r.hostIfname, kind: 'veth', up: true, mtu, master: config.bridge, alias: aliasOf(r), why: `host end of ${holderName(r)}`,
  // A pod that asks its own host port: where bridged packets are translated too (br_netfilter), the frame leaves by the port it came in by.
  ...(r.hostPorts?.length ? { port: { hairpin: true } } : {}),
});

/** The pod's side as it must be: what ADD makes, CHECK compares with, and a restart takes over. */
export function podState(config: NetworkConfig, r: AttachmentRecord, mtu: number): NetnsState {
  const dev = r.ifname;
  return mergeStates(holderName(r), {
    links: [{ name: dev, kind: 'veth', up: true, mtu, address: r.mac }],
    addresses: r.ips.map((i) => {
      const { ip, cidr } = parseIpCidr(i.address);
      const [address = ''] = i.address.split('/');
      return { dev, family: ip.family === 4 ? 'inet' : 'inet6', address, prefix: cidr.prefix, ...(ip.family === 4 ? { broadcast: broadcastOf(i.address) } : {}) };
    }),
    routes: r.ips.flatMap((i) => {
      const family = familyOf(i.address);
      const cluster = config.clusterCidrs.find((c) => familyOf(c) === family);
      const metric = family === 'inet6' ? 1024 : 0;
      const common = { family, gateway: i.gateway, dev, type: 'unicast', table: TABLE_MAIN, protocol: 3, metric } as const;
      return [
        { ...common, dst: family === 'inet' ? '0.0.0.0/0' : '::/0' },
        ...(cluster === undefined ? [] : [{ ...common, dst: cluster }]),
      ];
    }),
  });
}

export interface WiringContext {
  readonly config: NetworkConfig;
  readonly mtu: number;
  readonly node: Netns;
  /** The node's own socket, kept open by the agent. */
  readonly netlink: RtNetlink;
}

/**
 * Makes both ends and configures the pod's side.
 * @throws CniError 103 when the interface name is taken in the pod, or the host end's on the node. On any error, `unwire` takes back what was made.
 */
export function wire(c: WiringContext, pod: Netns, r: AttachmentRecord, bridge: LinkInfo): void {
  const podNl = Rt.open(pod);
  try {
    // Looked at first: in a batch the requests behind a refused creation would be carried out on somebody else's device.
    if (c.netlink.link(r.hostIfname)) {
      throw new CniError('INTERFACE_EXISTS', `there is already a device ${r.hostIfname} on the node, and it is not Podway's`, {
        object: r.hostIfname, hint: `Remove it: ip link delete ${r.hostIfname}`,
      });
    }
    const [refused] = c.netlink.batch([
      ...createRequests({
        kind: 'veth', name: r.hostIfname, mtu: c.mtu, master: bridge.index, address: hostMac(r), alias: aliasOf(r),
        peer: { name: r.ifname, netnsFd: pod.fd, address: r.mac, mtu: c.mtu },
      }),
      setRequest(r.hostIfname, { up: true }),
    ]);
    if (refused) throw podNl.link(r.ifname) ? taken(r) : refused.error;
    const inside = podNl.mustLink(r.ifname);
    if (r.ips.some((i) => familyOf(i.address) === 'inet6')) settleIpv6(pod, r.ifname);
    must(podNl.batch([setRequest(LOOPBACK_INDEX, { up: true }, 'lo'), setRequest(inside.index, { up: true }, r.ifname), ...podRequests(c, r, inside.index)]));
  } finally {
    podNl.close();
  }
}

/** Before the device is up. Some runtimes make sandboxes without IPv6; who is given an address of it has it. */
function settleIpv6(pod: Netns, ifname: string): void {
  const dev = sysctlDevice(ifname);
  for (const [key, value] of [[`net.ipv6.conf.${dev}.disable_ipv6`, '0'] as const, ...quietIpv6(dev)]) writeSysctl(pod, key, value);
}

const taken = (r: AttachmentRecord): CniError =>
  new CniError('INTERFACE_EXISTS', `there is already an interface ${r.ifname} in the container`, {
    object: `${r.ifname} in ${r.netns}`, hint: 'Ask for another CNI_IFNAME, or DEL the attachment that made it.',
  });

function podRequests(c: WiringContext, r: AttachmentRecord, index: number): Request[] {
  const want = podState(c.config, r, c.mtu);
  return [
    ...want.addresses.map((a) => addAddrRequest({ index, address: a.address, prefix: a.prefix, ...(a.broadcast === undefined ? {} : { broadcast: a.broadcast }) })),
    ...want.routes.map((w) => addRouteRequest({ dst: w.dst, index, ...(w.gateway === undefined ? {} : { gateway: w.gateway }) })),
  ];
}

/** Removes the host end, and with it the pod's, and other devices of the attachment. Absent is success; a link that is not ours is left alone. */
export async function unwire(netlink: RtNetlink, remover: LinkRemover, names: readonly string[]): Promise<boolean> {
  const ours = names.flatMap((name) => {
    const link = name === '' ? undefined : netlink.link(name);
    return link?.alias?.startsWith(ALIAS_PREFIX) ? [{ index: link.index, name }] : [];
  });
  return (await remover.removeAll(ours)).includes(true);
}

function must(refusals: readonly { error: Error }[]): void {
  const first = refusals[0];
  if (first) throw first.error;
}

/** What ADD answers, known before it is made: bridge, host end, pod end; addresses belong to the pod end. */
export function resultOf(config: NetworkConfig, r: AttachmentRecord, bridge: LinkInfo, mtu: number): CniResult {
  const gateways = r.ips.map((i) => i.gateway);
  return {
    interfaces: [
      { name: bridge.name, ...(bridge.address === undefined ? {} : { mac: bridge.address }) },
      { name: r.hostIfname, mac: hostMac(r), mtu },
      { name: r.ifname, mac: r.mac, mtu, sandbox: r.netns },
    ],
    ips: r.ips.map((i) => ({ address: i.address, gateway: i.gateway, interface: 2 })),
    routes: gateways.flatMap((gw) => {
      const cluster = config.clusterCidrs.find((c) => familyOf(c) === familyOf(gw));
      return [{ dst: familyOf(gw) === 'inet' ? '0.0.0.0/0' : '::/0', gw }, ...(cluster === undefined ? [] : [{ dst: cluster, gw }])];
    }),
  };
}
