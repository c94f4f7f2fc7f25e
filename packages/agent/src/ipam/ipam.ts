/**
 * The agent's IPAM: attachment records, the allocator over them, and nothing else that could
 * disagree. In memory is an index of the records (address to holder); an address is picked
 * and indexed in one synchronous step, then its record is written durably, so two ADDs at
 * once never get the same one and a crash leaves either no record or a whole one.
 *
 * Calls for one attachment must not overlap: the CNI server sees to that.
 */
import { CniError, type Cidr, type CniResult, type Ip, cidrContains, formatIp, formatIpIn, parseIpCidr, tryParseIpCidr } from '@podway/cni';
import { PodwayError, messageOf } from '@podway/errors';
import { REUSE_DELAY_MS, type Allocation, type AllocationState, allocate, allocateFixed } from './allocator.js';
import { capacity, type RangeSet, rangeOfAddress } from './ranges.js';
import { type AttachmentIp, type AttachmentKey, type AttachmentRecord, type FurtherNetwork, type PodRef, holderName, keyOf, recordFileName } from './record.js';
import type { AttachmentStore, StoreProblem } from './store.js';

export interface IpamOptions {
  readonly store: AttachmentStore;
  readonly sets: readonly RangeSet[];
  /** Milliseconds of any clock that does not go back. */
  readonly now?: () => number;
  readonly reuseDelayMs?: number;
  /** Where an address belongs that is none of ours, in words. */
  readonly elsewhere?: (ip: Ip) => string | undefined;
}

export interface ReserveRequest extends AttachmentKey {
  readonly network: string;
  readonly netns: string;
  readonly pod?: PodRef;
  /** Addresses asked for; at most one per set. */
  readonly fixed?: readonly Ip[];
  /** Addresses that another plugin has given: recorded as they are, none is picked. */
  readonly given?: readonly AttachmentIp[];
  /** What else is recorded from the start. */
  readonly more?: Pick<AttachmentRecord, 'hostPorts' | 'shaping' | 'chained'>;
  /** Names what is made from the addresses, so that the record has it before it is made. */
  readonly name: (ips: readonly Ip[]) => { mac: string; hostIfname: string };
}

/** How long the pointer to the last address given may be behind on disk. */
const SAVE_MS = 200;

const prefixed = (words: string | undefined): string => (words === undefined ? '' : `, it belongs to ${words}`);
const ipKey = (ip: Ip): string => `${ip.family}:${ip.value}`;

export class Ipam {
  readonly #store: AttachmentStore;
  readonly #now: () => number;
  readonly #reuseDelayMs: number;
  readonly #elsewhere: (ip: Ip) => string | undefined;
  #sets: readonly RangeSet[];
  readonly #records = new Map<string, AttachmentRecord>();
  readonly #holders = new Map<string, { owner: string; name: string }>();
  readonly #released = new Map<string, number>();
  readonly #lastGiven = new Map<string, Ip>();
  #problems: StoreProblem[] = [];
  #save: NodeJS.Timeout | undefined;

  private constructor(o: IpamOptions) {
    this.#store = o.store;
    this.#sets = o.sets;
    this.#now = o.now ?? (() => performance.now());
    this.#elsewhere = o.elsewhere ?? (() => undefined);
    this.#reuseDelayMs = o.reuseDelayMs ?? REUSE_DELAY_MS;
  }

  /** Read all records and take over. Damaged ones are in `problems`. */
  static async open(o: IpamOptions): Promise<Ipam> {
    const ipam = new Ipam(o);
    const { records, problems, lastGiven } = await o.store.load();
    ipam.#problems = [...problems];
    for (const p of problems) for (const a of p.addresses) ipam.#hold(parseIpCidr(a).ip, `file ${p.file}`, `a damaged record, ${p.file}`);
    for (const r of [...records].sort((a, b) => (a.created < b.created ? -1 : 1))) {
      ipam.#index(r);
      // the newest record stands in for a pointer that was not saved
      for (const { ip } of r.ips.map((i) => parseIpCidr(i.address))) {
        const set = o.sets.find((s) => rangeOfAddress(s, ip));
        if (set) ipam.#lastGiven.set(set.id, ip);
      }
    }
    for (const set of o.sets) {
      const saved = tryParseIpCidr(lastGiven[set.id] ?? '');
      if (saved) ipam.#lastGiven.set(set.id, saved.ip);
    }
    return ipam;
  }

  /** Damaged records, until their attachments are released. */
  get problems(): readonly StoreProblem[] {
    return this.#problems;
  }

