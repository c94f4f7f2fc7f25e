/**
 * CNI's verbs on this node. The order that makes a crash at any instruction harmless:
 *
 *   ADD  record `adding` (durable) → device with everything on it, shaper, host ports → record `ready` (durable) → answer
 *   DEL  record `deleting` (durable) → host ports → device and shaper → record removed (durable), which frees the address
 *
 * A device therefore never exists without a record that names it, and an address is free only when
 * its device is gone. A restart rolls back what was `adding` and finishes what was `deleting`.
 */
import {
  CniError, isCniError, type CniGcRequest, type CniRequest, type CniResult, type CniStatusRequest, formatIp, requirePod, type Ip,
} from '@podway/cni';
import { isPodwayError, messageOf } from '@podway/errors';
import { Pods, type ObjectClient } from '@podway/kube';
import { Netns, TABLE_MAIN, writeSysctl, type LinkRemover, type NftObject, type RtNetlink } from '@podway/kernel';
import { ALIAS_PREFIX, describe, diff, mergeStates, observe, type NetnsState } from '@podway/netstate';
import type { NetworkConfig } from './config.js';
import type { AgentEvent } from './events.js';
import { holderName, keyOf, requestedByAnnotation, requestedByText, type AttachmentKey, type AttachmentRecord, type Ipam, type ReserveRequest } from './ipam/index.js';
import { chainedTo } from './chained.js';
import { hostPortProblems, hostPortsOf, refuseTaken, routeLocalnet, type HostPorts } from './hostports/index.js';
import { ifbName, shape, shapingOf, shapingState, unshape } from './shaping/index.js';
import { macOfAll } from './node/addresses.js';
import { FurtherNetworks } from './networks/further.js';
import { selectedNetworks } from './networks/selection.js';
import { networkStatus, STATUS_ANNOTATION, type NetworkStatus } from './networks/status.js';
import type { CniHandler } from './server/index.js';
import { hostIfname, removeRules, unwire, wiringOf, type WiringContext } from './wiring/index.js';

export interface AttachmentContext {
  readonly node: Netns;
  readonly netlink: RtNetlink;
  readonly remover: LinkRemover;
  readonly ipam: Ipam;
  /** Undefined, with the reason, until the node's part of the network stands. */
  ready(): { readonly config: NetworkConfig; readonly mtu: number } | { readonly reason: string };
  readonly hostPorts: HostPorts;
  /** Podway's nftables table as it must be now. */
  table(): readonly NftObject[];
  /** The pod's annotations; an empty object when they cannot be had. */
  annotations(pod: { readonly namespace: string; readonly name: string; readonly uid: string | undefined }): Promise<Readonly<Record<string, string>>>;
  /** More addresses, when there are none left (pools) or a certain one is asked for; false when there are none to be had. */
  grow?(wanted: readonly Ip[]): Promise<boolean>;
  /** For networks of the annotation; undefined: somebody else's work (Multus). */
  readonly networks: { readonly client: ObjectClient; readonly stateDir: string } | undefined;
  readonly emit: (e: AgentEvent) => void;
}

/** How often one ADD asks for more. */
const GROW_LIMIT = 4;

export class Attachments implements CniHandler {
  private readonly further: FurtherNetworks | undefined;

  constructor(private readonly c: AttachmentContext) {
    this.further = c.networks && new FurtherNetworks({
      ...c.networks, node: c.node, own: { add: (r) => this.addOne(r), del: (r) => this.delOne(r), check: (r) => this.checkOne(r) },
    });
  }

