/**
 * The IP layer of one namespace, stage by stage: send, receive, forward, hand to the next device, deliver.
 * Source: net/ipv4/{route,ip_input,ip_forward,ip_output}.c, net/ipv6/{route,ip6_input,ip6_output}.c; drivers/net/veth.c.
 */
import { receiver } from '../sockets.js';
import { decisionText, lookupRoute, selectSource } from './route.js';
import { validateSource } from './source-check.js';
import { deadDevice, deviceSysctl, drop, goTo, namespaceOf, note, stateOf, unknown, type Cursor, type Sim } from './cursor.js';
import { runHook } from './hooks.js';
import { fragments6, hopLimit, isV6, protocolOf } from './ipv6.js';
import { whoHas } from './neighbour.js';
import { decapsulate, encapsulate, isTunnelPort } from './vxlan.js';
import { decrypt, encrypt } from './wireguard.js';
import { ETHERNET_HEADER, fragmentsOf, frameLength, type NextHopChoice, type Packet, type RouteDecision } from './types.js';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const VLAN_HEADER = 4;
/** Of a packet whose hop limit the device decides by which it leaves. */
export const UNSET_TTL = 0;
const FORWARDED_TOO_BIG = { inet: 'ICMP fragmentation needed', inet6: 'ICMPv6 packet too big' } as const;
const toldOf = (p: Packet): string => `the sender is told (${FORWARDED_TOO_BIG[isV6(p.dst) ? 'inet6' : 'inet']})`;

/** ip_route_output, source selection, LOCAL_OUT. */
export function send(sim: Sim, c: Cursor, p: { netns: string; oif?: string }): Cursor[] {
  const { netns, oif } = p;
  const state = stateOf(sim, netns);
  const query = { dst: c.packet.dst, mark: c.packet.mark, protocol: protocolOf(c.packet), ...(c.packet.src ? { src: c.packet.src } : {}), ...(oif ? { oif } : {}) };
  let decision = lookupRoute(state, query);
  // With the device given and no route the kernel takes the destination to be on that link (ip_route_output_key_hash_rcu).
  if (decision.error === 'ENETUNREACH' && oif) decision = { ...decision, type: 'unicast', nexthops: [{ dev: oif }], error: undefined } as unknown as RouteDecision;
  if (decision.error) {
    const at = note(c, netns, 'route', { decision, why: decisionText(decision) });
    return drop(at, netns, { object: decision.route ? `route ${decision.route.dst} in ${netns}` : `route to ${c.packet.dst} in ${netns}`, reason: 'IP_OUTNOROUTES', why: decisionText(decision) });
  }
  return decision.nexthops.flatMap((hop) => {
    let at = c;
    if (at.packet.ttl === UNSET_TTL) at = { ...at, packet: { ...at.packet, ttl: hopLimit(state, hop.dev) } };
    if (!at.packet.src) {
      const source = selectSource(state, decision, hop);
      if (!source) return drop(at, netns, { object: `addresses of ${netns}`, why: `${netns} has no address to send from` });
      at = note(at, netns, 'source-address', { address: source.address, why: source.why, packet: { ...at.packet, src: source.address } });
    }
    at = note(at, netns, 'route', { decision, dev: hop.dev, why: decisionText(decision) });
    const hooked = runHook(sim, at, { netns, family: 'ip', hook: 'output', oif: decision.type === 'local' ? 'lo' : hop.dev });
    if ('end' in hooked) return hooked.end;
    const rerouted = hooked.cursor.packet.dst !== at.packet.dst || hooked.cursor.packet.mark !== at.packet.mark;
    at = hooked.cursor;
    if (rerouted) {
      const again = lookupRoute(state, { ...query, dst: at.packet.dst, src: at.packet.src, mark: at.packet.mark });
      if (again.error) return drop(at, netns, { object: `route to ${at.packet.dst} in ${netns}`, reason: 'IP_OUTNOROUTES', why: decisionText(again) });
      at = note(at, netns, 'route', { decision: again, why: `looked up again after the change: ${decisionText(again)}` });
      return again.nexthops.flatMap((h) => output(sim, at, netns, again, h, 'own'));
    }
    return output(sim, at, netns, decision, hop, 'own');
  });
}

