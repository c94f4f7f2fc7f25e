/**
 * What all wirings with a veth pair have in common: names, the pair itself, the pod's side.
 *
 * Both ends are made at once, the pod's end directly in the pod's namespace (no device is ever moved), named,
 * addressed and marked in the same system call; the pod's side is then configured by one batch.
 */
import { createHash } from 'node:crypto';
import { CniError, formatCidr, parseCidr } from '@podway/cni';
import {
  addAddrRequest, addRouteRequest, addRuleRequest, checkIfname, createRequests, deleteRuleRequest, PROTOCOL, RtNetlink, setRequest, sysctlDevice, TABLE_MAIN, writeSysctl,
  type LinkRemover, type Netns, type Request,
} from '@podway/kernel';
import { ALIAS_PREFIX, type Address, type Link, type NetnsState, type Route, type Rule } from '@podway/netstate';
import { quietIpv6 } from '../backends/routes.js';
import { holderName, type AttachmentIp, type AttachmentKey, type AttachmentRecord } from '../ipam/index.js';
import { broadcastOf, familyOf } from '../node/addresses.js';
import type { WiringContext } from './wiring.js';

const LOOPBACK_INDEX = 1;

const hashOf = (key: AttachmentKey): string => createHash('sha256').update(`${key.containerId}/${key.ifname}`).digest('hex');

/** The host end's name: 11 hex digits of a hash, so that it is known before and after it exists. */
export const hostIfname = (key: AttachmentKey): string => checkIfname(`veth${hashOf(key).slice(0, 11)}`);

/** Locally administered, from the same hash: known without asking the kernel what it chose. */
export const hostMac = (key: AttachmentKey): string => `02:${hashOf(key).slice(22, 32).match(/../g)!.join(':')}`;

const aliasOf = (r: AttachmentRecord): string => `${ALIAS_PREFIX} ${holderName(r)} ${r.ifname} (${r.containerId.slice(0, 13)})`.slice(0, 255);

/** The host end as it must be, whatever it is a port of. */
export const hostEnd = (r: AttachmentRecord, mtu: number, more: Partial<Link> = {}): Link => ({
  name: r.hostIfname, kind: 'veth', up: true, mtu, ...more, alias: aliasOf(r), why: `host end of ${holderName(r)}`,
});

/**
 * Tables of further interfaces of a pod: the first keeps the main table, each other one answers by itself for
 * packets that bear its address, and no packet leaves by it that was not sent from it.
 */
const FURTHER_TABLE = 1000;
const FURTHER_PRIORITY = 1000;

/** The pod's side with these addresses and, on a first interface, these routes. */
export function podSide(r: AttachmentRecord, mtu: number, addresses: readonly Address[], routes: readonly Route[]): Partial<NetnsState> {
  const links: Link[] = [{ name: r.ifname, kind: 'veth', up: true, mtu, address: r.mac }];
  if (r.further === undefined) return { links, addresses, routes };
  const table = FURTHER_TABLE + r.further;
  return {
    links,
    addresses: addresses.map((a) => ({ ...a, flags: ['noprefixroute'] })),
    routes: [...addresses.flatMap((a) => connected(a, table)), ...routes.map((route) => ({ ...route, table }))],
    rules: addresses.map((a): Rule => ({
      family: a.family, priority: FURTHER_PRIORITY + r.further!, action: 'lookup', table, src: `${a.address}/${a.family === 'inet' ? 32 : 128}`,
      protocol: PROTOCOL.podway, why: `what is sent from ${r.ifname} leaves by it`,
    })),
  };
}

/** The route that the kernel would have made in the main table. */
function connected(a: Address, table: number): Route[] {
  if (a.prefix === (a.family === 'inet' ? 32 : 128) || a.flags?.includes('noprefixroute')) return [];
  return [{ ...podRoute(a.dev, subnetOf(`${a.address}/${a.prefix}`), a.family), table }];
}

/** A route as `ip` makes it when it is told nothing more. */
export const podRoute = (dev: string, dst: string, family: 'inet' | 'inet6'): Route => ({
  family, dst, dev, type: 'unicast', table: TABLE_MAIN, protocol: PROTOCOL.boot, metric: family === 'inet6' ? 1024 : 0,
});

export const defaultOf = (family: 'inet' | 'inet6'): string => (family === 'inet' ? '0.0.0.0/0' : '::/0');

