/** Brings the pod's end of existing attachments to a new MTU, from inside the pod's namespace. */
import { messageOf } from '@podway/errors';
import { Netns, RtNetlink } from '@podway/kernel';
import type { AgentEvent } from '../events.js';
import { holderName, type AttachmentRecord } from '../ipam/index.js';

export class PodSides {
  /** Attachment → MTU it was last brought to: a pod is entered only when there is something to do. */
  private readonly done = new Map<string, number>();

  constructor(private readonly emit: (e: AgentEvent) => void) {}

  adapt(mtu: number, records: readonly AttachmentRecord[]): void {
    for (const r of records) {
      if (r.phase !== 'ready' || this.done.get(r.hostIfname) === mtu) continue;
      try {
        this.setMtu(r, mtu);
        this.done.set(r.hostIfname, mtu);
      } catch (e) {
        // The pod may be ending; CHECK and the next comparison say so if it is not.
        this.emit({ type: 'failed', doing: `set the MTU of ${holderName(r)}`, error: messageOf(e) });
      }
    }
    const known = new Set(records.map((r) => r.hostIfname));
    for (const name of this.done.keys()) if (!known.has(name)) this.done.delete(name);
  }

  private setMtu(r: AttachmentRecord, mtu: number): void {
    const ns = Netns.open({ path: r.netns });
    try {
      RtNetlink.with(ns, (nl) => {
        const link = nl.link(r.ifname);
        if (!link || link.mtu === mtu) return;
        nl.setLink(link.index, { mtu });
        this.emit({ type: 'changed', change: `change link ${r.ifname} of ${holderName(r)}: mtu ${link.mtu} instead of ${mtu}` });
      });
    } finally {
      ns.close();
    }
  }
}