  /** The pod's first interface brings those of its annotation with it. */
  async add(req: CniRequest): Promise<CniResult> {
    const before = this.c.ipam.get(req);
    // An ADD that ended among them: nobody can tell what of them is there.
    if (before?.networks && before.networksReady !== true) await this.remove(before);
    const result = await this.addOne(req);
    const record = this.c.ipam.get(req);
    if (!this.further || !record || record.further !== undefined || record.networksReady) return result;
    const pod = requirePod(req.args);
    try {
      const selections = selectedNetworks(await this.c.annotations(pod), pod.namespace);
      if (selections.length === 0) return result;
      const networks = await this.further.resolve(selections, req.path);
      const begun = await this.c.ipam.markNetworks(record, networks, false);
      const made = await this.further.add(begun, networks, req.signal);
      await this.c.ipam.markNetworks(record, networks, true);
      await this.tellStatus(pod, [networkStatus(req.config.name, req.ifname, result, true), ...made]);
      return result;
    } catch (e) {
      const left = this.c.ipam.get(req);
      if (left) await this.remove(left).catch((x: unknown) => this.c.emit({ type: 'failed', doing: `undo the ADD of ${holderName(left)}`, error: messageOf(x) }));
      throw e;
    }
  }

  /** For people and programs that look for it; the interfaces are there with it or without. */
  private async tellStatus(pod: { namespace: string; name: string }, status: readonly NetworkStatus[]): Promise<void> {
    const annotations = { [STATUS_ANNOTATION]: JSON.stringify(status, null, 2) };
    try {
      await this.c.networks?.client.patch(Pods, pod, { metadata: { annotations } }, { type: 'merge' });
    } catch (e) {
      this.c.emit({ type: 'failed', doing: `write the network status of pod ${pod.namespace}/${pod.name}`, error: messageOf(e) });
    }
  }

  private async addOne(req: CniRequest): Promise<CniResult> {
    const ready = this.mustBeReady();
    const pod = requirePod(req.args);
    const ns = openNetns(req.netns!);
    try {
      const hostPorts = hostPortsOf(req.config.runtimeConfig.portMappings);
      const shaping = shapingOf(req.config.runtimeConfig.bandwidth, ready.mtu);
      const repeated = await this.repeated(req, ns, ready.config, ready.mtu);
      if (repeated) return repeated;
      const behind = req.config.prevResult && chainedTo(this.c.netlink, ns, { ifname: req.ifname, result: req.config.prevResult, hostPorts, shaping });
      const fixed = behind ? [] : await this.requested(req, pod);
      const record = await this.reserve({
        containerId: req.containerId, ifname: req.ifname, network: req.config.name, netns: req.netns!,
        pod: { namespace: pod.namespace, name: pod.name, ...(pod.uid === undefined ? {} : { uid: pod.uid }) },
        fixed,
        ...(behind ? { given: behind.ips } : {}),
        more: { ...(hostPorts.length ? { hostPorts } : {}), ...(shaping ? { shaping } : {}), ...(behind ? { chained: behind.chained } : {}) },
        name: (ips) => behind
          ? { mac: behind.mac, hostIfname: behind.hostIfname }
          : { mac: (req.config.runtimeConfig.mac ?? req.args.MAC ?? macOfAll(ips.map(formatIp))).toLowerCase(), hostIfname: hostIfname(req) },
      });
      // From here on every step has its reverse: shaping, host ports, the device, then the record with its address.
      try {
        return await this.make(record, req, ns, ready);
      } catch (e) {
        await this.remove(record).catch((x: unknown) => this.c.emit({ type: 'failed', doing: `take back the attachment of ${holderName(record)}`, error: messageOf(x) }));
        throw e;
      }
    } finally {
      ns.close();
    }
  }

  /** With the node's ranges growing under it. Several at once may have to ask again: what was gained is given to others too. */
  private async reserve(req: ReserveRequest & { readonly fixed: readonly Ip[] }): Promise<AttachmentRecord> {
    for (let n = 0; ; n++) {
      // Nothing between this look and the record, each time: `reserve` puts it into the index at once.
      refuseTaken(req.more?.hostPorts ?? [], req, this.c.ipam.list());
      try {
        return (await this.c.ipam.reserve(req)).record;
      } catch (e) {
        const outside = isCniError(e, 'ADDRESS_TAKEN') && req.fixed.length > 0 && req.fixed.every((ip) => this.c.ipam.holder(ip) === undefined);
        if (n === GROW_LIMIT || !(isCniError(e, 'RANGE_EXHAUSTED') || outside) || !(await this.c.grow?.(outside ? req.fixed : []))) throw e;
      }
    }
  }

