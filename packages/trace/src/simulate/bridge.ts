/**
 * A bridge: port state, FDB look-up, forward or flood. MAC addresses are not changed.
 * Source: net/bridge/br_input.c, br_forward.c, br_netfilter_hooks.c. Equivalent: `bridge fdb show br NAME`, `bridge link show`.
 */
import type { FdbEntry, Link } from '@podway/netstate';
import { drop, goTo, note, stateOf, unknown, type Cursor, type Sim } from './cursor.js';
import { runHook } from './hooks.js';
import { isV6 } from './ipv6.js';
import { whoHas } from './neighbour.js';
import { lookupRoute } from './route.js';
import { fragmentsOf, frameLength } from './types.js';

const VLAN_HEADER = 4;
/** Of a flooded frame, those followed besides the addressee's. */
const MOST_COPIES = 16;

export function bridgeStage(sim: Sim, c: Cursor, p: { netns: string; bridge: string; ingress?: string }): Cursor[] {
  const { netns, bridge, ingress } = p;
  const link = sim.index.link(netns, bridge);
  const port = ingress === undefined ? undefined : sim.index.link(netns, ingress);
  let to = c.packet.ethernet?.dst ?? '';
  if (!link || !to) return unknown(c, netns, `bridge ${bridge}`);
  if (link.bridge?.vlanFiltering) return unknown(c, netns, `VLAN filtering of bridge ${bridge}`);
  if (ingress !== undefined && port?.port?.state !== undefined && port.port.state !== 'forwarding') {
    return drop(c, netns, {
      object: `bridge port ${ingress} in ${netns}`, dev: ingress, reason: 'BRIDGE_INGRESS_STP_STATE', why: `port ${ingress} of ${bridge} is ${port.port.state}`,
    });
  }
  let at = c;
  const filtered = callsIptables(sim, netns, link, isV6(c.packet.dst));
  if (ingress !== undefined) {
    const l2 = runHook(sim, at, { netns, family: 'bridge', hook: 'prerouting', iif: ingress });
    if ('end' in l2) return l2.end;
    at = l2.cursor;
    if (filtered) {
      // br_netfilter: the packet meets the IP hooks here, with the bridge as its device, and not again if it goes up (ip_sabotage_in).
      const ip = runHook(sim, at, { netns, family: 'ip', hook: 'prerouting', iif: bridge });
      if ('end' in ip) return ip.end;
      const translated = ip.cursor.packet.dst !== at.packet.dst;
      at = { ...ip.cursor, hooked: netns };
      if (translated) {
        // br_nf_pre_routing_finish(): routed anew, and when the way leads off the bridge, addressed to the bridge itself.
        const { dst, src, mark } = at.packet;
        const d = lookupRoute(stateOf(sim, netns), { dst, src, mark, iif: bridge });
        if (d.error || !link.address) return unknown(at, netns, `a bridged packet whose destination is translated to ${dst} on ${bridge}`);
        if (d.type === 'unicast' && d.nexthops.some((h) => h.dev === bridge)) {
          const onto = bridgedDnat(sim, at, { netns, bridge, dst, nexthop: d.nexthops[0]?.gateway ?? dst });
          if ('end' in onto) return onto.end;
          to = onto.lladdr;
          at = note(at, netns, 'bridged-dnat', { dev: bridge, bridge, lladdr: to, why: `${dst} is on ${bridge} too: the frame stays on it, for ${to}, with its TTL as it is` });
        } else to = link.address;
        at = { ...at, packet: { ...at.packet, ethernet: { src: at.packet.ethernet?.src ?? '', dst: to } } };
      }
    }
  }
  const state = stateOf(sim, netns);
  const entries = state.fdb.filter((e) => e.lladdr === to && e.master === bridge && (e.vlan === undefined || e.vlan === 1 || !link.bridge?.vlanFiltering));
  // A permanent entry in a bridge's table is one of its own addresses (BR_FDB_LOCAL).
  const local = entries.find((e) => e.state === 'permanent') ?? (link.address === to ? ({ dev: bridge, lladdr: to, state: 'permanent', self: false } as FdbEntry) : undefined);
  if (local && ingress !== undefined) {
    const hostAddressed = to === link.address || to === port?.address;
    at = note(at, netns, 'bridge', { dev: bridge, bridge, ingress, egress: bridge, fdb: local, why: `${to} is ${bridge}'s own address: up to the IP layer` });
    at = note(at, netns, 'receive', { dev: bridge, why: `${bridge} hands the packet to ${netns}` });
    if (!hostAddressed) return drop(at, netns, { object: `neighbour entry with ${to}`, dev: bridge, reason: 'OTHERHOST', why: `${to} belongs to another port of ${bridge}, not to the bridge or to ${ingress}` });
    return [goTo(at, { at: 'ip-receive', netns, dev: bridge })];
  }
  const hit = entries.find((e) => e.state !== 'permanent');
  if (hit) {
    const out = sim.index.link(netns, hit.dev);
    const refusal = out ? refuses(out, port) : `there is no port ${hit.dev}`;
    if (refusal) return drop(at, netns, { object: `bridge port ${hit.dev} in ${netns}`, dev: hit.dev, why: `the FDB entry ${to} points to ${hit.dev}, but ${refusal}` });
    return forward(sim, at, { netns, link, port, out: out!, fdb: hit, why: `FDB entry ${to} → ${hit.dev}`, filtered });
  }
  // Unknown: flooded to all ports. Ways to the owner of the address are followed; the other copies are seen where they go, and end there.
  const ports = sim.index.ports(netns, bridge).filter((l) => l.port?.flood !== false && !refuses(l, port));
  const hopeful = ports.filter((l) => leadsTo(sim, netns, l.name, to, new Set()) !== 'no');
  const others = at.copy ? [] : ports.filter((l) => !hopeful.includes(l)).slice(0, MOST_COPIES);
  const why = `no FDB entry for ${to}: flooded to ${ports.map((l) => l.name).join(', ')}`;
  const send = (cursor: Cursor, out: Link): Cursor[] => forward(sim, cursor, { netns, link, port, out, why, filtered });
  const main = hopeful.length
    ? hopeful.flatMap((out) => send(at, out))
    : drop(at, netns, {
        object: `MAC address ${to}`, dev: bridge,
        why: `${bridge} has no FDB entry for ${to}: ${ports.length ? `flooded to ${ports.map((l) => l.name).join(', ')}, and nobody there has it` : 'there is no other port it could leave by'}`,
      });
  return [...main, ...others.flatMap((out) => send({ ...at, copy: true }, out))];
}

