/**
 * The underlay: a namespace that plays switch and router, and an `outside` host beyond it. With racks the switches are in
 * the namespaces of their routers, and this one is the core between them: see rack-netns.ts.
 *
 *   node eth0 ─── port of br0 (switch)  172.18.0.1/16 (router)  outside0 ─── eth0 of `outside`
 *
 * `outside` stands for the internet: it has a public test address (RFC 5737) and answers for
 * 8.8.8.8 as well. It has no route to pod ranges: what is not masqueraded gets no answer, as
 * in the world. Where routers learn pod ranges by BGP it has: there pods can be reached from outside.
 */
import { Netns, RtNetlink, sysctlDevice, writeSysctl } from '@podway/kernel';
import type { LabConfig, LabNode } from './config.js';
import type { LabLayout } from './layout.js';
import { createRacks, createSwitch, SWITCH } from './rack-netns.js';
import { CORE, coreAsn, coreName, routerName, segmentOf } from './racks.js';

const OUTSIDE_NET = { router: '203.0.113.1', outside: '203.0.113.10', prefix: 24 } as const;
export const OUTSIDE_ADDRESS = OUTSIDE_NET.outside;
/** The stand-in for the internet's best-known address. */
export const INTERNET_ADDRESS = '8.8.8.8';
const alias = (layout: LabLayout, what: string) => `podway: lab ${layout.name} ${what}`;

/** Creates the namespaces of the underlay. @throws NETNS_EXISTS when the lab's names are taken. */
export function createUnderlay(layout: LabLayout, config: LabConfig): void {
  const { racks, subnet, gateway, prefix, mtu } = config.underlay;
  const core = Netns.create(layout.netns(coreName(config)));
  const outside = Netns.create(layout.netns('outside'));
  try {
    RtNetlink.with(core, (nl) => {
      nl.setLink('lo', { up: true });
      if (racks.length === 0) createSwitch(nl, { mtu, alias: alias(layout, 'switch'), address: gateway, prefix });
      const out = nl.createLink({ kind: 'veth', name: 'outside0', alias: alias(layout, 'link to outside'), peer: { name: 'eth0', netnsFd: outside.fd } });
      nl.setLink(out.index, { up: true });
      RtNetlink.with(outside, (o) => {
        o.setLink('lo', { up: true });
        o.setLink('eth0', { up: true });
        const { index } = o.mustLink('eth0');
        o.addAddr({ index, address: OUTSIDE_NET.outside, prefix: OUTSIDE_NET.prefix });
        o.addAddr({ index: o.mustLink('lo').index, address: INTERNET_ADDRESS, prefix: 32 });
        // Behind routers that learn pod ranges it asks them for these as well; those that do not know send it back.
        const ranges = racks.length ? [...new Set([...racks.map((r) => r.subnet), CORE.range, ...(coreAsn(config) === undefined ? [] : [config.network.clusterCIDR])])] : [subnet];
        for (const dst of ranges) o.addRoute({ dst, gateway: OUTSIDE_NET.router, index });
      });
      nl.addAddr({ index: out.index, address: OUTSIDE_NET.router, prefix: OUTSIDE_NET.prefix });
      nl.addRoute({ dst: '0.0.0.0/0', gateway: OUTSIDE_NET.outside, index: out.index });
    });
    writeSysctl(core, 'net.ipv4.ip_forward', '1');
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
      nl.addAddr({ index: eth0.index, address: node.address, prefix: segment.prefix });
      nl.addRoute({ dst: '0.0.0.0/0', gateway: segment.gateway, index: eth0.index });
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