/** From a decision to POSTROUTING, with the MTU checked as the kernel does for own and for forwarded packets. */
function output(sim: Sim, c: Cursor, netns: string, decision: RouteDecision, hop: NextHopChoice, origin: 'own' | 'forwarded'): Cursor[] {
  if (decision.type === 'local' || decision.type === 'anycast') {
    const post = runHook(sim, c, { netns, family: 'ip', hook: 'postrouting', oif: 'lo' });
    if ('end' in post) return post.end;
    const at = note(post.cursor, netns, 'transmit', { dev: 'lo', why: 'to this host itself: over lo' });
    return [goTo(at, { at: 'ip-receive', netns, dev: 'lo' })];
  }
  if (decision.type !== 'unicast') return unknown(c, netns, `what happens to a packet to the ${decision.type} address ${c.packet.dst}`);
  const link = sim.index.link(netns, hop.dev);
  if (!link) return drop(c, netns, { object: `link ${hop.dev} in ${netns}`, why: `the route leads to ${hop.dev}, which is not there` });
  const mtu = decision.route?.mtu ?? link.mtu;
  let at = c;
  if (mtu !== undefined && at.packet.length > mtu) {
    const object = `MTU ${mtu} of ${hop.dev} in ${netns}`;
    if (isV6(at.packet.dst) && at.packet.vxlan) return unknown(at, netns, `whether the kernel splits a VXLAN packet of ${at.packet.length} bytes over IPv6 to fit the MTU ${mtu} of ${hop.dev}`);
    // In IPv6 only the sender fragments.
    if (at.packet.dontFragment || (isV6(at.packet.dst) && origin === 'forwarded')) {
      const own = `${at.packet.length} bytes${at.packet.dontFragment ? ' with DF set' : ''} do not fit the MTU ${mtu} of ${hop.dev}`;
      return drop(at, netns, { object, dev: hop.dev, ...(origin === 'forwarded' ? { reason: 'PKT_TOO_BIG' } : {}), why: origin === 'forwarded' ? `${own}; ${toldOf(at.packet)}` : `${own}: the sender gets EMSGSIZE` });
    }
  }
  const post = runHook(sim, at, { netns, family: 'ip', hook: 'postrouting', oif: hop.dev });
  if ('end' in post) return post.end;
  at = post.cursor;
  if (mtu !== undefined && at.packet.length > mtu) {
    const fragments = (isV6(at.packet.dst) ? fragments6 : fragmentsOf)(at.packet.length, mtu);
    at = note(at, netns, 'fragment', {
      dev: hop.dev, mtu, packet: { ...at.packet, fragments },
      why: `${at.packet.length} bytes do not fit the MTU ${mtu} of ${hop.dev} and DF is not set: split into ${fragments.count}`,
    });
  }
  return [goTo(at, { at: 'ip-output', netns, dev: hop.dev, nexthop: hop.gateway ?? at.packet.dst })];
}

