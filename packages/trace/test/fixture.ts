/**
 * A cluster of namespaces as the lab builds it, without the lab: nodes with bridge `cni0` and VTEP `flannel.1`,
 * pods on veth pairs, an underlay switch. Nameless namespaces: they go when the process ends, however it ends.
 */
import {
  addFdbRequest, addNeighRequest, addRouteRequest, Netns, ProbeSocket, RtNetlink, writeSysctl, type Request,
} from '@podway/kernel';
import { readWorld, rereadWorld, type ReadWorld } from '../src/live.js';
import type { World } from '../src/world.js';

export interface FixtureOptions {
  readonly nodes?: number;
  readonly podsPerNode?: number;
  readonly uplinkMtu?: number;
  readonly podMtu?: number;
  /** ptp: no bridge but a route to each pod; the gateway is an address of the host end, or 169.254.1.1 by proxy ARP. */
  readonly wiring?: 'bridge' | 'ptp' | 'ptp link-local';
}

interface Member {
  readonly name: string;
  readonly ns: Netns;
  readonly address: string;
}

export interface PodMember extends Member {
  readonly node: string;
  readonly veth: string;
  readonly mac: string;
}

export interface NodeMember extends Member {
  readonly vtepMac: string;
  readonly subnet: string;
}

const hex = (n: number): string => n.toString(16).padStart(2, '0');
export const podMac = (address: string): string => ['0a', '58', ...address.split('.').map((p) => hex(Number(p)))].join(':');

/** A port begins to forward when its carrier is noticed, which the kernel may take a second for on a busy machine. */
function settled(ns: Netns): void {
  const end = Date.now() + 5000;
  const waits = (): boolean => RtNetlink.with(ns, (nl) => nl.links().some((l) => l.master !== undefined && l.port?.state !== 'forwarding'));
  while (waits() && Date.now() < end) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}

export class Cluster {
  readonly nodes: NodeMember[] = [];
  readonly pods: PodMember[] = [];
  readonly switch = Netns.createNameless('underlay');
  private readonly closers: (() => void)[] = [];
  private taken: ReadWorld | undefined;
  private readonly wiring: NonNullable<FixtureOptions['wiring']>;

  private constructor(o: FixtureOptions) {
    this.wiring = o.wiring ?? 'bridge';
    const count = o.nodes ?? 2;
    const uplinkMtu = o.uplinkMtu ?? 1500;
    const podMtu = o.podMtu ?? uplinkMtu - 50;
    const bridge = RtNetlink.with(this.switch, (nl) => {
      const link = nl.createLink({ name: 'br0', kind: 'bridge' });
      nl.setLink('lo', { up: true });
      nl.setLink('br0', { up: true });
      return link.index;
    });
    for (let n = 0; n < count; n++) {
      const ns = Netns.createNameless(`m${n + 1}`);
      this.nodes.push({ name: `m${n + 1}`, ns, address: `172.18.0.${n + 2}`, vtepMac: `0e:50:57:00:00:${hex(n + 1)}`, subnet: `10.244.${n}` });
      RtNetlink.with(this.switch, (nl) => {
        nl.createLink({ name: `m${n + 1}`, kind: 'veth', mtu: uplinkMtu, master: bridge, peer: { name: 'eth0', netnsFd: ns.fd, mtu: uplinkMtu } });
        nl.setLink(`m${n + 1}`, { up: true });
      });
    }
    this.nodes.forEach((node) => this.buildNode(node, podMtu));
    for (const node of this.nodes) for (let p = 0; p < (o.podsPerNode ?? 1); p++) this.addPod(node, `pod-${node.name}-${'abcdef'[p]}`, `${node.subnet}.${p + 2}`, podMtu);
    for (const ns of [this.switch, ...this.nodes.map((n) => n.ns)]) settled(ns);
  }

  static create(o: FixtureOptions = {}): Cluster {
    return new Cluster(o);
  }

  private buildNode(node: NodeMember, podMtu: number): void {
    writeSysctl(node.ns, 'net.ipv4.ip_forward', '1');
    RtNetlink.with(node.ns, (nl) => {
      nl.setLink('lo', { up: true });
      nl.addAddr({ index: nl.mustLink('eth0').index, address: node.address, prefix: 16 });
      nl.setLink('eth0', { up: true });
      if (this.wiring === 'bridge') {
        const cni0 = nl.createLink({ name: 'cni0', kind: 'bridge', mtu: podMtu, address: podMac(`${node.subnet}.1`) });
        nl.addAddr({ index: cni0.index, address: `${node.subnet}.1`, prefix: 24 });
        nl.setLink('cni0', { up: true });
      } else {
        nl.addRoute({ dst: '169.254.1.1/32', index: nl.mustLink('eth0').index });
        nl.addRoute({ dst: `${node.subnet}.0/24`, type: 'blackhole', metric: 4096 });
      }
      const vtep = nl.createLink({
        name: 'flannel.1', kind: 'vxlan', mtu: podMtu, address: node.vtepMac,
        vxlan: { id: 1, port: 8472, local: node.address, link: nl.mustLink('eth0').index, learning: false },
      });
      nl.addAddr({ index: vtep.index, address: `${node.subnet}.0`, prefix: 32 });
      nl.setLink('flannel.1', { up: true });
      const requests: Request[] = this.nodes.filter((p) => p !== node).flatMap((peer) => [
        addNeighRequest({ index: vtep.index, dst: `${peer.subnet}.0`, lladdr: peer.vtepMac }),
        addFdbRequest({ index: vtep.index, lladdr: peer.vtepMac, dst: peer.address }),
        addRouteRequest({ dst: `${peer.subnet}.0/24`, gateway: `${peer.subnet}.0`, index: vtep.index, onlink: true }),
      ]);
      const [refusal] = nl.batch(requests);
      if (refusal) throw refusal.error;
    });
  }