  private async make(record: AttachmentRecord, req: CniRequest, ns: Netns, ready: { config: NetworkConfig; mtu: number }): Promise<CniResult> {
    // What another plugin has wired stays as it is.
    const wiring = record.chained ? undefined : wiringOf(ready.config);
    const sharedDevice = wiring?.sharedDevice(ready.config);
    const shared = sharedDevice === undefined ? undefined : this.c.netlink.mustLink(sharedDevice);
    const context: WiringContext = { config: ready.config, mtu: ready.mtu, node: this.c.node, netlink: this.c.netlink, shared };
    const result = wiring ? wiring.resultOf(context, record) : req.config.prevResult ?? {};
    // The disk works while the kernel does; the record is in force only when the device is there.
    const recorded = this.c.ipam.prepareReady(record, result);
    try {
      wiring?.wire(context, ns, record);
      shape(this.c.netlink, record);
      this.c.hostPorts.add(record);
      if (record.chained && record.hostPorts) writeSysctl(this.c.node, routeLocalnet(record.chained.dev), '1');
    } catch (e) {
      await recorded.discard();
      throw e;
    }
    await recorded.commit();
    return result;
  }

  /** A second ADD of the same attachment: its first answer, if all of it still stands. */
  private async repeated(req: CniRequest, ns: Netns, config: NetworkConfig, mtu: number): Promise<CniResult | undefined> {
    const record = this.c.ipam.get(req);
    if (!record) return undefined;
    if (record.phase === 'ready' && record.result && record.netns === req.netns) {
      const wrong = this.compare(record, ns, config, mtu);
      // What a plugin before this one answers the second time is its own affair, and is handed on.
      if (wrong.length === 0) return record.chained ? req.config.prevResult ?? record.result : record.result;
    }
    // Left from an attempt that did not end, or its namespace is another one by now: begin afresh.
    await this.remove(record);
    return undefined;
  }

  private async requested(req: CniRequest, pod: { namespace: string; name: string; uid: string | undefined }): Promise<Ip[]> {
    if (req.args.IP) return requestedByText([req.args.IP]);
    const ips = req.config.runtimeConfig?.ips;
    if (ips?.length) return requestedByText(ips);
    return requestedByAnnotation(await this.c.annotations(pod));
  }

  del(req: CniRequest): Promise<void> {
    return this.delOne(req);
  }

  private async delOne(req: CniRequest): Promise<void> {
    const record = this.c.ipam.get(req);
    if (record) await this.remove(record);
    else {
      await this.unwire(req, hostIfname(req));
      // A damaged record of this attachment keeps its addresses until now.
      await this.c.ipam.release(req);
    }
  }

  /** Everything of an attachment, in reverse. What is not there any more is removed already. */
  private async remove(record: AttachmentRecord): Promise<void> {
    await this.c.ipam.markDeleting(record);
    if (record.networks) await this.further?.del(record);
    this.c.hostPorts.remove(record);
    if (record.chained) unshape(this.c.netlink, record);
    await this.unwireRecord(record);
    await this.c.ipam.release(record);
  }

  async check(req: CniRequest): Promise<void> {
    await this.checkOne(req);
    const record = this.c.ipam.get(req);
    const wrong = record?.networks && this.further ? await this.further.check(record, req.signal) : [];
    if (wrong.length) throw new CniError('CHECK_FAILED', 'a further network of the container is not as ADD left it', { object: keyOf(req), details: wrong.join('; ') });
  }

