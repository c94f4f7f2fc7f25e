/**
 * Puts the host ports of one attachment into the kernel and takes them out: one nftables transaction of
 * elements each way, about half a millisecond whatever the number of mappings and pods.
 *
 * UDP needs one thing more. NAT is decided with the first packet of a flow, and a UDP flow lasts as long
 * as its packets come: one that began before the mapping would go on past it, and one that began under
 * it would go on to an address that nobody has any more, or soon another pod. Their conntrack entries go.
 */
import { messageOf } from '@podway/errors';
import { Conntrack, Nftables, type Netns, type NftCommand, type RtNetlink } from '@podway/kernel';
import type { AttachmentRecord } from '../ipam/index.js';
import { elementsOf, hairpinRanges, intervalOf, namesOf, WHERE, type Element, type Family } from './table.js';

const UDP = 17;

export interface HostPortContext {
  readonly node: Netns;
  readonly netlink: RtNetlink;
  /** Families that pods have. */
  families(): readonly Family[];
  /** Puts the whole table as it must be, with all attachments: when it was altered or taken away. */
  mend(why: string): void;
}

export class HostPorts {
  private nft: Nftables | undefined;

  constructor(private readonly c: HostPortContext) {}

  close(): void {
    this.nft?.close();
    this.nft = undefined;
  }

  private run(commands: readonly NftCommand[]): void {
    this.nft ??= Nftables.open(this.c.node);
    this.nft.run(commands);
  }

  /** @throws PodwayError NFT_REFUSED, NFT_MISSING. All mappings are in force, or none. */
  add(r: AttachmentRecord): void {
    if (!r.hostPorts?.length) return;
    const families = this.c.families();
    const commands = elementsOf(r, families).flatMap(({ family, elements }) => elementCommands('add', family, elements));
    if (r.chained) {
      for (const family of families) {
        const elem = hairpinRanges([], [r], family).map(intervalOf);
        if (elem.length) commands.push({ add: { element: { ...WHERE, name: namesOf(family).hairpin, elem } } });
      }
    }
    if (commands.length === 0) return;
    try {
      this.run(commands);
    } catch (e) {
      // Somebody flushed the table, or put another value there. The record stands already, so the table made anew has these as well.
      this.c.mend(messageOf(e));
    }
    this.forgetFlows(r, 'begun before');
  }

  /** What is not there is removed; an element with these keys that leads elsewhere is left. */
  remove(r: AttachmentRecord): void {
    const all = elementsOf(r, this.c.families());
    if (all.length === 0) return;
    try {
      // Added first: deleting what is not there would undo the whole transaction.
      this.run(all.flatMap(({ family, elements }) => [...elementCommands('add', family, elements), ...elementCommands('delete', family, elements)]));
    } catch {
      this.removeFound(all);
    }
    this.forgetFlows(r, 'translated');
  }

  /** One by one, what is ours of it: for a table that somebody altered. */
  private removeFound(all: ReturnType<typeof elementsOf>): void {
    for (const { family, elements } of all) {
      for (const e of elements) {
        try {
          this.run([...elementCommands('add', family, [e]), ...elementCommands('delete', family, [e])]);
        } catch {
          // No such table, or the key leads elsewhere: nothing of ours is there.
        }
      }
    }
  }

  private forgetFlows(r: AttachmentRecord, which: 'translated' | 'begun before'): void {
    const ports = r.hostPorts?.filter((p) => p.protocol === 'udp') ?? [];
    if (ports.length === 0) return;
    const own = new Set(r.ips.map((i) => i.address.split('/')[0]));
    Conntrack.with(this.c.node, (ct) => {
      if (which === 'translated') {
        for (const p of ports) for (const address of own) {
          if (address !== undefined) ct.deleteMatching({ protocol: UDP, dport: p.hostPort, replySrc: address, replySport: p.containerPort });
        }
        return;
      }
      const here = new Set(this.c.netlink.addrs().map((a) => a.address));
      for (const p of ports) {
        for (const e of ct.list({ protocol: UDP, dport: p.hostPort })) {
          const ours = here.has(e.orig.dst) && (p.hostIp === undefined || p.hostIp === e.orig.dst);
          if (ours && e.reply.src === e.orig.dst) ct.delete(e);
        }
      }
    });
  }
}

function elementCommands(verb: 'add' | 'delete', family: Family, elements: readonly Element[]): NftCommand[] {
  const { map, port } = namesOf(family);
  return [
    { [verb]: { element: { ...WHERE, name: map, elem: elements.map((e) => [e.key, e.address]) } } },
    { [verb]: { element: { ...WHERE, name: port, elem: elements.map((e) => [e.key, e.port]) } } },
  ];
}