  addPod(node: NodeMember, name: string, address: string, mtu: number): PodMember {
    const ns = Netns.createNameless(name);
    const veth = `veth${this.pods.length.toString(16).padStart(8, '0')}`;
    const mac = podMac(address);
    if (this.wiring !== 'bridge') {
      this.wirePtp(node, ns, veth, address, mtu);
      const made = { name, ns, address, node: node.name, veth, mac };
      this.pods.push(made);
      return made;
    }
    RtNetlink.with(node.ns, (nl) => {
      nl.createLink({ name: veth, kind: 'veth', mtu, master: nl.mustLink('cni0').index, peer: { name: 'eth0', netnsFd: ns.fd, mtu, address: mac } });
      nl.setLink(veth, { up: true });
    });
    RtNetlink.with(ns, (nl) => {
      const index = nl.mustLink('eth0').index;
      nl.setLink('lo', { up: true });
      nl.addAddr({ index, address, prefix: 24 });
      nl.setLink('eth0', { up: true });
      nl.addRoute({ dst: '0.0.0.0/0', gateway: `${node.subnet}.1`, index });
      nl.addRoute({ dst: '10.244.0.0/16', gateway: `${node.subnet}.1`, index });
    });
    const pod = { name, ns, address, node: node.name, veth, mac };
    this.pods.push(pod);
    return pod;
  }

  private wirePtp(node: NodeMember, ns: Netns, veth: string, address: string, mtu: number): void {
    const linkLocal = this.wiring === 'ptp link-local';
    const gateway = linkLocal ? '169.254.1.1' : `${node.subnet}.1`;
    RtNetlink.with(node.ns, (nl) => {
      const host = nl.createLink({ name: veth, kind: 'veth', mtu, peer: { name: 'eth0', netnsFd: ns.fd, mtu, address: podMac(address) } });
      nl.setLink(veth, { up: true });
      if (!linkLocal) nl.addAddr({ index: host.index, address: gateway, prefix: 32 });
      nl.addRoute({ dst: `${address}/32`, index: host.index, scope: linkLocal ? 'link' : 'host' });
    });
    if (linkLocal) {
      writeSysctl(node.ns, `net.ipv4.conf.${veth}.proxy_arp`, '1');
      writeSysctl(node.ns, `net.ipv4.neigh.${veth}.proxy_delay`, '0');
    }
    RtNetlink.with(ns, (nl) => {
      const { index } = nl.mustLink('eth0');
      nl.setLink('lo', { up: true });
      nl.addAddr({ index, address, prefix: linkLocal ? 32 : 24, noPrefixRoute: true });
      nl.setLink('eth0', { up: true });
      nl.addRoute({ dst: `${gateway}/32`, index, scope: 'link', prefsrc: address });
      nl.addRoute({ dst: '0.0.0.0/0', gateway, index });
    });
  }

  pod(name: string): PodMember {
    const pod = this.pods.find((p) => p.name === name);
    if (!pod) throw new Error(`no pod ${name}`);
    return pod;
  }

  node(name: string): NodeMember {
    const node = this.nodes.find((n) => n.name === name);
    if (!node) throw new Error(`no node ${name}`);
    return node;
  }

  /** A socket that takes what comes to a port. */
  serve(ns: Netns, proto: 'tcp' | 'udp', port: number): void {
    const s = ProbeSocket.open(ns, proto, { sourcePort: port });
    if (proto === 'tcp') s.listen();
    this.closers.push(() => s.close());
  }

  /** Changes something in a namespace through netlink. */
  change(ns: Netns, work: (nl: RtNetlink) => void): void {
    RtNetlink.with(ns, work);
  }

  /** Reads everything; again, when it was read before. */
  read(): ReadWorld {
    if (this.taken) {
      const world: World = rereadWorld(this.taken);
      return (this.taken = { world, live: this.taken.live });
    }
    return (this.taken = readWorld({
      nodes: this.nodes.map((n) => ({ name: n.name, addresses: [n.address], podCIDRs: [`${n.subnet}.0/24`], netns: n.ns })),
      pods: this.pods.map((p) => ({ namespace: 'default', name: p.name, node: p.node, ips: [p.address], netns: p.ns })),
      underlay: [{ name: 'underlay', role: 'switch' as const, netns: this.switch }],
    }));
  }

  close(): void {
    for (const close of this.closers) close();
    for (const m of [...this.pods, ...this.nodes]) m.ns.close();
    this.switch.close();
  }
}