  private async checkOne(req: CniRequest): Promise<void> {
    const ready = this.mustBeReady();
    const record = this.c.ipam.get(req);
    if (record?.phase !== 'ready') {
      throw new CniError('UNKNOWN_CONTAINER', 'no such attachment', { object: keyOf(req), hint: 'ADD it first.' });
    }
    const ns = openNetns(req.netns!);
    try {
      const wrong = this.compare(record, ns, ready.config, ready.mtu);
      if (wrong.length) throw new CniError('CHECK_FAILED', 'the container network is not as ADD left it', { object: keyOf(req), details: wrong.join('; ') });
      // The prefix length is the wiring's business.
      const bare = (address: string): string => address.split('/')[0] ?? '';
      const given = req.config.prevResult?.ips?.map((i) => i.address) ?? [];
      const ours = record.ips.map((i) => i.address);
      const strange = given.filter((a) => !ours.map(bare).includes(bare(a)));
      if (strange.length && req.config.prevResult?.interfaces?.some((i) => i.name === record.ifname)) {
        throw new CniError('CHECK_FAILED', 'prevResult does not belong to this attachment', { details: `${strange.join(', ')}; recorded: ${ours.join(', ')}` });
      }
    } finally {
      ns.close();
    }
  }

  /** What differs between the record and the kernel, in words: for CHECK, for a repeated ADD and for a restart. */
  compare(record: AttachmentRecord, pod: Netns, config: NetworkConfig, mtu: number): string[] {
    const wiring = wiringOf(config);
    const none = { rules: [], neighbours: [], fdb: [], nft: [] };
    const want = mergeStates('', record.chained ? {} : wiring.hostState(config, record, mtu), shapingState(record));
    const host = observe(this.c.node, { nft: record.hostPorts !== undefined, sysctls: Object.keys(want.sysctls) });
    const nothingGoes = { aliasPrefix: ALIAS_PREFIX, nftTables: [], managesAddress: () => false };
    // Only what belongs to this pod: the rest of the node is not what an attachment answers for.
    const devices = [record.hostIfname, ifbName(record)];
    const dsts = new Set(want.routes.map((r) => r.dst));
    const onlyThis: NetnsState = {
      ...host, ...none, links: host.links.filter((l) => devices.includes(l.name)), qdiscs: host.qdiscs.filter((q) => devices.includes(q.dev)),
      addresses: host.addresses.filter((a) => a.dev === record.hostIfname), routes: host.routes.filter((r) => dsts.has(r.dst) && r.table === TABLE_MAIN),
      sysctls: host.sysctls,
    };
    return [
      // A shaper that was not asked for is wrong as well.
      ...diff(want, onlyThis, nothingGoes).filter((x) => x.op !== 'delete' || x.kind === 'link' || x.kind === 'qdisc'),
      ...(record.chained ? [] : diff(wiring.podState(config, record, mtu), observe(pod, { nft: false }), nothingGoes).filter((x) => x.op !== 'delete')),
    ].map((x) => describe(x)).concat(record.hostPorts ? hostPortProblems(record, this.c.table(), host.nft) : []);
  }

  async gc(req: CniGcRequest): Promise<void> {
    const errors: string[] = [];
    for (const key of this.c.ipam.stale(req.config.name, req.validAttachments)) {
      const record = this.c.ipam.get(key);
      try {
        if (record) {
          await this.remove(record);
          this.c.emit({ type: 'collected', attachment: keyOf(record), pod: holderName(record), addresses: record.ips.map((i) => i.address) });
        } else {
          // A damaged record: all that is known is whose it was.
          const addresses = this.c.ipam.problems.filter((p) => p.key && keyOf(p.key) === keyOf(key)).flatMap((p) => p.addresses);
          await this.unwire(key, hostIfname(key));
          await this.c.ipam.release(key);
          this.c.emit({ type: 'collected', attachment: keyOf(key), pod: 'a damaged record', addresses });
        }
      } catch (e) {
        // Every one is tried, also when one fails.
        errors.push(`${keyOf(key)}: ${messageOf(e)}`);
      }
    }
    await this.sweepDevices();
    if (errors.length) throw new CniError('IO_FAILURE', 'some attachments could not be removed', { details: errors.join('; ') });
  }