/** An address of the pod, in the subnet it is given with. */
export function podAddress(dev: string, i: AttachmentIp): Address {
  const family = familyOf(i.address);
  return { dev, family, address: bare(i.address), prefix: parseCidr(i.address).prefix, ...(family === 'inet' ? { broadcast: broadcastOf(i.address) } : {}) };
}

export const subnetOf = (address: string): string => formatCidr(parseCidr(address));
export const bare = (address: string): string => address.split('/')[0] ?? '';

/**
 * The pair, host end up, and the pod's side as `want` says.
 * @param host what the host end is: a port of a bridge, or by itself with sysctls of its own, which are in force before it is up
 */
export function makePair(c: WiringContext, pod: Netns, r: AttachmentRecord, want: NetnsState, host: { readonly master: number } | { readonly sysctls: NetnsState['sysctls'] }): void {
  const podNl = RtNetlink.open(pod);
  try {
    // Looked at first: in a batch the requests behind a refused creation would be carried out on somebody else's device.
    if (c.netlink.link(r.hostIfname)) {
      throw new CniError('INTERFACE_EXISTS', `there is already a device ${r.hostIfname} on the node, and it is not Podway's`, {
        object: r.hostIfname, hint: `Remove it: ip link delete ${r.hostIfname}`,
      });
    }
    const up = setRequest(r.hostIfname, { up: true });
    const [refused] = c.netlink.batch([
      ...createRequests({
        kind: 'veth', name: r.hostIfname, mtu: c.mtu, ...('master' in host ? { master: host.master } : {}), address: hostMac(r), alias: aliasOf(r),
        peer: { name: r.ifname, netnsFd: pod.fd, address: r.mac, mtu: c.mtu },
      }),
      ...('master' in host ? [up] : []),
    ]);
    if (refused) throw podNl.link(r.ifname) ? taken(r) : refused.error;
    if ('sysctls' in host) {
      for (const [key, value] of Object.entries(host.sysctls)) writeSysctl(c.node, key, value);
      c.netlink.send(up);
    }
    const inside = podNl.mustLink(r.ifname);
    if (r.ips.some((i) => familyOf(i.address) === 'inet6')) settleIpv6(pod, r.ifname);
    must(podNl.batch([setRequest(LOOPBACK_INDEX, { up: true }, 'lo'), setRequest(inside.index, { up: true }, r.ifname), ...requests(want, inside.index)]));
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

/** The requests that make the addresses, routes and rules of a state whose only device has this index. */
export function requests(want: Partial<Pick<NetnsState, 'addresses' | 'routes' | 'rules'>>, index: number): Request[] {
  return [
    ...(want.addresses ?? []).map((a) => addAddrRequest({
      index, address: a.address, prefix: a.prefix, noPrefixRoute: a.flags?.includes('noprefixroute') ?? false,
      ...(a.broadcast === undefined ? {} : { broadcast: a.broadcast }), ...(a.scope === undefined ? {} : { scope: a.scope }),
    })),
    ...(want.routes ?? []).map((w) => addRouteRequest({
      dst: w.dst, type: w.type, index, table: w.table, protocol: w.protocol, metric: w.metric, gateway: w.gateway, prefsrc: w.prefsrc, scope: w.scope, onlink: w.onlink,
    })),
    ...(want.rules ?? []).map((rule) => {
      const { why: _, ...spec } = rule;
      return addRuleRequest(spec);
    }),
  ];
}

/** The rules of a further interface do not go with its device. The pod may be gone: then so are they. */
export function removeRules(pod: Netns, r: AttachmentRecord): void {
  if (r.further === undefined) return;
  const priority = FURTHER_PRIORITY + r.further;
  RtNetlink.with(pod, (nl) => must(nl.batch(nl.rules().filter((x) => x.protocol === PROTOCOL.podway && x.priority === priority).map((x) => deleteRuleRequest(x)))));
}

/** Removes the host end, and with it the pod's, and other devices of the attachment. Absent is success; a link that is not ours is left alone. */
export async function unwire(netlink: RtNetlink, remover: LinkRemover, names: readonly string[]): Promise<boolean> {
  const ours = names.flatMap((name) => {
    const link = name === '' ? undefined : netlink.link(name);
    return link?.alias?.startsWith(ALIAS_PREFIX) ? [{ index: link.index, name }] : [];
  });
  return (await remover.removeAll(ours)).includes(true);
}

/** The first refusal of a batch. */
export function must(refusals: readonly { error: Error }[]): void {
  const first = refusals[0];
  if (first) throw first.error;
}