/**
 * The new destination is on this very bridge: the frame stays on it, with the destination's MAC in place of the bridge's
 * and its own sender's MAC, and its TTL untouched (bridged_dnat, br_nf_pre_routing_finish_bridge()).
 */
function bridgedDnat(sim: Sim, c: Cursor, p: { netns: string; bridge: string; dst: string; nexthop: string }): { lladdr: string } | { end: Cursor[] } {
  const { netns, bridge, nexthop } = p;
  const entry = stateOf(sim, netns).neighbours.find((n) => n.dev === bridge && n.dst === nexthop && !n.proxy);
  if (entry?.lladdr && !['failed', 'incomplete', 'none'].includes(entry.state)) return { lladdr: entry.lladdr };
  const { answers, blind } = whoHas(sim, { netns, dev: bridge, target: nexthop, sender: undefined });
  const macs = [...new Set(answers.map((a) => a.lladdr))];
  if (macs.length === 1) return { lladdr: macs[0]! };
  if (macs.length === 0 && blind.length === 0) return { end: drop(c, netns, { object: `neighbour ${nexthop} on ${bridge} in ${netns}`, dev: bridge, reason: 'NEIGH_FAILED', why: `nobody on ${bridge} answers for ${nexthop}` }) };
  return { end: unknown(c, netns, `who answers for ${nexthop} on ${bridge}`) };
}