  /** Host ends that carry our mark but stand in no record. That of a damaged record may serve a pod: it stays until DEL or GC. */
  async sweepDevices(): Promise<void> {
    const damaged = this.c.ipam.problems.flatMap((p) => (p.key ? [hostIfname(p.key), ifbName(p.key)] : []));
    const known = new Set([...this.c.ipam.list().flatMap((r) => [r.hostIfname, ifbName(r)]), ...damaged]);
    for (const link of this.c.netlink.links()) {
      if ((link.kind !== 'veth' && link.kind !== 'ifb') || !link.alias?.startsWith(ALIAS_PREFIX) || known.has(link.name)) continue;
      if (await this.c.remover.remove(link.index, link.name)) this.c.emit({ type: 'orphan', link: link.name, alias: link.alias });
    }
  }

  private async unwireRecord(record: AttachmentRecord): Promise<void> {
    if (record.further !== undefined && !record.chained) inNetns(record.netns, (pod) => removeRules(pod, record));
    await this.unwire(record, record.hostIfname);
  }

  /** Host end and shaper, in one wait. */
  private unwire(key: AttachmentKey, hostName: string): Promise<boolean> {
    return unwire(this.c.netlink, this.c.remover, [hostName, ifbName(key)]);
  }

  status(_req: CniStatusRequest): Promise<void> {
    this.mustBeReady();
    return Promise.resolve();
  }

  /** After a start: what was under way when the agent before this one ended is rolled back or finished. */
  async recover(): Promise<void> {
    for (const record of this.c.ipam.list()) {
      if (record.phase === 'ready') {
        // The machine was restarted, or the pod ended while nobody listened: neither end nor namespace is there any more.
        if ((record.hostIfname !== '' && this.c.netlink.link(record.hostIfname)) || namespaceExists(record.netns)) continue;
        // What plugins of further networks keep on the node (addresses) does not go with the namespace.
        await this.remove(record).catch((e: unknown) => this.c.emit({ type: 'failed', doing: `take away ${keyOf(record)}`, error: messageOf(e) }));
        this.c.emit({ type: 'collected', attachment: keyOf(record), pod: holderName(record), addresses: record.ips.map((i) => i.address) });
        continue;
      }
      try {
        await this.remove(record);
      } catch (e) {
        // A plugin of a further network that will not: DEL or GC tries again, and the agent starts all the same.
        this.c.emit({ type: 'failed', doing: `take away ${keyOf(record)}`, error: messageOf(e) });
        continue;
      }
      this.c.emit({ type: 'rolled-back', attachment: keyOf(record), pod: holderName(record), phase: record.phase });
    }
    await this.sweepDevices();
  }

  private mustBeReady(): { config: NetworkConfig; mtu: number } {
    const ready = this.c.ready();
    if ('reason' in ready) throw new CniError('NOT_AVAILABLE', 'the network of this node is not ready', { details: ready.reason });
    return ready;
  }
}

function namespaceExists(path: string): boolean {
  try {
    Netns.open({ path }).close();
    return true;
  } catch {
    return false;
  }
}

/** Nothing where there is no such namespace any more. */
function inNetns(path: string, work: (ns: Netns) => void): void {
  let ns: Netns;
  try {
    ns = Netns.open({ path });
  } catch {
    return;
  }
  try {
    work(ns);
  } finally {
    ns.close();
  }
}

/** @throws CniError 8 */
function openNetns(path: string): Netns {
  try {
    return Netns.open({ path });
  } catch (e) {
    if (!isPodwayError(e)) throw e;
    throw new CniError('INVALID_NETNS', `CNI_NETNS ${path} cannot be used`, { object: path, details: messageOf(e), cause: e });
  }
}
