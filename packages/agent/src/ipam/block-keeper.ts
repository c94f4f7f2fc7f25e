/**
 * Claims blocks for this node and gives them back: the shell around blocks.ts. What it knows of the cluster it has
 * from a watch; whether a block is free the API alone decides.
 */
import { cidrContains, formatCidr, type Cidr, type Ip } from '@podway/cni';
import { isPodwayError } from '@podway/errors';
import { IPBlocks, IPPools, type IPBlock, type IPPool, type Node, type ObjectClient } from '@podway/kube';
import type { AgentEvent } from '../events.js';
import { blockName, nextBlock, ownedBlocks, usablePools, type OwnedBlock } from './blocks.js';

export interface BlockKeeperOptions {
  readonly node: string;
  readonly client: ObjectClient;
  readonly clusterCidrs: readonly string[];
  readonly emit: (e: AgentEvent) => void;
  /** Something that other parts must know has changed. */
  readonly changed: () => void;
  /** How long a block without pods is kept: the next pods come soon in many clusters. */
  readonly idleMs?: number;
}

const IDLE_MS = 60_000;

export class BlockKeeper {
  readonly #o: BlockKeeperOptions;
  readonly #pools = new Map<string, IPPool>();
  readonly #blocks = new Map<string, IPBlock>();
  /** When a block of ours was last seen in use. */
  readonly #used = new Map<string, number>();
  readonly #stops: (() => void)[];
  #unsynced = 2;
  #claiming: Promise<boolean> | undefined;
  #problems = '';

  constructor(o: BlockKeeperOptions) {
    this.#o = o;
    const follow = <T extends IPPool | IPBlock>(into: Map<string, T>) => ({
      event: (type: string, object: T): void => {
        const name = object.metadata?.name ?? '';
        if (type === 'DELETED') into.delete(name);
        else into.set(name, object);
        if (this.#unsynced === 0) o.changed();
      },
      synced: (): void => {
        if (this.#unsynced > 0 && --this.#unsynced === 0) o.changed();
      },
    });
    this.#stops = [o.client.watch(IPPools, {}, follow(this.#pools)), o.client.watch(IPBlocks, {}, follow(this.#blocks))];
  }

  get synced(): boolean {
    return this.#unsynced === 0;
  }

  all(): readonly IPBlock[] {
    return [...this.#blocks.values()];
  }

  own(): OwnedBlock[] {
    return ownedBlocks(this.#blocks.values()).filter((b) => b.node === this.#o.node);
  }

  /** Who holds the block that this address is in. */
  ownerOf(ip: Ip): OwnedBlock | undefined {
    return ownedBlocks(this.#blocks.values()).find((b) => cidrContains(b.cidr, ip));
  }

  /**
   * One block more of a family. Callers at the same time share one: twenty pods that find no address need not twenty blocks.
   * @returns false when no pool has one for this node
   */
  claim(node: Node, family: 4 | 6, wanted?: Ip): Promise<boolean> {
    this.#claiming ??= this.#claim(node, family, wanted).finally(() => (this.#claiming = undefined));
    return this.#claiming;
  }

  async #claim(node: Node, family: 4 | 6, wanted?: Ip): Promise<boolean> {
    const { pools, problems } = usablePools([...this.#pools.values()], this.#o.clusterCidrs);
    const said = JSON.stringify(problems);
    if (said !== this.#problems) for (const p of problems) this.#o.emit({ type: 'failed', doing: `use IP pool ${p.pool}`, error: p.reason });
    this.#problems = said;
    const lost: Cidr[] = [];
    for (;;) {
      const taken = [...ownedBlocks(this.#blocks.values()).map((b) => b.cidr), ...lost];
      const next = nextBlock(pools, taken, node, family, wanted);
      if (!next) return false;
      const cidr = formatCidr(next.cidr);
      const name = blockName(next.cidr);
      const { uid } = node.metadata ?? {};
      try {
        const made = await this.#o.client.create(IPBlocks, {
          apiVersion: 'podway.io/v1alpha1', kind: 'IPBlock',
          // With the Node its blocks go.
          metadata: { name, ...(uid === undefined ? {} : { ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name: this.#o.node, uid }] }) },
          spec: { cidr, node: this.#o.node, pool: next.pool, claimed: this.#later() },
        });
        this.#blocks.set(name, made);
        this.#used.set(name, performance.now());
        this.#o.emit({ type: 'block-claimed', cidr, pool: next.pool });
        this.#o.changed();
        return true;
      } catch (e) {
        // Another node was faster, and the watch has not told yet.
        if (!isPodwayError(e, 'KUBE_ALREADY_EXISTS') && !isPodwayError(e, 'KUBE_CONFLICT')) throw e;
        lost.push(next.cidr);
      }
    }
  }

  /** The present, but always after the last block of ours, however the clock is set. */
  #later(): string {
    const last = Math.max(0, ...this.own().map((b) => Date.parse(b.object.spec?.claimed ?? '') || 0));
    return new Date(Math.max(Date.now(), last + 1)).toISOString();
  }

  /** Blocks without pods for a while, but for the first of each family, which carries the node's own addresses. */
  idle(inUse: (cidr: Cidr) => boolean): OwnedBlock[] {
    const now = performance.now();
    const seen = new Set<number>();
    return this.own().filter((b) => {
      const name = b.object.metadata?.name ?? '';
      const first = !seen.has(b.cidr.family);
      seen.add(b.cidr.family);
      if (inUse(b.cidr) || !this.#used.has(name)) this.#used.set(name, now);
      return !first && now - this.#used.get(name)! >= (this.#o.idleMs ?? IDLE_MS);
    });
  }

  /** The caller gives no address of it any more. */
  async release(block: OwnedBlock): Promise<void> {
    const { name = '', uid } = block.object.metadata ?? {};
    this.#blocks.delete(name);
    try {
      await this.#o.client.delete(IPBlocks, { name }, uid === undefined ? {} : { uid });
      this.#o.emit({ type: 'block-released', cidr: formatCidr(block.cidr) });
    } catch (e) {
      if (isPodwayError(e, 'KUBE_NOT_FOUND')) return;
      this.#blocks.set(name, block.object);
      throw e;
    } finally {
      this.#o.changed();
    }
  }

  close(): void {
    for (const stop of this.#stops) stop();
  }
}

