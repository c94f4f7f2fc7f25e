/**
 * Keeps the node's namespace as desired. Two ways: at a change of peers the difference between the
 * old and the new desired state is applied at once (a node that joins costs three requests, whatever
 * the size of the cluster); now and then, and after anything failed, the kernel itself is read and
 * compared, which also repairs what somebody else has altered.
 */
import type { Netns, RtNetlink } from '@podway/kernel';
import { ALIAS_PREFIX, apply, describe, deviceOfSysctl, diff, NFT_TABLE, nftTables, observe, podwayOwnership, withoutElements, type Applied, type Change, type Link, type NetnsState, type Secrets } from '@podway/netstate';
import type { AgentEvent } from '../events.js';
import { isManaged } from './addresses.js';

export class Reconciler {
  /** What was last applied without a failure; undefined when the kernel must be read first. */
  private applied: NetnsState | undefined;
  private lost = new Set<string>();

  constructor(
    private readonly ns: Netns,
    private readonly netlink: RtNetlink,
    private readonly clusterCidrs: readonly string[],
    private readonly emit: (e: AgentEvent) => void,
    /** Where WireGuard programs have their sockets, and the secrets that states only name. */
    private readonly wireguard: { readonly directory?: string; readonly secrets?: Secrets } = {},
  ) {}

  /** Makes these devices, and nothing else, and without what their program must set. */
  prepare(desired: NetnsState, devices: readonly string[]): void {
    const links = desired.links.filter((l) => devices.includes(l.name)).map(({ wireguard: _, ...l }) => l);
    this.run({ ...desired, links }, observe(this.ns, { nft: false }), desired, (c) => c.kind === 'link' && c.op !== 'delete' && devices.includes(c.key));
  }

  /** Reads the kernel, compares, applies. @returns the number of changes made. */
  full(desired: NetnsState): Applied {
    // The table of Services can be large, and is compared by its own part.
    return this.apply(desired, observe(this.ns, { tables: [NFT_TABLE], sysctls: Object.keys(desired.sysctls), wireguardDir: this.wireguard.directory }));
  }

  /**
   * Applies only what differs from the desired state before; reads the kernel where there is none.
   * Pods' devices come and go by CNI in between: they are left to `full`.
   */
  incremental(desired: NetnsState): Applied {
    return this.applied ? this.apply(withoutPods(desired), withoutPods(this.applied), desired) : this.full(desired);
  }

  /** @param whole the desired state with the parts that are CNI's: a table that is replaced is replaced with all that is in it. */
  private apply(desired: NetnsState, from: NetnsState, whole = desired): Applied {
    const result = this.run(desired, from, whole);
    this.applied = result.failed.length ? undefined : whole;
    return result;
  }

  private run(desired: NetnsState, from: NetnsState, whole: NetnsState, only: (c: Change) => boolean = () => true): Applied {
    const ownership = podwayOwnership((a) => isManaged(this.clusterCidrs, a));
    const all = diff(desired, from, ownership).filter(only);
    // A pod's device that is gone cannot be put back from this side: its other end, in the pod, went with it.
    const lost = all.filter((c) => c.kind === 'link' && c.op !== 'delete' && c.op !== 'change' && c.desired?.kind === 'veth');
    // One that no record wants may be an ADD or DEL in the middle of its work: only CNI's verbs, GC and a start remove pods' devices.
    // What hangs on such a device goes with it.
    const gone = new Set(lost.map((c) => c.key));
    const pods = new Set([...desired.links, ...from.links].filter(isPodDevice).map((l) => l.name));
    const tables = nftTables(whole.nft);
    const changes = all
      .filter((c) => !lost.includes(c) && !gone.has(deviceOf(c) ?? '') && !(c.op === 'delete' && (c.kind === 'qdisc' || pods.has(deviceOf(c) ?? ''))))
      .map((c) => (c.kind === 'nft' && c.desired ? { ...c, desired: tables.find((t) => t.name === c.desired?.name && t.family === c.desired.family) ?? c.desired } : c));
    this.tellLost(lost.map((c) => ({ link: c.key, why: (c.desired as Link).why ?? '' })));
    const result = apply(this.ns, changes, { netlink: this.netlink, wireguardDir: this.wireguard.directory, ...(this.wireguard.secrets ? { secrets: this.wireguard.secrets } : {}) });
    for (const c of result.done) this.emit({ type: 'changed', change: describe(c) });
    for (const f of result.failed) {
      this.emit({ type: 'refused', change: describe(f.change), error: f.error.message, ...(f.error.hint === undefined ? {} : { hint: f.error.hint }) });
    }
    return result;
  }

  /** Each once, until it is mended (the pod is made anew). */
  private tellLost(lost: readonly { link: string; why: string }[]): void {
    for (const l of lost) if (!this.lost.has(l.link)) this.emit({ type: 'device-lost', ...l });
    this.lost = new Set(lost.map((l) => l.link));
  }
}

/** Host ends and shapers come and go with attachments. */
const isPodDevice = (l: Link): boolean => (l.kind === 'veth' || l.kind === 'ifb') && (l.alias?.startsWith(ALIAS_PREFIX) ?? false);

/** The device that a change is about. */
export function deviceOf(c: Change): string | undefined {
  if (c.kind === 'link') return c.key;
  if (c.kind === 'sysctl') return deviceOfSysctl(c.key);
  return ((c.desired ?? c.observed) as { dev?: string } | undefined)?.dev;
}

/** Without what the attachments want: the devices and all that hangs on them, and host ports. */
function withoutPods(s: NetnsState): NetnsState {
  const pods = new Set(s.links.filter(isPodDevice).map((l) => l.name));
  const stays = (o: { readonly dev?: string }): boolean => o.dev === undefined || !pods.has(o.dev);
  const sysctls = Object.entries(s.sysctls).filter(([key]) => !pods.has(deviceOfSysctl(key) ?? ''));
  return {
    ...s, links: s.links.filter((l) => !pods.has(l.name)), addresses: s.addresses.filter(stays), routes: s.routes.filter(stays), qdiscs: [],
    sysctls: Object.fromEntries(sysctls), nft: withoutElements(s.nft),
  };
}
