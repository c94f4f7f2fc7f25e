/**
 * Racks in the kernel: a namespace per router with the rack's switch in it, cables to the core, tunnels between sites.
 *
 * The routers forward as routers do: every one takes one from the TTL, fragments what it may and answers what it may not
 * (ICMP "fragmentation needed"). A switch that passes less than its ports' owners think drops frames without a word: that
 * is what `switchMTU` makes.
 *
 * Why VXLAN for the tunnel: a point-to-point VXLAN device is in every kernel, has headers of its own and a smaller MTU, and
 * carries packets from site to site over a network that knows nothing of them. It does not encrypt.
 */
import { Netns, RtNetlink, writeSysctl } from '@podway/kernel';
import type { LabConfig } from './config.js';
import type { LabLayout } from './layout.js';
import { CORE, CORE_NAME, routerName, TUNNEL_OVERHEAD, type LabRack, type LabTunnel } from './racks.js';

export const SWITCH = 'br0';
const TUNNEL_PORT = 4789;
const ANYWHERE = '0.0.0.0/0';

const alias = (layout: LabLayout, what: string): string => `podway: lab ${layout.name} ${what}`;
/** Within 15 characters, and a name of a rack has 8. */
const cable = (rack: string): string => `to-${rack}`;
const tunnelDevice = (i: number): string => `tunnel${i}`;

/** The routers of all racks, cabled to the core, which is there. @throws NETNS_EXISTS when the lab's names are taken. */
export function createRacks(layout: LabLayout, config: LabConfig): void {
  const core = Netns.open({ name: layout.netns(CORE_NAME) });
  try {
    RtNetlink.with(core, (nl) => nl.addAddr({ index: nl.mustLink('lo').index, address: CORE.api, prefix: 32 }));
    for (const rack of config.underlay.racks) createRack(layout, core, rack);
    config.underlay.tunnels.forEach((t, i) => createTunnel(layout, config, t, i));
  } finally {
    core.close();
  }
}

/** A switch with the router's own address on it. */
export function createSwitch(nl: RtNetlink, o: { readonly mtu: number; readonly alias: string; readonly address: string; readonly prefix: number }): void {
  // An MTU that was never changed follows that of the ports; the router's own side must not.
  const { index } = nl.createLink({ kind: 'bridge', name: SWITCH, mtu: o.mtu - 1, alias: o.alias, bridge: { stpState: 0 } });
  nl.setLink(index, { mtu: o.mtu, up: true });
  nl.addAddr({ index, address: o.address, prefix: o.prefix });
}

function createRack(layout: LabLayout, core: Netns, rack: LabRack): void {
  const { link } = rack;
  const router = Netns.create(layout.netns(routerName(rack.name)));
  try {
    RtNetlink.with(router, (nl) => {
      nl.setLink('lo', { up: true });
      createSwitch(nl, { mtu: rack.mtu, alias: alias(layout, `switch of rack ${rack.name}`), address: rack.gateway, prefix: rack.prefix });
    });
    RtNetlink.with(core, (nl) => {
      const end = nl.createLink({
        kind: 'veth', name: cable(rack.name), mtu: link.mtu, alias: alias(layout, `cable to rack ${rack.name}`), peer: { name: 'core0', netnsFd: router.fd, mtu: link.mtu },
      });
      nl.setLink(end.index, { up: true });
      nl.addAddr({ index: end.index, address: link.far, prefix: link.prefix });
      RtNetlink.with(router, (r) => {
        const { index } = r.mustLink('core0');
        r.setLink(index, { up: true });
        r.addAddr({ index, address: link.near, prefix: link.prefix });
        r.addRoute({ dst: ANYWHERE, gateway: link.far, index });
      });
      nl.addRoute({ dst: rack.subnet, gateway: link.near, index: end.index });
    });
    writeSysctl(router, 'net.ipv4.ip_forward', '1');
  } finally {
    router.close();
  }
}

function createTunnel(layout: LabLayout, config: LabConfig, { between, link }: LabTunnel, i: number): void {
  const rackOf = (name: string): LabRack => config.underlay.racks.find((r) => r.name === name)!;
  const [a, b] = [rackOf(between[0]), rackOf(between[1])];
  for (const [here, there, own, other] of [[a, b, link.near, link.far], [b, a, link.far, link.near]] as const) {
    const router = Netns.open({ name: layout.netns(routerName(here.name)) });
    try {
      RtNetlink.with(router, (nl) => {
        const device = nl.createLink({
          kind: 'vxlan', name: tunnelDevice(i), mtu: link.mtu, alias: alias(layout, `tunnel to rack ${there.name}, ${TUNNEL_OVERHEAD} bytes of headers`),
          vxlan: { id: 100 + i, port: TUNNEL_PORT, local: here.link.near, group: there.link.near, learning: true, link: nl.mustLink('core0').index },
        });
        nl.setLink(device.index, { up: true });
        nl.addAddr({ index: device.index, address: own, prefix: link.prefix });
        nl.addRoute({ dst: there.subnet, gateway: other, index: device.index });
      });
    } finally {
      router.close();
    }
  }
}
