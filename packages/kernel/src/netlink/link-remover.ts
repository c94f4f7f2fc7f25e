/**
 * Removing devices without waiting for more than is needed.
 *
 * RTM_DELLINK of a veth pair keeps its caller for 20 to 30 ms. After about a third of that both ends
 * are gone: no namespace lists them, their addresses and routes are flushed, the names are free, and
 * the kernel announces it (RTM_DELLINK to the link group). The rest is the kernel waiting until no CPU
 * can hold a reference any more before it frees the memory (netdev_run_todo, rcu_barrier). So the
 * request is sent on a worker thread, and a removal counts as done at the announcement.
 *
 * Removals that are asked for while others are under way go together: put into a link group of their
 * own and removed as that group, with one wait for all (10 pairs: as long as one).
 * Source: unregister_netdevice_many_notify() in net/core/dev.c; `ip link delete group`.
 */
import { randomInt } from 'node:crypto';
import { PodwayError, isPodwayError } from '@podway/errors';
import type { Netns } from '../netns.js';
import { deleteGroupRequest, deleteRequest, setGroupRequest } from './link.js';
import { NETLINK_ROUTE, NetlinkSocket } from './socket.js';

const RTNLGRP_LINK = 1;
const RTM_DELLINK = 17;
/** How many sends may be under way: one that waits, one that works. More would keep libuv's workers from files. */
const FLIGHTS = 2;
/** How often announcements are looked for while a removal is under way, in milliseconds. */
const LOOK_MS = 1;

interface Removal {
  readonly index: number;
  readonly name: string;
  readonly done: (was: boolean) => void;
  readonly failed: (e: unknown) => void;
}

export class LinkRemover {
  private readonly idle: NetlinkSocket[] = [];
  private readonly waiting: Removal[] = [];
  /** Sent, not yet announced; by index. */
  private readonly sent = new Map<number, Removal>();
  private readonly asked = new Map<number, Promise<boolean>>();
  private readonly flights = new Set<Promise<void>>();
  /** Open while a removal is under way, so that the kernel queues announcements for nobody otherwise. */
  private news: NetlinkSocket | undefined;
  private timer: NodeJS.Timeout | undefined;
  private closed = false;

  constructor(private readonly ns: Netns) {
    for (let i = 0; i < FLIGHTS; i++) this.idle.push(NetlinkSocket.open(ns));
  }

  /**
   * Resolves when the link, and the other end of a pair, is not there any more: true when this removed it,
   * false when there was none.
   * @throws NETLINK_REFUSED
   */
  remove(index: number, name = `#${index}`): Promise<boolean> {
    return this.removeAll([{ index, name }]).then(([was]) => was ?? false);
  }

  /** Several, which go together: one wait for all. In the order given, whether each was removed by this. */
  removeAll(links: readonly { readonly index: number; readonly name: string }[]): Promise<boolean[]> {
    const promises = links.map(({ index, name }) => {
      if (this.closed) return Promise.reject<boolean>(new PodwayError('NETLINK_CLOSED', `delete link ${name}: the remover was closed`));
      const known = this.asked.get(index);
      if (known) return known;
      const promise = new Promise<boolean>((done, failed) => this.waiting.push({ index, name, done, failed })).finally(() => this.asked.delete(index));
      this.asked.set(index, promise);
      return promise;
    });
    this.pump();
    return Promise.all(promises);
  }

  private pump(): void {
    const socket = this.waiting.length ? this.idle.pop() : undefined;
    if (!socket) return;
    const all = this.waiting.splice(0);
    // What was announced before this was sent is not about these.
    if (this.news) this.look();
    this.news ??= NetlinkSocket.open(this.ns, NETLINK_ROUTE, [RTNLGRP_LINK]);
    for (const r of all) this.sent.set(r.index, r);
    const flight = this.fly(socket, all).finally(() => {
      this.flights.delete(flight);
      if (this.closed) socket.close();
      else this.idle.push(socket);
      this.pump();
    });
    this.flights.add(flight);
    this.timer ??= setInterval(() => this.look(), LOOK_MS);
  }

  /** Never rejects: what goes wrong is told to those who asked. */
  private async fly(socket: NetlinkSocket, all: readonly Removal[]): Promise<void> {
    try {
      const [only] = all;
      // A number that nobody uses: groups are small numbers that people choose.
      const group = randomInt(0x70000000, 0x7fffffff);
      const requests = all.length === 1 && only
        ? [deleteRequest(only.index, only.name)]
        : [...all.map((r) => setGroupRequest(r.index, group, r.name)), deleteGroupRequest(group)];
      const refusals = await socket.batchInThread(requests);
      for (const { index, error } of refusals) {
        const one = all.length === 1 ? only : all[index];
        if (error.errno !== 'ENODEV') for (const r of one ? [one] : all) this.settle(r, (x) => x.failed(error));
        else if (one) this.settle(one, (x) => x.done(false));
      }
      for (const r of all) this.settle(r, (x) => x.done(true));
    } catch (e) {
      for (const r of all) this.settle(r, (x) => x.failed(isPodwayError(e) ? e : new PodwayError('NETLINK_FAILED', `delete link ${r.name}`, { cause: e })));
    }
  }

  private settle(r: Removal, how: (r: Removal) => void): void {
    if (this.sent.get(r.index) !== r) return;
    this.sent.delete(r.index);
    how(r);
    if (this.sent.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
    this.news?.close();
    this.news = undefined;
  }

  /** Announcements that were lost are no harm: the removal then ends with its acknowledgement. */
  private look(): void {
    for (const m of this.news?.drain().answers ?? []) {
      // Family 0: a bridge that loses a port announces that with the same message and its own family.
      if (m.type !== RTM_DELLINK || m.end - m.start < 16 || m.buffer.readUInt8(m.start) !== 0) continue;
      const r = this.sent.get(m.buffer.readInt32LE(m.start + 4));
      if (r) this.settle(r, (x) => x.done(true));
    }
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.closed = true;
    while (this.flights.size > 0 || this.waiting.length > 0) await Promise.allSettled([...this.flights]);
    for (const s of this.idle.splice(0)) s.close();
  }
}
