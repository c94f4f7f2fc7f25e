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
  CniError, type CniGcRequest, type CniRequest, type CniResult, type CniStatusRequest, formatIp, requirePod, type Ip,
} from '@podway/cni';
import { isPodwayError, messageOf } from '@podway/errors';
import { Netns, setPortRequest, writeSysctl, type LinkRemover, type NftObject, type RtNetlink } from '@podway/kernel';
import { ALIAS_PREFIX, describe, diff, observe, type NetnsState } from '@podway/netstate';
import type { NetworkConfig } from './config.js';
import type { AgentEvent } from './events.js';
import { holderName, keyOf, requestedByAnnotation, requestedByText, type AttachmentKey, type AttachmentRecord, type Ipam } from './ipam/index.js';
import { chainedTo } from './chained.js';
import { hostPortProblems, hostPortsOf, refuseTaken, type HostPorts } from './hostports/index.js';
import { routeLocalnet } from './node/desired.js';
import { ifbName, shape, shapingOf, shapingState, unshape } from './shaping/index.js';
import { macOfAll } from './node/addresses.js';
import type { CniHandler } from './server/index.js';
import { hostIfname, hostLink, podState, resultOf, unwire, wire, type WiringContext } from './wiring/bridge.js';

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
  readonly emit: (e: AgentEvent) => void;
}

export class Attachments implements CniHandler {
  constructor(private readonly c: AttachmentContext) {}

  async add(req: CniRequest): Promise<CniResult> {
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
      // Nothing between this look and the record: `reserve` puts it into the index at once.
      refuseTaken(hostPorts, req, this.c.ipam.list());
      const { record } = await this.c.ipam.reserve({
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

  private async make(record: AttachmentRecord, req: CniRequest, ns: Netns, ready: { config: NetworkConfig; mtu: number }): Promise<CniResult> {
    const context: WiringContext = { config: ready.config, mtu: ready.mtu, node: this.c.node, netlink: this.c.netlink };
    const bridge = record.chained ? undefined : this.c.netlink.mustLink(ready.config.bridge);
    const result = bridge ? resultOf(ready.config, record, bridge, ready.mtu) : req.config.prevResult ?? {};
    // The disk works while the kernel does; the record is in force only when the device is there.
    const recorded = this.c.ipam.prepareReady(record, result);
    try {
      if (bridge) wire(context, ns, record, bridge);
      if (bridge && record.hostPorts) this.c.netlink.send(setPortRequest(this.c.netlink.mustLink(record.hostIfname).index, { hairpin: true }, record.hostIfname));
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

  async del(req: CniRequest): Promise<void> {
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
    this.c.hostPorts.remove(record);
    if (record.chained) unshape(this.c.netlink, record);
    await this.unwire(record, record.hostIfname);
    await this.c.ipam.release(record);
  }

  async check(req: CniRequest): Promise<void> {
    const ready = this.mustBeReady();
    const record = this.c.ipam.get(req);
    if (record?.phase !== 'ready') {
      throw new CniError('UNKNOWN_CONTAINER', 'no such attachment', { object: keyOf(req), hint: 'ADD it first.' });
    }
    const ns = openNetns(req.netns!);
    try {
      const wrong = this.compare(record, ns, ready.config, ready.mtu);
      if (wrong.length) throw new CniError('CHECK_FAILED', 'the container network is not as ADD left it', { object: keyOf(req), details: wrong.join('; ') });
      const given = req.config.prevResult?.ips?.map((i) => i.address) ?? [];
      const ours = record.ips.map((i) => i.address);
      const strange = given.filter((a) => !ours.includes(a));
      if (strange.length && req.config.prevResult?.interfaces?.some((i) => i.name === record.ifname)) {
        throw new CniError('CHECK_FAILED', 'prevResult does not belong to this attachment', { details: `${strange.join(', ')}; recorded: ${ours.join(', ')}` });
      }
    } finally {
      ns.close();
    }
  }

  /** What differs between the record and the kernel, in words: for CHECK, for a repeated ADD and for a restart. */
  compare(record: AttachmentRecord, pod: Netns, config: NetworkConfig, mtu: number): string[] {
    const shaping = shapingState(record);
    const devices = [record.hostIfname, ifbName(record)];
    const host = observe(this.c.node, { nft: record.hostPorts !== undefined });
    const nothingGoes = { aliasPrefix: ALIAS_PREFIX, nftTables: [], managesAddress: () => false };
    const none = { addresses: [], routes: [], rules: [], neighbours: [], fdb: [], sysctls: {}, nft: [] };
    const links = [...(record.chained ? [] : [hostLink(config, record, mtu)]), ...(shaping.links ?? [])];
    const here: NetnsState = { ...host, ...none, links: host.links.filter((l) => devices.includes(l.name)), qdiscs: host.qdiscs.filter((q) => devices.includes(q.dev)) };
    return [
      ...diff({ ...host, ...none, links, qdiscs: shaping.qdiscs ?? [] }, here, nothingGoes),
      ...(record.chained ? [] : diff(podState(config, record, mtu), observe(pod, { nft: false }), nothingGoes).filter((x) => x.op !== 'delete')),
    ].filter((x) => x.kind === 'link' || x.kind === 'address' || x.kind === 'route' || x.kind === 'qdisc').map((x) => describe(x))
      .concat(record.hostPorts ? hostPortProblems(record, this.c.table(), host.nft) : []);
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
        await this.remove(record);
        this.c.emit({ type: 'collected', attachment: keyOf(record), pod: holderName(record), addresses: record.ips.map((i) => i.address) });
        continue;
      }
      await this.remove(record);
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

/** @throws CniError 8 */
function openNetns(path: string): Netns {
  try {
    return Netns.open({ path });
  } catch (e) {
    if (!isPodwayError(e)) throw e;
    throw new CniError('INVALID_NETNS', `CNI_NETNS ${path} cannot be used`, { object: path, details: messageOf(e), cause: e });
  }
}