  /** All attachments, oldest first. */
  list(): AttachmentRecord[] {
    return [...this.#records.values()].sort((a, b) => (a.created < b.created ? -1 : 1));
  }

  get(key: AttachmentKey): AttachmentRecord | undefined {
    return this.#records.get(keyOf(key));
  }

  /**
   * What a GC may remove: attachments of the network that are not valid any more, and damaged
   * records of attachments that are not (their network is not known).
   */
  stale(network: string, valid: readonly AttachmentKey[]): AttachmentKey[] {
    const keep = new Set(valid.map(recordFileName));
    const damaged = this.#problems.flatMap((p) => (p.key ? [p.key] : []));
    return [...this.list().filter((r) => r.network === network), ...damaged].filter((k) => !keep.has(recordFileName(k))).map(({ containerId, ifname }) => ({ containerId, ifname }));
  }

  /** Who has this address, in words. */
  holder(ip: Ip): string | undefined {
    return this.#holders.get(ipKey(ip))?.name;
  }

  /** Addresses of a range that somebody has. */
  heldIn(cidr: Cidr): number {
    let n = 0;
    for (const key of this.#holders.keys()) {
      const [family, value] = key.split(':') as [string, string];
      if (cidrContains(cidr, { family: Number(family) as 4 | 6, value: BigInt(value) })) n++;
    }
    return n;
  }

  /** Families in which no address is left. */
  full(): (4 | 6)[] {
    return this.#sets.flatMap((set) => {
      const free = set.ranges.reduce((n, r) => n + capacity(r), 0n) - BigInt(set.ranges.reduce((n, r) => n + this.heldIn(r.subnet), 0));
      const family = set.ranges[0]?.subnet.family;
      return free <= 0n && family !== undefined ? [family] : [];
    });
  }

  /** For a node whose podCIDRs came later or grew; addresses outside stay their pods' until released. */
  setRanges(sets: readonly RangeSet[]): void {
    // A set that has grown or shrunk goes on where it was.
    const family = (s: RangeSet) => s.ranges[0]?.subnet.family;
    for (const set of sets) {
      const last = this.#sets.filter((o) => family(o) === family(set)).map((o) => this.#lastGiven.get(o.id)).find((ip) => ip !== undefined);
      if (last && !this.#lastGiven.has(set.id)) this.#lastGiven.set(set.id, last);
    }
    this.#sets = sets;
  }

  /**
   * One address of every set for this attachment, recorded durably in phase `adding`.
   * An attachment that has a record already gets that one back, unchanged: `existed`.
   * @throws CniError 101 exhausted, 102 a fixed address that cannot be given, 50 no ranges yet, 5 the store failed
   */
  async reserve(req: ReserveRequest): Promise<{ record: AttachmentRecord; existed: boolean }> {
    const existing = this.get(req);
    if (existing) return { record: existing, existed: true };
    if (!req.given && this.#sets.length === 0) throw new CniError('NOT_AVAILABLE', 'this node has no pod CIDR yet', { hint: 'Wait for spec.podCIDRs of the node, or set it.' });
    const picked = req.given ? [] : this.#pick(req.fixed ?? []);
    const ips = req.given ?? picked.map(({ ip, range }): AttachmentIp => ({ address: formatIpIn(ip, range.subnet), gateway: formatIp(range.gateway) }));
    const record: AttachmentRecord = {
      version: 1,
      containerId: req.containerId,
      ifname: req.ifname,
      network: req.network,
      netns: req.netns,
      ...(req.pod ? { pod: req.pod } : {}),
      ips,
      ...req.name(ips.map((i) => parseIpCidr(i.address).ip)),
      ...req.more,
      ...this.#further(req.containerId),
      phase: 'adding',
      created: new Date().toISOString(),
    };
    this.#index(record);
    try {
      await this.#store.put(record);
    } catch (e) {
      // the write may have got as far as the rename; what cannot be removed keeps its addresses until DEL
      await this.#store.remove(record).then(
        () => this.#forget(record),
        () => undefined,
      );
      throw new CniError('IO_FAILURE', 'the attachment could not be recorded', { details: messageOf(e), cause: e });
    }
    this.#saveLastGiven();
    return { record, existed: false };
  }

  /** Which of a pod's interfaces this is: the first one has no number. */
  #further(containerId: string): { further?: number } {
    const others = this.list().filter((r) => r.containerId === containerId).map((r) => r.further ?? 0);
    return others.length ? { further: Math.max(...others) + 1 } : {};
  }

  /** Nothing is changed until every set has given: a failure in the second family leaves the first as it was. */
  #pick(fixed: readonly Ip[]): Allocation[] {
    const left = [...fixed];
    const wishes = this.#sets.map((set) => {
      const at = left.findIndex((ip) => set.ranges.some((r) => cidrContains(r.subnet, ip)));
      const [wanted] = at >= 0 ? left.splice(at, 1) : [];
      return { set, wanted };
    });
    const odd = left[0];
    if (odd) {
      const twice = wishes.some((p) => p.wanted && p.wanted.family === odd.family);
      throw new CniError('ADDRESS_TAKEN', `requested address ${formatIp(odd)} cannot be given`, {
        object: formatIp(odd),
        details: twice ? 'another address of the same range was asked for as well' : `it is not in ${this.#sets.map((s) => s.id).join(', ')}${prefixed(this.#elsewhere(odd))}`,
      });
    }
    const picked = wishes.map(({ set, wanted }) => {
      const state = this.#state(set);
      return { set, wanted, allocation: wanted ? allocateFixed(set, wanted, state) : allocate(set, state) };
    });
    for (const { set, wanted, allocation } of picked) if (!wanted) this.#lastGiven.set(set.id, allocation.ip);
    return picked.map((p) => p.allocation);
  }

  #state(set: RangeSet): AllocationState {
    return {
      holder: (ip) => this.holder(ip),
      releasedAt: (ip) => this.#released.get(ipKey(ip)),
      lastGiven: this.#lastGiven.get(set.id),
      now: this.#now(),
      reuseDelayMs: this.#reuseDelayMs,
    };
  }

  /** ADD is done: what it answered, durable. @throws PodwayError ATTACHMENT_UNKNOWN */
  markReady(key: AttachmentKey, result: CniResult): Promise<AttachmentRecord> {
    return this.#update(key, { phase: 'ready', result });
  }

  /** As `markReady`, with the writing begun now, beside the work that makes it true. One of the two is to be called. */
  prepareReady(key: AttachmentKey, result: CniResult): { commit(): Promise<AttachmentRecord>; discard(): Promise<void> } {
    return this.#prepare(key, { phase: 'ready', result });
  }

  /** Further networks of an attachment, durable before their plugins run, and again when they are done. @throws PodwayError ATTACHMENT_UNKNOWN */
  markNetworks(key: AttachmentKey, networks: readonly FurtherNetwork[], ready: boolean): Promise<AttachmentRecord> {
    return this.#update(key, { networks, networksReady: ready });
  }

  /** DEL has begun; the address stays taken until `release`. @throws PodwayError ATTACHMENT_UNKNOWN */
  markDeleting(key: AttachmentKey): Promise<AttachmentRecord> {
    return this.#update(key, { phase: 'deleting' });
  }

  async #update(key: AttachmentKey, change: Partial<AttachmentRecord>): Promise<AttachmentRecord> {
    return this.#prepare(key, change).commit();
  }

  #prepare(key: AttachmentKey, change: Partial<AttachmentRecord>): { commit(): Promise<AttachmentRecord>; discard(): Promise<void> } {
    const old = this.get(key);
    if (!old) throw new PodwayError('ATTACHMENT_UNKNOWN', 'no such attachment', { object: keyOf(key) });
    const record = { ...old, ...change };
    const prepared = this.#store.prepare(record);
    return {
      discard: () => prepared.discard(),
      commit: async () => {
        await prepared.commit();
        this.#records.set(keyOf(key), record);
        return record;
      },
    };
  }

  /** Remove the record, durably, and then free its addresses. Unknown is success (undefined). */
  async release(key: AttachmentKey): Promise<AttachmentRecord | undefined> {
    await this.#store.remove(key);
    const now = this.#now();
    const file = recordFileName(key);
    const free = (holderOf: string): void => {
      for (const [ip, h] of this.#holders) {
        if (h.owner !== holderOf) continue;
        this.#holders.delete(ip);
        this.#released.set(ip, now);
      }
    };
    this.#problems = this.#problems.filter((p) => {
      if (!p.key || recordFileName(p.key) !== file) return true;
      free(`file ${p.file}`);
      return false;
    });
    const record = this.get(key);
    if (record) {
      this.#records.delete(keyOf(key));
      free(keyOf(key));
      // two records with one address can only come from outside; the one that stays keeps it
      for (const other of this.#records.values()) if (other.ips.some((i) => record.ips.some((j) => i.address === j.address))) this.#index(other);
    }
    for (const [ip, at] of this.#released) if (now - at >= this.#reuseDelayMs) this.#released.delete(ip);
    return record;
  }

  /** Wait for what is not awaited elsewhere, and close the store. */
  async close(): Promise<void> {
    if (this.#save) await this.#saveNow();
    await this.#store.close();
  }

  #hold(ip: Ip, owner: string, name: string): void {
    this.#holders.set(ipKey(ip), { owner, name });
    this.#released.delete(ipKey(ip));
  }

  #index(r: AttachmentRecord): void {
    this.#records.set(keyOf(r), r);
    // Another plugin's addresses are that plugin's to give.
    if (!r.chained) for (const i of r.ips) this.#hold(parseIpCidr(i.address).ip, keyOf(r), holderName(r));
  }

  #forget(r: AttachmentRecord): void {
    this.#records.delete(keyOf(r));
    for (const i of r.ips) this.#holders.delete(ipKey(parseIpCidr(i.address).ip));
  }

  /**
   * Now and then, not at every ADD: replacing a file that was just written makes some file systems flush it.
   * It is a hint: what is not saved only costs an earlier reuse after a crash.
   */
  #saveLastGiven(): void {
    this.#save ??= setTimeout(() => void this.#saveNow(), SAVE_MS);
  }

  async #saveNow(): Promise<void> {
    clearTimeout(this.#save);
    this.#save = undefined;
    const out: Record<string, string> = {};
    for (const [id, ip] of this.#lastGiven) out[id] = `${formatIp(ip)}/${ip.family === 4 ? 32 : 128}`;
    await this.#store.saveLastGiven(out).catch(() => undefined);
  }
}
