/**
 * Counters of drops, before and after: evidence for why a packet was not seen again. They belong to a namespace, so other namespaces of the
 * machine do not disturb them; other traffic of the same namespace may. About 1 ms per namespace.
 * Source: /proc/net/snmp, /proc/net/netstat (snmp_counter.rst), IFLA_STATS64. Equivalent: `nstat`, `ip -s link`.
 */
import { RtNetlink, type Netns } from '@podway/kernel';

export interface CounterRise {
  readonly netns: string;
  /** `TcpExt IPReversePathFilter`, `flannel.1 tx_dropped`. */
  readonly counter: string;
  readonly by: number;
}

export type Counters = ReadonlyMap<string, number>;

/** Those that count packets thrown away. */
const WANTED: Readonly<Record<string, readonly string[]>> = {
  Ip: ['InHdrErrors', 'InAddrErrors', 'InUnknownProtos', 'InDiscards', 'OutDiscards', 'OutNoRoutes', 'ReasmFails', 'FragFails'],
  Udp: ['NoPorts', 'RcvbufErrors', 'InCsumErrors'],
  Tcp: ['InErrs', 'InCsumErrors'],
  TcpExt: ['IPReversePathFilter', 'ListenDrops', 'ListenOverflows'],
  IpExt: ['InNoRoutes', 'InTruncatedPkts', 'InCsumErrors'],
};

/** Lines come in pairs: names, then values, both after `Section:`. */
export function parseSnmp(text: string): Map<string, number> {
  const found = new Map<string, number>();
  const lines = text.split('\n');
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [head = '', ...names] = lines[i]!.split(' ');
    const [head2, ...values] = lines[i + 1]!.split(' ');
    const section = head.replace(/:$/, '');
    if (head !== head2 || !WANTED[section]) continue;
    names.forEach((name, j) => WANTED[section]!.includes(name) && found.set(`${section} ${name}`, Number(values[j])));
  }
  return found;
}

export function readCounters(ns: Netns): Counters {
  const found = new Map<string, number>();
  for (const file of ['snmp', 'netstat']) {
    try {
      for (const [k, v] of parseSnmp(ns.readFile(`/proc/thread-self/net/${file}`))) found.set(k, v);
    } catch {
      // A kernel without it has no such evidence to give.
    }
  }
  RtNetlink.with(ns, (nl) => {
    for (const l of nl.links()) {
      if (!l.stats) continue;
      for (const [name, value] of [['rx_dropped', l.stats.rxDropped], ['tx_dropped', l.stats.txDropped], ['rx_errors', l.stats.rxErrors], ['tx_errors', l.stats.txErrors]] as const) {
        found.set(`${l.name} ${name}`, Number(value));
      }
    }
  });
  return found;
}

export function risen(netns: string, before: Counters, after: Counters): CounterRise[] {
  return [...after].flatMap(([counter, value]) => {
    const by = value - (before.get(counter) ?? value);
    return by > 0 ? [{ netns, counter, by }] : [];
  });
}
