/** Where a node's address ranges come from when the cluster has pools: blocks, claimed as they are needed and given back when they are not. */
import { cidrContains, cidrSize, formatCidr, parseCidr, type Cidr, type Ip } from '@podway/cni';
import { messageOf } from '@podway/errors';
import { IPBlocks, IPPools, Nodes, type Node, type ObjectClient } from '@podway/kube';
import type { AgentEvent } from '../events.js';
import { BlockKeeper, setsOfPodCidrs, withBlocks, type Ipam } from '../ipam/index.js';
import { podCidrsOf } from './peers.js';

export interface AddressPoolsOptions {
  readonly node: string;
  readonly client: ObjectClient;
  readonly clusterCidrs: readonly string[];
  readonly ipam: Ipam;
  readonly emit: (e: AgentEvent) => void;
  readonly changed: () => void;
  readonly idleMs?: number;
}

/** Podway's own of a block: network (the VTEP's), gateway and, in IPv4, broadcast. */
const OWN_ADDRESSES = { 4: 3n, 6: 2n } as const;

const TEND_MS = 500;

export class AddressPools {
  private readonly keeper: BlockKeeper;
  private readonly told = new Map<string, string>();

  constructor(private readonly o: AddressPoolsOptions) {
    this.keeper = new BlockKeeper(o);
  }

  /** Nodes as the rest of the agent knows them: their ranges are their blocks. */
  nodes(nodes: Iterable<Node>): Node[] {
    return withBlocks([...nodes], this.keeper.all());
  }

  /** A first block of each family. @returns in words, why there is none; undefined when there is */
  async ensure(self: Node): Promise<string | undefined> {
    if (!this.keeper.synced) return 'the blocks of the cluster are not known yet';
    for (const family of new Set(this.o.clusterCidrs.map((c) => parseCidr(c).family))) {
      if (this.keeper.own().some((b) => b.cidr.family === family)) continue;
      if (!(await this.keeper.claim(self, family))) return `no IP pool has an IPv${family} block left for node ${this.o.node}`;
    }
    return undefined;
  }

  /** For an ADD that found no address, or wants one in a block that nobody has. */
  async grow(self: Node, wanted: readonly Ip[]): Promise<boolean> {
    let grown = false;
    if (wanted.length) for (const ip of wanted) grown = (await this.keeper.claim(self, ip.family, ip)) || grown;
    // Another ADD may have grown it while this one waited.
    else for (const family of this.o.ipam.full()) grown = (await this.keeper.claim(self, family)) || grown;
    return grown || (wanted.length === 0 && this.o.ipam.full().length === 0);
  }

  /** Whose block an address is in, in words. */
  whose(ip: Ip): string | undefined {
    const block = this.keeper.ownerOf(ip);
    return block && `block ${formatCidr(block.cidr)} of node ${block.node}`;
  }

  /** Gives back what no pod needs, and tells how much of the rest is used. */
  async tend(): Promise<void> {
    try {
      for (const block of this.keeper.idle((c) => this.o.ipam.heldIn(c) > 0)) {
        // First no address of it is given any more, then it is looked at again: an ADD may have been faster.
        const rest = this.keeper.own().filter((b) => b !== block).map((b) => formatCidr(b.cidr));
        this.o.ipam.setRanges(setsOfPodCidrs(rest));
        if (this.o.ipam.heldIn(block.cidr) > 0) this.o.ipam.setRanges(setsOfPodCidrs(this.keeper.own().map((b) => formatCidr(b.cidr))));
        else await this.keeper.release(block);
      }
      for (const { cidr, object } of this.keeper.own()) await this.tell(object.metadata?.name ?? '', cidr);
    } catch (e) {
      this.o.emit({ type: 'failed', doing: 'tend the blocks of this node', error: messageOf(e) });
    }
  }

  /** A moment after something changed, once for many. @param queue does it among the other work on the node */
  tendSoon(queue: (work: () => Promise<void>) => void): void {
    this.tending ??= setTimeout(() => {
      this.tending = undefined;
      queue(() => this.tend());
    }, TEND_MS);
  }

  private tending: NodeJS.Timeout | undefined;

  private async tell(name: string, cidr: Cidr): Promise<void> {
    const used = this.o.ipam.heldIn(cidr);
    const free = Number(cidrSize(cidr) - OWN_ADDRESSES[cidr.family]) - used;
    const status = JSON.stringify({ used, free });
    if (this.told.get(name) === status) return;
    await this.o.client.patch(IPBlocks, { name }, { status: { used, free } }, { type: 'merge', subresource: 'status' });
    this.told.set(name, status);
  }

  close(): void {
    clearTimeout(this.tending);
    this.keeper.close();
  }
}

/** Whose range an address is in when nodes have the ranges of their objects. */
export function whoseRange(nodes: Iterable<Node>, ip: Ip): string | undefined {
  for (const n of nodes) {
    const range = podCidrsOf(n).find((c) => cidrContains(parseCidr(c), ip));
    if (range !== undefined) return `node ${n.metadata?.name ?? ''}, which has ${range}`;
  }
  return undefined;
}

/** The nodes of a cluster with the ranges they have, wherever these come from: for all that is no agent. */
export async function nodesWithRanges(client: ObjectClient): Promise<Node[]> {
  const [nodes, pools] = await Promise.all([client.list(Nodes), client.list(IPPools).catch(() => [])]);
  // Without a pool there are no blocks: one request less where it matters.
  return pools.length ? withBlocks(nodes, await client.list(IPBlocks)) : nodes;
}
