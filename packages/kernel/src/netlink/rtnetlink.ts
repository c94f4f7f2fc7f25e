/**
 * rtnetlink of one namespace: the door through which links, addresses, routes, rules, neighbours
 * and FDB entries are read and changed. Requests are built by pure functions (`createRequest`,
 * `addRouteRequest` …) and sent one by one or as a batch.
 */
import { PodwayError } from '@podway/errors';
import type { Netns } from '../netns.js';
import { addAddrRequest, deleteAddrRequest, listAddrs, type AddrInfo, type AddrSpec } from './addr.js';
import { explainRefusal } from './kinds.js';
import { createRequests, deleteRequest, getLink, listLinks, setRequest, type LinkInfo, type LinkSettings, type LinkSpec } from './link.js';
import { listFdb, listNeighs, type FdbInfo, type NeighInfo } from './neigh.js';
import { listFilters, type FilterInfo } from './filter.js';
import { listClasses, listQdiscs, type QdiscInfo } from './qdisc.js';
import { addRouteRequest, deleteRouteRequest, listRoutes, lookupRoute, type RouteInfo, type RouteQuery, type RouteSpec } from './route.js';
import { listRules, type RuleInfo } from './rule.js';
import { NetlinkSocket, type Refusal, type Request } from './socket.js';

export class RtNetlink {
  private constructor(readonly socket: NetlinkSocket) {}

  static open(ns: Netns): RtNetlink {
    return new RtNetlink(NetlinkSocket.open(ns));
  }

  /** Opens, works, closes: for short errands. */
  static with<T>(ns: Netns, work: (nl: RtNetlink) => T): T {
    const nl = RtNetlink.open(ns);
    try {
      return work(nl);
    } finally {
      nl.close();
    }
  }

  close(): void {
    this.socket.close();
  }

  links(): LinkInfo[] {
    return listLinks(this.socket);
  }

  link(which: string | number): LinkInfo | undefined {
    return getLink(this.socket, which);
  }

  /** @throws LINK_NOT_FOUND */
  mustLink(which: string | number): LinkInfo {
    const link = this.link(which);
    if (link) return link;
    throw new PodwayError('LINK_NOT_FOUND', `there is no link ${which}`, { object: `link ${which}`, errno: 'ENODEV' });
  }

  /** Creates and returns the link as it is afterwards. @throws KERNEL_LACKS when the kernel has no such kind; NETLINK_REFUSED */
  createLink(spec: LinkSpec): LinkInfo {
    const [refusal] = this.socket.batch(createRequests(spec));
    if (refusal) throw explainRefusal(refusal.error, 'link', spec.kind);
    return this.mustLink(spec.name);
  }

  setLink(which: string | number, s: LinkSettings & { up?: boolean; name?: string; netnsFd?: number }): void {
    const index = typeof which === 'number' ? which : this.mustLink(which).index;
    this.socket.request(setRequest(index, s, String(which)));
  }

  /** True when there was one. */
  deleteLink(which: string | number): boolean {
    const link = this.link(which);
    if (!link) return false;
    this.socket.request(deleteRequest(link.index, link.name));
    return true;
  }

  addrs(): AddrInfo[] {
    return listAddrs(this.socket);
  }

  addAddr(spec: AddrSpec): void {
    this.socket.request(addAddrRequest(spec));
  }

  deleteAddr(spec: AddrSpec): void {
    this.socket.request(deleteAddrRequest(spec));
  }

  routes(): RouteInfo[] {
    return listRoutes(this.socket);
  }

  addRoute(spec: RouteSpec, how: 'add' | 'replace' | 'append' = 'add'): void {
    this.socket.request(addRouteRequest(spec, how));
  }

  deleteRoute(spec: RouteSpec): void {
    this.socket.request(deleteRouteRequest(spec));
  }

  lookup(q: RouteQuery, match = false): RouteInfo | undefined {
    return lookupRoute(this.socket, q, match);
  }

  rules(): RuleInfo[] {
    return listRules(this.socket);
  }

  neighs(): NeighInfo[] {
    return listNeighs(this.socket);
  }

  fdb(): FdbInfo[] {
    return listFdb(this.socket);
  }

  qdiscs(): QdiscInfo[] {
    return listQdiscs(this.socket);
  }

  /** HTB classes of a device. */
  classes(index: number): QdiscInfo[] {
    return listClasses(this.socket, index);
  }

  /** Filters at a parent of a device; `ffff:` is ingress. */
  filters(index: number, parent?: string): FilterInfo[] {
    return listFilters(this.socket, index, parent);
  }

  send(request: Request): void {
    this.socket.request(request);
  }

  batch(requests: readonly Request[]): Refusal[] {
    return this.socket.batch(requests);
  }
}