/** Next hop → MAC, Ethernet header. */
export function ipOutput(sim: Sim, c: Cursor, p: { netns: string; dev: string; nexthop: string }): Cursor[] {
  const { netns, dev, nexthop } = p;
  const state = stateOf(sim, netns);
  const link = sim.index.link(netns, dev);
  if (!link) return drop(c, netns, { object: `link ${dev} in ${netns}`, why: `${dev} is not there` });
  const dead = deadDevice(sim, netns, link);
  if (dead) return drop(c, netns, { ...dead, dev });
  const framed = (lladdr: string): Packet => ({ ...c.packet, ethernet: { src: link.address ?? '', dst: lladdr } });
  if (link.wireguard || link.kind === 'tun' || link.kind === 'wireguard') {
    const { ethernet: _, ...packet } = c.packet;
    const at = note(c, netns, 'no-neighbour', { dev, packet, why: `${dev} has no Ethernet and needs no neighbour` });
    return [goTo(at, { at: 'transmit', netns, dev })];
  }
  if (link.noArp || link.kind === 'loopback') {
    const at = note(c, netns, 'no-neighbour', { dev, packet: framed('00:00:00:00:00:00'), why: `${dev} needs no neighbour (NOARP)` });
    return [goTo(at, { at: 'transmit', netns, dev })];
  }
  const entry = state.neighbours.find((n) => n.dev === dev && n.dst === nexthop && !n.proxy);
  if (entry?.lladdr && !['failed', 'incomplete', 'none'].includes(entry.state)) {
    const at = note(c, netns, 'neighbour', { dev, neighbour: entry, packet: framed(entry.lladdr), why: `${nexthop} lladdr ${entry.lladdr} ${entry.state.toUpperCase()}` });
    return [goTo(at, { at: 'transmit', netns, dev })];
  }
  const had = entry ? `the entry for ${nexthop} is ${entry.state.toUpperCase()}` : `no entry for ${nexthop}`;
  const sender = state.addresses.some((a) => a.address === c.packet.src) ? c.packet.src : selectSource(state, lookupRoute(state, { dst: nexthop, mark: 0 }), { dev })?.address;
  const segment = whoHas(sim, { netns, dev, target: nexthop, sender });
  const byMac = [...new Map(segment.answers.map((a) => [a.lladdr, a])).values()];
  if (byMac.length === 0) {
    if (segment.blind.length) return unknown(c, netns, `who answers for ${nexthop} on ${dev}: ${segment.blind.join(', ')} cannot be seen`);
    const end = segment.ends[0];
    return drop(c, netns, {
      object: end?.object ?? `neighbour ${nexthop} on ${dev} in ${netns}`, dev, reason: 'NEIGH_FAILED',
      why: `${had} on ${dev}, and nobody on the segment answers for it${segment.ends.length ? ` (${segment.ends.map((e) => e.why).join('; ')})` : ''}`,
    });
  }
  return byMac.map((answer) => {
    const { netns: who, dev: on, lladdr } = answer;
    const at = note(c, netns, 'resolve', {
      dev, target: nexthop, answer: { netns: who, dev: on, lladdr }, packet: framed(lladdr),
      why: `${had}: asked on ${dev}, ${who} answers${answer.proxy ? ' as proxy' : ''} from ${on} with ${lladdr}`,
    });
    return goTo(at, { at: 'transmit', netns, dev });
  });
}

/** A frame leaves by a device. */
export function transmit(sim: Sim, c: Cursor, p: { netns: string; dev: string }): Cursor[] {
  const { netns, dev } = p;
  const link = sim.index.link(netns, dev);
  if (!link) return drop(c, netns, { object: `link ${dev} in ${netns}`, why: `${dev} is not there` });
  const dead = deadDevice(sim, netns, link);
  if (dead) return drop(c, netns, { ...dead, dev });
  const egress = runHook(sim, c, { netns, family: 'netdev', hook: 'egress', oif: dev });
  if ('end' in egress) return egress.end;
  const at = note(egress.cursor, netns, 'transmit', { dev, why: `out of ${sim.index.describe(netns, dev)}` });
  switch (link.kind) {
    case 'veth': {
      const peer = sim.index.peer(netns, dev);
      const other = peer && sim.index.link(peer.netns, peer.dev);
      if (!peer || !other) return unknown(at, netns, `the other end of ${dev}, which is in no namespace of this world`);
      if (!other.up) return drop(at, peer.netns, { object: `link ${peer.dev} in ${peer.netns}`, dev: peer.dev, why: `${peer.dev} in ${peer.netns} is down` });
      if (other.mtu !== undefined && frameLength(at.packet) > other.mtu + ETHERNET_HEADER + VLAN_HEADER) {
        return drop(at, peer.netns, { object: `MTU ${other.mtu} of ${peer.dev} in ${peer.netns}`, dev: peer.dev, why: `the frame of ${frameLength(at.packet)} bytes is larger than ${peer.dev} takes (MTU ${other.mtu})` });
      }
      return [goTo(at, { at: 'receive', netns: peer.netns, dev: peer.dev })];
    }
    case 'bridge':
      return [goTo(at, { at: 'bridge', netns, bridge: dev })];
    case 'vxlan':
      return encapsulate(sim, at, netns, link);
    case 'tun':
    case 'wireguard':
      return link.wireguard ? encrypt(sim, at, netns, link) : unknown(at, netns, link.kind === 'tun' ? `where ${dev} (tun) leads: the program behind it was not read` : `settings of WireGuard device ${dev}`);
    default:
      return unknown(at, netns, `where ${dev} (${link.kind}) leads`);
  }
}

