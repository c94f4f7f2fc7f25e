/**
 * The underlay: a namespace that plays switch and router, and an `outside` host beyond it.
 *
 *   node eth0 ─── port of br0 (switch)  172.18.0.1/16 (router)  outside0 ─── eth0 of `outside`
 *
 * `outside` stands for the internet: it has a public test address (RFC 5737, RFC 3849) and answers for
 * 8.8.8.8 and 2001:4860:4860::8888 as well. It has no route to pod ranges: what is not masqueraded gets no answer, as
 * in the world.
 */
import { Netns, RtNetlink, sysctlDevice, writeSysctl } from '@podway/kernel';
import { nodeAddresses, type LabConfig, type LabNode } from './config.js';
import type { LabLayout } from './layout.js';

const SWITCH = 'br0';
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

/** Creates both namespaces. @throws NETNS_EXISTS when the lab's names are taken. */
export function createUnderlay(layout: LabLayout, config: LabConfig): void {
  const underlay = Netns.create(layout.netns('underlay'));
  const outside = Netns.create(layout.netns('outside'));
  try {
    RtNetlink.with(underlay, (nl) => {
      nl.setLink('lo', { up: true });
      const bridge = nl.createLink({ kind: 'bridge', name: SWITCH, mtu: config.underlay.mtu, alias: alias(layout, 'switch'), bridge: { stpState: 0 } });
      nl.setLink(bridge.index, { up: true });
      for (const f of familiesOf(config)) nl.addAddr({ index: bridge.index, address: f.gateway, prefix: f.prefix });
      const out = nl.createLink({ kind: 'veth', name: 'outside0', alias: alias(layout, 'link to outside'), peer: { name: 'eth0', netnsFd: outside.fd } });
      nl.setLink(out.index, { up: true });
      RtNetlink.with(outside, (o) => {
        o.setLink('lo', { up: true });
        o.setLink('eth0', { up: true });
        const [eth0, lo] = [o.mustLink('eth0').index, o.mustLink('lo').index];
        for (const { subnet, beyond } of familiesOf(config)) {
          o.addAddr({ index: eth0, address: beyond.outside, prefix: beyond.prefix });
          o.addAddr({ index: lo, address: beyond.internet, prefix: beyond.internetPrefix });
          o.addRoute({ dst: subnet, gateway: beyond.router, index: eth0 });
        }
      });
      for (const { beyond } of familiesOf(config)) {
        nl.addAddr({ index: out.index, address: beyond.router, prefix: beyond.prefix });
        nl.addRoute({ dst: beyond.any, gateway: beyond.outside, index: out.index });
      }
    });
    writeSysctl(underlay, 'net.ipv4.ip_forward', '1');
    if (familiesOf(config).some((f) => f.beyond === OUTSIDE.ipv6)) writeSysctl(underlay, 'net.ipv6.conf.all.forwarding', '1');
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
      for (const [i, f] of familiesOf(config).entries()) {
        nl.addAddr({ index: eth0.index, address: nodeAddresses(node)[i]!, prefix: f.prefix });
        nl.addRoute({ dst: f.beyond.any, gateway: f.gateway, index: eth0.index });
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
export function unplugNode(layout: LabLayout, port: number): void {
  const underlay = Netns.open({ name: layout.netns('underlay') });
  try {
    RtNetlink.with(underlay, (u) => u.deleteLink(portName(port)));
  } finally {
    underlay.close();
  }
}
