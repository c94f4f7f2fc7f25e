/**
 * VXLAN: into the tunnel (FDB look-up: MAC → VTEP) and out of it (port, then VNI).
 * The FDB maps MAC addresses, not subnets: subnet → gateway is the route, gateway → MAC the neighbour entry.
 * The inner packet is carried unchanged: its TTL too. Source: drivers/net/vxlan/vxlan_core.c, RFC 7348.
 */
import type { Link } from '@podway/netstate';
import { drop, goTo, note, stateOf, unknown, type Cursor, type Sim } from './cursor.js';
import { isV6 } from './ipv6.js';
import { UNSET_TTL } from './stack.js';
import { ETHERNET_HEADER, IPV4_HEADER, IPV6_HEADER, UDP_HEADER, VXLAN_HEADER, type Packet } from './types.js';

const ALL_ZERO = '00:00:00:00:00:00';

export function encapsulate(sim: Sim, c: Cursor, netns: string, link: Link): Cursor[] {
  const inner = c.packet;
  const to = inner.ethernet?.dst;
  const { vxlan } = link;
  if (!vxlan || !to) return unknown(c, netns, `VXLAN settings of ${link.name}`);
  const state = stateOf(sim, netns);
  const own = state.fdb.filter((e) => e.dev === link.name && e.self);
  const entries = own.filter((e) => e.lladdr === to);
  const remotes = entries.length ? entries : own.filter((e) => e.lladdr === ALL_ZERO);
  if (remotes.length === 0) {
    return drop(c, netns, { object: `FDB entry ${to} on ${link.name} in ${netns}`, dev: link.name, reason: 'NO_TX_TARGET', why: `${link.name} has no FDB entry for ${to}: it does not know which VTEP to send to` });
  }
  return remotes.flatMap((fdb) => {
    if (!fdb.dst) return unknown(c, netns, `where FDB entry ${fdb.lladdr} of ${link.name} leads`);
    const port = fdb.port ?? vxlan.port;
    const over6 = isV6(fdb.dst);
    const outer: Packet = {
      src: vxlan.local ?? '', dst: fdb.dst, ttl: vxlan.ttl || (over6 ? UNSET_TTL : Number(state.sysctls['net.ipv4.ip_default_ttl'] ?? 64)),
      dontFragment: !over6 && (vxlan.df === 1 || (vxlan.df === 2 && inner.dontFragment)),
      length: (over6 ? IPV6_HEADER : IPV4_HEADER) + UDP_HEADER + VXLAN_HEADER + ETHERNET_HEADER + (inner.fragments?.length ?? inner.length),
      mark: inner.mark, l4: { proto: 'udp', srcPort: undefined, dstPort: port }, vxlan: { vni: fdb.vni ?? vxlan.vni, inner },
    };
    const at = note(c, netns, 'encapsulate', {
      dev: link.name, fdb, link, packet: outer,
      why: `FDB entry ${fdb.lladdr} dst ${fdb.dst}${entries.length ? '' : ' (the default entry)'}: VNI ${outer.vxlan!.vni}, UDP port ${port}, ${outer.length - inner.length} bytes more`,
    });
    return [goTo(at, { at: 'send', netns, ...(vxlan.dev ? { oif: vxlan.dev } : {}) })];
  });
}

/** VTEPs that take this outer packet's port: those on its family's underlay. Each family has sockets of its own. */
const listening = (sim: Sim, netns: string, outer: Packet): Link[] =>
  stateOf(sim, netns).links.filter((l) => l.up && l.vxlan !== undefined && outer.l4.proto === 'udp' && l.vxlan.port === outer.l4.dstPort && isV6(l.vxlan.local ?? '') === isV6(outer.dst));

/** True when the port is taken by a VXLAN device of the namespace. */
export const isTunnelPort = (sim: Sim, netns: string, outer: Packet): boolean => listening(sim, netns, outer).length > 0;

export function decapsulate(sim: Sim, c: Cursor, netns: string, dev: string): Cursor[] {
  const outer = c.packet;
  const { l4, vxlan } = outer;
  if (l4.proto !== 'udp' || !vxlan) return unknown(c, netns, 'a VXLAN packet without content');
  const onPort = listening(sim, netns, outer);
  const link = onPort.find((l) => l.vxlan?.vni === vxlan.vni);
  if (!link) {
    const other = onPort.map((l) => `${l.name} has VNI ${l.vxlan!.vni}`).join(', ');
    return drop(c, netns, { object: `VNI ${onPort[0]?.vxlan?.vni} of ${onPort[0]?.name} in ${netns}`, dev, reason: 'VXLAN_VNI_NOT_FOUND', why: `the packet carries VNI ${vxlan.vni}, but ${other}` });
  }
  const inner = vxlan.inner;
  if (inner.ethernet?.src === link.address) {
    return drop(c, netns, { object: `link ${link.name} in ${netns}`, dev: link.name, reason: 'LOCAL_MAC', why: `the inner source ${inner.ethernet?.src} is ${link.name}'s own address` });
  }
  const at = note(c, netns, 'decapsulate', {
    dev: link.name, link, outer, packet: { ...inner, mark: outer.mark }, why: `UDP port ${l4.dstPort} and VNI ${vxlan.vni} are ${link.name}'s: ${outer.length - inner.length} bytes less, TTL unchanged`,
  });
  return [goTo(at, { at: 'receive', netns, dev: link.name })];
}