/** A frame comes in by a device. */
export function receive(sim: Sim, c: Cursor, p: { netns: string; dev: string }): Cursor[] {
  const { netns, dev } = p;
  const link = sim.index.link(netns, dev);
  if (!link) return drop(c, netns, { object: `link ${dev} in ${netns}`, why: `${dev} is not there` });
  if (!link.up) return drop(c, netns, { object: `link ${dev} in ${netns}`, dev, reason: 'DEV_READY', why: `${dev} is down` });
  const ingress = runHook(sim, note(c, netns, 'receive', { dev, why: `in by ${sim.index.describe(netns, dev)}` }), { netns, family: 'netdev', hook: 'ingress', iif: dev });
  if ('end' in ingress) return ingress.end;
  const at = ingress.cursor;
  if (link.master) return [goTo(at, { at: 'bridge', netns, bridge: link.master, ingress: dev })];
  const to = at.packet.ethernet?.dst;
  if (to !== undefined && to !== link.address && to !== BROADCAST) {
    return drop(at, netns, { object: `neighbour entry with ${to}`, dev, reason: 'OTHERHOST', why: `the frame is addressed to ${to}, but ${dev} has ${link.address}` });
  }
  return [goTo(at, { at: 'ip-receive', netns, dev })];
}

/** PREROUTING, input route, source checks, then local delivery or forwarding. */
export function ipReceive(sim: Sim, c: Cursor, p: { netns: string; dev: string }): Cursor[] {
  const { netns, dev } = p;
  const state = stateOf(sim, netns);
  let at = c;
  if (c.hooked === netns) {
    const { hooked: _, ...rest } = c;
    at = rest;
  } else {
    const pre = runHook(sim, c, { netns, family: 'ip', hook: 'prerouting', iif: dev });
    if ('end' in pre) return pre.end;
    at = pre.cursor;
  }
  const { src, dst, mark } = at.packet;
  if (dev === 'lo') {
    const input = runHook(sim, at, { netns, family: 'ip', hook: 'input', iif: dev });
    return 'end' in input ? input.end : [goTo(input.cursor, { at: 'local', netns, dev })];
  }
  if (isV6(dst) && (src === '::1' || dst === '::1')) {
    return drop(at, netns, { object: 'address ::1', dev, why: 'the loopback address does not come from outside' });
  }
  if ((dst.startsWith('127.') || src.startsWith('127.')) && deviceSysctl(state, dev, 'route_localnet', 'or') !== 1) {
    return drop(at, netns, { object: `address ${dst.startsWith('127.') ? dst : src}`, dev, reason: 'IP_LOCALNET', why: 'loopback addresses do not come from outside' });
  }
  const decision = lookupRoute(state, { dst, src, iif: dev, mark, protocol: protocolOf(at.packet) });
  const routed = note(at, netns, 'route', { dev, decision, why: decisionText(decision) });
  const check = (): Cursor | Cursor[] => {
    // IPv6 has no reverse path filter but that of firewalls.
    if (isV6(dst)) return routed;
    const v = validateSource(sim, netns, { src, dst, dev, mark });
    if (v.mode === undefined) return unknown(routed, netns, `sysctl rp_filter of ${dev}`);
    if (v.drop) return drop(routed, netns, { ...v.drop, dev });
    if (!v.decision) return routed;
    return note(routed, netns, 'rp-filter', { dev, mode: v.mode === 1 ? 'strict' : 'loose', decision: v.decision, why: `rp_filter ${v.mode}: the way back to ${src} is ${decisionText({ ...v.decision, losing: [] })}` });
  };
  if (decision.type === 'local' || decision.type === 'anycast') {
    const checked = check();
    if (Array.isArray(checked)) return checked;
    const input = runHook(sim, checked, { netns, family: 'ip', hook: 'input', iif: dev });
    return 'end' in input ? input.end : [goTo(input.cursor, { at: 'local', netns, dev })];
  }
  // IPv6 forwards for the namespace as a whole.
  const forwarding = isV6(dst) ? numberOf(state.sysctls['net.ipv6.conf.all.forwarding']) : deviceSysctl(state, dev, 'forwarding', 'own');
  if (forwarding === undefined) return unknown(routed, netns, `sysctl forwarding of ${dev}`);
  if (isV6(dst) && forwarding !== 1 && (decision.type === 'unicast' || decision.error)) {
    return drop(routed, netns, { object: `sysctl net.ipv6.conf.all.forwarding in ${netns}`, dev, why: `${dst} is not here and net.ipv6.conf.all.forwarding is 0: ${netns} does not forward` });
  }
  if (forwarding !== 1 && (decision.type === 'unicast' || decision.error)) {
    const global = state.sysctls['net.ipv4.ip_forward'] !== '1';
    const object = global ? `sysctl net.ipv4.ip_forward in ${netns}` : `sysctl net.ipv4.conf.${dev}.forwarding in ${netns}`;
    return drop(routed, netns, { object, dev, reason: 'IP_INADDRERRORS', why: `${dst} is not here and ${global ? 'ip_forward is 0' : `forwarding is 0 on ${dev}`}: ${netns} does not forward` });
  }
  if (decision.error) {
    const reason = decision.error === 'ENETUNREACH' ? 'IP_INNOROUTES' : decision.error === 'EHOSTUNREACH' ? 'IP_INADDRERRORS' : undefined;
    return drop(routed, netns, { object: decision.route ? `route ${decision.route.dst} in ${netns}` : `route to ${dst} in ${netns}`, dev, ...(reason ? { reason } : {}), why: decisionText(decision) });
  }
  if (decision.type !== 'unicast') return unknown(routed, netns, `what happens to a packet to the ${decision.type} address ${dst}`);
  const checked = check();
  if (Array.isArray(checked)) return checked;
  return decision.nexthops.flatMap((hop) => forward(sim, checked, { netns, iif: dev, decision, hop }));
}

