/**
 * The underlay: a namespace that plays switch and router, and an `outside` host beyond it.
 *
 *   node eth0 ─── port of br0 (switch)  172.18.0.1/16 (router)  outside0 ─── eth0 of `outside`
 *
 * `outside` stands for the internet: it has a public test address (RFC 5737) and answers for
 * 8.8.8.8 as well. It has no route to pod ranges: what is not masqueraded gets no answer, as
 * in the world.
 */
import { Netns, RtNetlink, sysctlDevice, writeSysctl } from '@podway/kernel';
import type { LabConfig, LabNode } from './config.js';
import type { LabLayout } from './layout.js';

const SWITCH = 'br0';
const OUTSIDE_NET = { router: '203.0.113.1', outside: '203.0.113.10', prefix: 24 } as const;
export const OUTSIDE_ADDRESS = OUTSIDE_NET.outside;
/** The stand-in for the internet's best-known address. */
export const INTERNET_ADDRESS = '8.8.8.8';
const alias = (layout: LabLayout, what: string) => `podway: lab ${layout.name} ${what}`;

/** Creates both namespaces. @throws NETNS_EXISTS when the lab's names are taken. */
export function createUnderlay(layout: LabLayout, config: LabConfig): void {
  const underlay = Netns.create(layout.netns('underlay'));
  const outside = Netns.create(layout.netns('outside'));
  try {
    RtNetlink.with(underlay, (nl) => {
      nl.setLink('lo', { up: true });
      const bridge = nl.createLink({ kind: 'bridge', name: SWITCH, mtu: config.underlay.mtu, alias: alias(layout, 'switch'), bridge: { stpState: 0 } });
      nl.setLink(bridge.index, { up: true });
      nl.addAddr({ index: bridge.index, address: config.underlay.gateway, prefix: config.underlay.prefix });
      const out = nl.createLink({ kind: 'veth', name: 'outside0', alias: alias(layout, 'link to outside'), peer: { name: 'eth0', netnsFd: outside.fd } });
      nl.setLink(out.index, { up: true });
      RtNetlink.with(outside, (o) => {
        o.setLink('lo', { up: true });
        o.setLink('eth0', { up: true });
        o.addAddr({ index: o.mustLink('eth0').index, address: OUTSIDE_NET.outside, prefix: OUTSIDE_NET.prefix });
        o.addAddr({ index: o.mustLink('lo').index, address: INTERNET_ADDRESS, prefix: 32 });
        o.addRoute({ dst: config.underlay.subnet, gateway: OUTSIDE_NET.router, index: o.mustLink('eth0').index });
      });
      nl.addAddr({ index: out.index, address: OUTSIDE_NET.router, prefix: OUTSIDE_NET.prefix });
      nl.addRoute({ dst: '0.0.0.0/0', gateway: OUTSIDE_NET.outside, index: out.index });
    });
    writeSysctl(underlay, 'net.ipv4.ip_forward', '1');
  } finally {
    underlay.close();
    outside.close();
  }
}

/** Port names stay within 15 bytes and are still told apart. */
export const portName = (index: number): string => `port${index + 1}`;

/** A node's namespace with its uplink, plugged into the switch. */
export function createNodeNetns(layout: LabLayout, config: LabConfig, { node, port: position }: { readonly node: LabNode; readonly port: number }): void {
  const underlay = Netns.open({ name: layout.netns('underlay') });
  const ns = Netns.create(layout.netns(node.name));
  try {
    RtNetlink.with(underlay, (u) => {
      const port = u.createLink({
        kind: 'veth', name: portName(position), mtu: config.underlay.mtu, master: u.mustLink(SWITCH).index, alias: alias(layout, `cable to node ${node.name}`),
        peer: { name: 'eth0', netnsFd: ns.fd, mtu: config.underlay.mtu },
      });
      u.setLink(port.index, { up: true });
    });
    RtNetlink.with(ns, (nl) => {
      nl.setLink('lo', { up: true });
      const eth0 = nl.mustLink('eth0');
      nl.setLink(eth0.index, { up: true });
      nl.addAddr({ index: eth0.index, address: node.address, prefix: config.underlay.prefix });
      nl.addRoute({ dst: '0.0.0.0/0', gateway: config.underlay.gateway, index: eth0.index });
    });
    // Like a fresh machine: the agent turns forwarding on, not the lab.
    writeSysctl(ns, `net.ipv4.conf.${sysctlDevice('eth0')}.forwarding`, '0');
  } finally {
    ns.close();
    underlay.close();
  }
}

/** Takes a node's cable out of the switch; absent is success. */
export function unplugNode(layout: LabLayout, port: number): void {
  const underlay = Netns.open({ name: layout.netns('underlay') });
  try {
    RtNetlink.with(underlay, (u) => u.deleteLink(portName(port)));
  } finally {
    underlay.close();
  }
}
