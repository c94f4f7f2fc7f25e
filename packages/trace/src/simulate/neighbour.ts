/**
 * From next hop to MAC address: the neighbour table, and when it knows nothing, who on the segment would answer an ARP request or a
 * neighbour solicitation. Source: net/core/neighbour.c, net/ipv4/arp.c (arp_process, arp_ignore), net/ipv6/ndisc.c, RFC 826, RFC 4861.
 */
import { isLocal, lookupRoute } from './route.js';
import { validateSource } from './source-check.js';
import { deadDevice, deviceSysctl, stateOf, type Sim } from './cursor.js';
import { inPrefix } from './ip.js';
import { answersFor, isV6 } from './ipv6.js';

/** One who would answer, with which MAC. */
export interface Answer {
  readonly netns: string;
  readonly dev: string;
  readonly lladdr: string;
  readonly proxy: boolean;
}

export interface Segment {
  readonly answers: readonly Answer[];
  /** Parts of the segment nobody can see into: a device whose other end is not in the world. */
  readonly blind: readonly string[];
  /** Why frames do not get further, at places where they end. */
  readonly ends: readonly { readonly object: string; readonly why: string }[];
}

/** Asks everyone a broadcast from this device reaches: who has `target`? */
export function whoHas(sim: Sim, q: { netns: string; dev: string; target: string; sender: string | undefined }): Segment {
  const answers: Answer[] = [];
  const blind: string[] = [];
  const ends: { object: string; why: string }[] = [];
  const seen = new Set<string>();

  const transmit = (netns: string, dev: string): void => {
    const link = sim.index.link(netns, dev);
    if (!link || seen.has(`tx ${netns} ${dev}`)) return;
    seen.add(`tx ${netns} ${dev}`);
    const dead = deadDevice(sim, netns, link);
    if (dead) return void (netns === q.netns && dev === q.dev && ends.push(dead));
    switch (link.kind) {
      case 'bridge':
        return flood(netns, dev, undefined);
      case 'vxlan': {
        for (const e of stateOf(sim, netns).fdb) {
          if (e.dev !== dev || !e.self || e.lladdr !== '00:00:00:00:00:00' || !e.dst) continue;
          for (const other of sim.index.world.namespaces) {
            const vtep = other.state.links.find((l) => l.vxlan?.vni === link.vxlan?.vni && l.vxlan?.port === link.vxlan?.port && l.up);
            if (vtep && other.state.addresses.some((a) => a.address === e.dst)) arrive(other.key, vtep.name);
          }
        }
        return;
      }
      case 'veth': {
        const peer = sim.index.peer(netns, dev);
        if (!peer) return void blind.push(`the other end of ${dev} in ${netns}`);
        return arrive(peer.netns, peer.dev);
      }
      default:
        blind.push(`what is behind ${dev} (${link.kind}) in ${netns}`);
    }
  };
  const arrive = (netns: string, dev: string): void => {
    const link = sim.index.link(netns, dev);
    if (!link) return;
    if (!link.up) return;
    if (link.master) return flood(netns, link.master, dev);
    endpoint(netns, dev);
  };
  const flood = (netns: string, bridge: string, ingress: string | undefined): void => {
    const from = ingress === undefined ? undefined : sim.index.link(netns, ingress);
    if (ingress !== undefined) {
      if (from?.port?.state !== undefined && from.port.state !== 'forwarding') {
        return void ends.push({ object: `bridge port ${ingress} in ${netns}`, why: `port ${ingress} of ${bridge} is ${from.port.state}` });
      }
      endpoint(netns, bridge);
    }
    for (const port of sim.index.ports(netns, bridge)) {
      if (port.name === ingress && !port.port?.hairpin) continue;
      const peer = sim.index.peer(netns, port.name);
      const wanted = peer !== undefined && isLocal(stateOf(sim, peer.netns), q.target);
      if (from?.port?.isolated && port.port?.isolated) {
        if (wanted) ends.push({ object: `bridge port ${port.name} in ${netns}`, why: `${from.name} and ${port.name} of ${bridge} are isolated from each other` });
        continue;
      }
      if (port.port?.state !== undefined && port.port.state !== 'forwarding') {
        // Ports of others may be down for their own reasons: only the one behind which the target is says why it does not answer.
        if (wanted) ends.push(deadDevice(sim, netns, port) ?? { object: `bridge port ${port.name} in ${netns}`, why: `port ${port.name} of ${bridge} is ${port.port.state}` });
        continue;
      }
      transmit(netns, port.name);
    }
  };
  const endpoint = (netns: string, dev: string): void => {
    if (seen.has(`rx ${netns} ${dev}`)) return;
    seen.add(`rx ${netns} ${dev}`);
    const link = sim.index.link(netns, dev);
    const state = stateOf(sim, netns);
    if (!link?.address || !link.up || link.noArp) return;
    const reply = (proxy: boolean): void => void answers.push({ netns, dev, lladdr: link.address!, proxy });
    if (isV6(q.target)) {
      const as = answersFor(state, dev, q.target);
      if (as) reply(as === 'proxy');
      return;
    }
    if (q.sender !== undefined && validateSource(sim, netns, { src: q.sender, dst: q.target, dev, mark: 0 }).drop) return;
    if (isLocal(state, q.target)) {
      const ignore = deviceSysctl(state, dev, 'arp_ignore', 'max') ?? 0;
      const onDevice = state.addresses.some((a) => a.dev === dev && a.address === q.target && (ignore !== 2 || q.sender === undefined || inPrefix(q.sender, `${a.address}/${a.prefix}`)));
      if (ignore === 0 || (ignore <= 2 && onDevice)) reply(false);
      return;
    }
    if (state.neighbours.some((n) => n.proxy && n.dst === q.target && n.dev === dev)) return reply(true);
    if (deviceSysctl(state, dev, 'proxy_arp', 'or') === 1 && deviceSysctl(state, dev, 'forwarding', 'own') === 1) {
      const d = lookupRoute(state, { dst: q.target, iif: dev, mark: 0 });
      if (d.type === 'unicast' && d.nexthops[0] && d.nexthops[0].dev !== dev) reply(true);
    }
  };
  transmit(q.netns, q.dev);
  return { answers, blind, ends };
}