const numberOf = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));

function forward(sim: Sim, c: Cursor, f: { netns: string; iif: string; decision: RouteDecision; hop: NextHopChoice }): Cursor[] {
  const { netns, iif, decision, hop } = f;
  const { ttl } = c.packet;
  if (ttl <= 1) return drop(c, netns, { object: `TTL ${ttl}`, dev: iif, reason: 'IP_INHDR', why: `TTL ${ttl} is used up in ${netns}; the sender is told (${isV6(c.packet.dst) ? 'ICMPv6' : 'ICMP'} time exceeded)` });
  const mtu = decision.route?.mtu ?? sim.index.link(netns, hop.dev)?.mtu;
  if (mtu !== undefined && (c.packet.dontFragment || isV6(c.packet.dst)) && c.packet.length > mtu) {
    return drop(c, netns, { object: `MTU ${mtu} of ${hop.dev} in ${netns}`, dev: hop.dev, reason: 'PKT_TOO_BIG', why: `${c.packet.length} bytes${c.packet.dontFragment ? ' with DF set' : ''} do not fit the MTU ${mtu} of ${hop.dev}; ${toldOf(c.packet)}` });
  }
  const at = note(c, netns, 'forward', { dev: hop.dev, ttlBefore: ttl, packet: { ...c.packet, ttl: ttl - 1 }, why: `forwarded from ${iif} to ${hop.dev}: TTL ${ttl} → ${ttl - 1}` });
  const hooked = runHook(sim, at, { netns, family: 'ip', hook: 'forward', iif, oif: hop.dev });
  if ('end' in hooked) return hooked.end;
  return output(sim, hooked.cursor, netns, decision, hop, 'forwarded');
}

