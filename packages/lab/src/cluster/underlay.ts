/**
 * The underlay: a namespace that plays switch and router, and an `outside` host beyond it. With racks the switches are in
 * the namespaces of their routers, and this one is the core between them: see rack-netns.ts.
 *
 *   node eth0 ─── port of br0 (switch)  172.18.0.1/16 (router)  outside0 ─── eth0 of `outside`
 *
 * `outside` stands for the internet: it has a public test address (RFC 5737, RFC 3849) and answers for
 * 8.8.8.8 and 2001:4860:4860::8888 as well. It has no route to pod ranges: what is not masqueraded gets no answer, as
 * in the world. Where routers learn pod ranges by BGP it has: there pods can be reached from outside.
 */
import { Netns, RtNetlink, sysctlDevice, writeSysctl } from '@podway/kernel';
import { nodeAddresses, type LabConfig, type LabNode } from './config.js';
import type { LabLayout } from './layout.js';
import { createRacks, createSwitch, SWITCH } from './rack-netns.js';
import { CORE, coreAsn, coreName, routerName, segmentOf } from './racks.js';

/** `internet` stands for the internet's best-known address. */
const OUTSIDE = {
  ipv4: { router: '203.0.113.1', outside: '203.0.113.10', prefix: 24, internet: '8.8.8.8', internetPrefix: 32, any: '0.0.0.0/0' },
  ipv6: { router: '2001:db8:113::1', outside: '2001:db8:113::10', prefix: 64, internet: '2001:4860:4860::8888', internetPrefix: 128, any: '::/0' },
} as const;
type Family = keyof typeof OUTSIDE;
const familyOf = (text: string): Family => (text.includes(':') ? 'ipv6' : 'ipv4');

/** Each family of the underlay, the first first. */
const familiesOf = (c: LabConfig) =>
  [c.underlay, ...(c.second ? [c.second] : [])].map(({ subnet, prefix, gateway }) => ({ subnet, prefix, gateway, beyond: OUTSIDE[familyOf(subnet)] }));

/** What answers beyond the underlay, by the lab's families. */
export const outsideAddresses = (c: LabConfig): { readonly outside: string; readonly internet: string }[] =>
  familiesOf(c).map(({ beyond }) => ({ outside: beyond.outside, internet: beyond.internet }));
const alias = (layout: LabLayout, what: string) => `podway: lab ${layout.name} ${what}`;

/** Creates the namespaces of the underlay. @throws NETNS_EXISTS when the lab's names are taken. */
export function createUnderlay(layout: LabLayout, config: LabConfig): void {
  const { racks, gateway, prefix, mtu } = config.underlay;
  const core = Netns.create(layout.netns(coreName(config)));
  const outside = Netns.create(layout.netns('outside'));
  try {
    RtNetlink.with(core, (nl) => {
      nl.setLink('lo', { up: true });
      if (racks.length === 0) {
        createSwitch(nl, { mtu, alias: alias(layout, 'switch'), address: gateway, prefix });
        for (const f of familiesOf(config).slice(1)) nl.addAddr({ index: nl.mustLink(SWITCH).index, address: f.gateway, prefix: f.prefix });
      }
      const out = nl.createLink({ kind: 'veth', name: 'outside0', alias: alias(layout, 'link to outside'), peer: { name: 'eth0', netnsFd: outside.fd } });
      nl.setLink(out.index, { up: true });
      RtNetlink.with(outside, (o) => {
        o.setLink('lo', { up: true });
        o.setLink('eth0', { up: true });
        const [eth0, lo] = [o.mustLink('eth0').index, o.mustLink('lo').index];
        for (const { subnet: nodes, beyond } of familiesOf(config)) {
          o.addAddr({ index: eth0, address: beyond.outside, prefix: beyond.prefix });
          o.addAddr({ index: lo, address: beyond.internet, prefix: beyond.internetPrefix });
          // Behind routers that learn pod ranges it asks them for these as well; those that do not know send it back.
          const ranges = racks.length ? [...new Set([...racks.map((r) => r.subnet), CORE.range, ...(coreAsn(config) === undefined ? [] : [config.network.clusterCIDR])])] : [nodes];
          for (const dst of ranges) o.addRoute({ dst, gateway: beyond.router, index: eth0 });
        }
      });
      for (const { beyond } of familiesOf(config)) {
        nl.addAddr({ index: out.index, address: beyond.router, prefix: beyond.prefix });
        nl.addRoute({ dst: beyond.any, gateway: beyond.outside, index: out.index });
      }
    });
    writeSysctl(core, 'net.ipv4.ip_forward', '1');
    if (familiesOf(config).some((f) => f.beyond === OUTSIDE.ipv6)) writeSysctl(core, 'net.ipv6.conf.all.forwarding', '1');
  } finally {
    core.close();
    outside.close();
  }
  if (racks.length) createRacks(layout, config);
}

/** The namespace of the switch that a node is plugged into. */
const switchOf = (layout: LabLayout, config: LabConfig, node: LabNode): Netns => {
  const { rack } = segmentOf(config, node);
  return Netns.open({ name: layout.netns(rack ? routerName(rack.name) : coreName(config)) });
};

/** Port names stay within 15 bytes and are still told apart. */
export const portName = (index: number): string => `port${index + 1}`;

/** A node's namespace with its uplink, plugged into the switch. */
export function createNodeNetns(layout: LabLayout, config: LabConfig, { node, port: position }: { readonly node: LabNode; readonly port: number }): void {
  const segment = segmentOf(config, node);
  const underlay = switchOf(layout, config, node);
  // Segments that the kernel carries as one are judged by the device's MTU nowhere: a switch that passes less must see them one by one.
  const offload = segment.switchMTU < segment.mtu ? { gsoMaxSegs: 1 } : {};
  const ns = Netns.create(layout.netns(node.name));
  try {
    RtNetlink.with(underlay, (u) => {
      const port = u.createLink({
        kind: 'veth', name: portName(position), mtu: segment.switchMTU, master: u.mustLink(SWITCH).index, alias: alias(layout, `cable to node ${node.name}`),
        peer: { name: 'eth0', netnsFd: ns.fd, mtu: segment.mtu },
      });
      u.setLink(port.index, { up: true, ...offload });
    });
    RtNetlink.with(ns, (nl) => {
      nl.setLink('lo', { up: true });
      const eth0 = nl.mustLink('eth0');
      nl.setLink(eth0.index, { up: true, ...offload });
      for (const [i, f] of familiesOf(config).entries()) {
        const [prefix, gw] = i === 0 ? [segment.prefix, segment.gateway] : [f.prefix, f.gateway];
        nl.addAddr({ index: eth0.index, address: nodeAddresses(node)[i]!, prefix });
        nl.addRoute({ dst: f.beyond.any, gateway: gw, index: eth0.index });
      }
    });
    // Like a fresh machine: the agent turns forwarding on, not the lab.
    writeSysctl(ns, `net.ipv4.conf.${sysctlDevice('eth0')}.forwarding`, '0');
  } finally {
    ns.close();
    underlay.close();
  }
}

/** Takes a node's cable out of the switch; absent is success. */
export function unplugNode(layout: LabLayout, config: LabConfig, { node, port }: { readonly node: LabNode; readonly port: number }): void {
  const underlay = switchOf(layout, config, node);
  try {
    RtNetlink.with(underlay, (u) => u.deleteLink(portName(port)));
  } finally {
    underlay.close();
  }
}