function forward(
  sim: Sim, c: Cursor, f: { netns: string; link: Link; port: Link | undefined; out: Link; fdb?: FdbEntry; why: string; filtered: boolean },
): Cursor[] {
  const { netns, link, port, out } = f;
  let at = note(c, netns, 'bridge', { dev: link.name, bridge: link.name, egress: out.name, why: f.why, ...(port ? { ingress: port.name } : {}), ...(f.fdb ? { fdb: f.fdb } : {}) });
  // tcpdump and Podway put a bridge they capture on into promiscuous mode; then it shows what it forwards between its ports.
  if (port) at = note(at, netns, 'receive', { dev: link.name, promiscuous: true, why: `${link.name} forwards from ${port.name} to ${out.name}` });
  if (port) {
    const l2 = runHook(sim, at, { netns, family: 'bridge', hook: 'forward', iif: port.name, oif: out.name });
    if ('end' in l2) return l2.end;
    at = l2.cursor;
    if (f.filtered) {
      for (const hook of ['forward', 'postrouting'] as const) {
        const ip = runHook(sim, at, { netns, family: 'ip', hook, iif: link.name, oif: link.name });
        if ('end' in ip) return ip.end;
        at = ip.cursor;
      }
      // br_nf_dev_queue_xmit(): what br_netfilter has seen is fragmented like a routed packet.
      const { length, dontFragment } = at.packet;
      if (out.mtu !== undefined && length > out.mtu && !at.packet.fragments) {
        const object = `MTU ${out.mtu} of ${out.name} in ${netns}`;
        if (isV6(at.packet.dst)) return unknown(at, netns, `what br_netfilter does with ${length} bytes of IPv6 that do not fit the MTU ${out.mtu} of ${out.name}`);
        if (dontFragment) return drop(at, netns, { object, dev: out.name, why: `${length} bytes with DF set do not fit the MTU ${out.mtu} of ${out.name}` });
        at = note(at, netns, 'fragment', {
          dev: out.name, mtu: out.mtu, packet: { ...at.packet, fragments: fragmentsOf(length, out.mtu) },
          why: `br_netfilter splits ${length} bytes to fit the MTU ${out.mtu} of ${out.name}`,
        });
      }
    }
  }
  if (out.mtu !== undefined && frameLength(at.packet) > out.mtu + 14 + VLAN_HEADER) {
    return drop(at, netns, { object: `MTU ${out.mtu} of ${out.name} in ${netns}`, dev: out.name, why: `a bridge does not fragment: the frame of ${frameLength(at.packet)} bytes does not fit ${out.name} with MTU ${out.mtu}` });
  }
  return [goTo(at, { at: 'transmit', netns, dev: out.name })];
}

function refuses(out: Link, from: Link | undefined): string | undefined {
  if (out.port?.state !== undefined && out.port.state !== 'forwarding') return `port ${out.name} is ${out.port.state}`;
  if (from && out.name === from.name && !out.port?.hairpin) return `the packet came in by ${out.name} and hairpin is off there`;
  if (from?.port?.isolated && out.port?.isolated) return `${from.name} and ${out.name} are isolated from each other`;
  return undefined;
}

function callsIptables(sim: Sim, netns: string, bridge: Link, six: boolean): boolean {
  const own = six ? bridge.bridge?.nfCallIp6tables : bridge.bridge?.nfCallIptables;
  return own === true || stateOf(sim, netns).sysctls[`net.bridge.bridge-nf-call-${six ? 'ip6tables' : 'iptables'}`] === '1';
}

/** Whether a frame sent by this device reaches a device with this address; `blind` when it leads out of the world. */
function leadsTo(sim: Sim, netns: string, dev: string, mac: string, seen: Set<string>): 'yes' | 'no' | 'blind' {
  const key = `${netns} ${dev}`;
  if (seen.has(key)) return 'no';
  seen.add(key);
  const link = sim.index.link(netns, dev);
  if (link?.kind !== 'veth') return 'blind';
  const peer = sim.index.peer(netns, dev);
  if (!peer) return 'blind';
  const other = sim.index.link(peer.netns, peer.dev);
  if (!other?.master) return other?.address === mac ? 'yes' : 'no';
  const bridge = sim.index.link(peer.netns, other.master);
  if (bridge?.address === mac || other.address === mac) return 'yes';
  const further = sim.index.ports(peer.netns, other.master).filter((l) => l.name !== peer.dev).map((l) => leadsTo(sim, peer.netns, l.name, mac, seen));
  return further.includes('yes') ? 'yes' : further.includes('blind') ? 'blind' : 'no';
}