/** To a tunnel, to the kernel itself (ICMP), or to a socket. */
export function deliver(sim: Sim, c: Cursor, p: { netns: string; dev: string }): Cursor[] {
  const { netns, dev } = p;
  const { fragments: _, ...whole } = c.packet;
  const { l4, dst } = whole;
  const at: Cursor = { ...c, packet: whole };
  const end = (listener: 'yes' | 'kernel' | 'not known', why: string, socket?: { proto: 'tcp' | 'udp'; address: string; port: number }): Cursor[] => [
    goTo(note(at, netns, 'deliver', { dev, why, ...(socket ? { socket } : {}) }), { at: 'end', outcome: { kind: 'delivered', netns, listener, ...(socket ? { socket } : {}) } }),
  ];
  if (l4.proto === 'icmp') {
    const ignore = isV6(dst) ? 'net.ipv6.icmp.echo_ignore_all' : 'net.ipv4.icmp_echo_ignore_all';
    if (l4.type === 'echo-request' && stateOf(sim, netns).sysctls[ignore] === '1') {
      return drop(at, netns, { object: `sysctl ${ignore} in ${netns}`, dev, why: 'echo requests are ignored' });
    }
    return end('kernel', l4.type === 'echo-request' ? `${netns} answers it` : `${netns} has its answer`);
  }
  if (l4.proto === 'udp' && whole.wireguard) return decrypt(sim, at, netns, dev);
  if (l4.proto === 'udp' && whole.vxlan) {
    if (isTunnelPort(sim, netns, whole)) return decapsulate(sim, at, netns, dev);
    const ports = stateOf(sim, netns).links.flatMap((l) => (l.vxlan ? [`${l.name} listens on ${l.vxlan.port}${l.up ? '' : ' but is down'}`] : []));
    return drop(at, netns, { object: ports.length ? `VXLAN port of ${netns}` : `VTEP of ${netns}`, dev, reason: 'NO_SOCKET', why: `no VXLAN device takes UDP port ${l4.dstPort}${ports.length ? `: ${ports.join(', ')}` : ''}` });
  }
  if (l4.proto === 'tcp' && l4.flags === 'syn-ack') return end('kernel', `${netns} has its answer`);
  const { sockets } = namespaceOf(sim, netns);
  if (!sockets) return end('not known', `handed to ${l4.proto} port ${l4.dstPort}; no listener known (sockets were not read)`);
  const socket = receiver(sockets, l4.proto, { address: dst, port: l4.dstPort });
  if (socket) return end('yes', `a socket on ${socket.address}:${socket.port} takes it`, socket);
  if (sim.answering) return end('not known', `handed to ${l4.proto} port ${l4.dstPort}, from where it was asked`);
  const answer = l4.proto === 'tcp' ? 'the sender gets a reset' : `the sender gets ${isV6(dst) ? 'ICMPv6' : 'ICMP'} port unreachable`;
  return drop(at, netns, { object: `${l4.proto} port ${l4.dstPort} in ${netns}`, dev, reason: 'NO_SOCKET', why: `nobody listens on ${l4.proto} port ${l4.dstPort}: ${answer}` });
}
