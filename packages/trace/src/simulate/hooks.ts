/**
 * One netfilter hook: all base chains registered there, by priority; NAT, and connection tracking's memory of it.
 * Source: nf_hook_slow(), nf_nat_inet_fn(), nf_conntrack; priorities: linux/netfilter_ipv4.h.
 *
 * Rules of the old iptables and of other firewalls (ipset, IPVS) get readers of their own beside this one; until a namespace's
 * are read, a packet that meets them ends as "unknown".
 */
import { drop, namespaceOf, note, unknown, type Cursor, type Sim } from './cursor.js';
import { NftWalk, ruleText, type Nat } from './nft.js';
import type { MatchContext } from './nft-match.js';
import { isV6 } from './ipv6.js';
import { selectSource, lookupRoute } from './route.js';
import type { Hook, Packet } from './types.js';

const DSTNAT = -100;
const SRCNAT = 100;

export interface HookPlace {
  readonly netns: string;
  /** `ip`: the IP layer, of whichever family the packet is. */
  readonly family: 'ip' | 'bridge' | 'netdev';
  readonly hook: Hook;
  readonly iif?: string;
  readonly oif?: string;
}

interface BaseChain {
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly hook: string;
  readonly prio: number;
  readonly policy?: string;
  readonly dev?: string | readonly string[];
}

type Outcome = { readonly cursor: Cursor } | { readonly end: Cursor[] };

export function runHook(sim: Sim, c: Cursor, h: HookPlace): Outcome {
  const ns = namespaceOf(sim, h.netns);
  const { state } = ns;
  const notRead = state.unread.find((u) => u.startsWith('nftables'));
  if (notRead && h.family === 'ip') return { end: unknown(c, h.netns, notRead) };
  const six = isV6(c.packet.dst);
  const legacy = six ? (ns.legacyTables6 ?? []) : ns.legacyTables;
  if (legacy.length && h.family === 'ip') return { end: unknown(c, h.netns, `rules of ${six ? 'ip6tables' : 'iptables'}-legacy (tables ${legacy.join(', ')}) in ${h.netns}, which are not read`) };
  const chains = chainsAt(ns.state.nft, h, six ? 'ip6' : 'ip');
  const answering = sim.answering !== undefined && sim.known.has(h.netns) && isAnswer(sim, c.packet, h.netns);
  const manip = h.hook === 'prerouting' || h.hook === 'output' ? DSTNAT : SRCNAT;
  let at = c;
  let translated = false;
  const untranslate = (): void => {
    const t = h.family === 'ip' ? reverse(sim, at, h) : undefined;
    translated = true;
    if (t) at = note(at, h.netns, 'nat', { hook: h.hook, before: at.packet, packet: t.packet, why: t.why });
  };
  let natDone = false;
  for (const chain of chains) {
    if (answering && !translated && chain.prio >= manip) untranslate();
    if (chain.type === 'nat' && (answering || natDone)) continue;
    const verdict = new NftWalk({
      state, packet: at.packet, family: chain.family, table: chain.table, ctState: answering ? 'established' : 'new', connection: connectionOf(sim, at, h.netns),
      ...(h.iif === undefined ? {} : { iif: h.iif }), ...(h.oif === undefined ? {} : { oif: h.oif }),
    }, chain.policy === 'drop' ? 'drop' : 'accept', sim.choose).run(chain.name);
    if (verdict.kind === 'unknown') return { end: unknown(at, h.netns, verdict.missing) };
    const last = verdict.rules.at(-1);
    const byPolicy = verdict.kind === 'continue' && chain.policy === 'drop';
    if (verdict.kind === 'drop' || verdict.kind === 'reject' || byPolicy) {
      const object = byPolicy ? `policy drop of chain ${chain.family} ${chain.table} ${chain.name} in ${h.netns}` : `nftables ${ruleText(last!)} in ${h.netns}`;
      const why = byPolicy ? `no rule of chain ${chain.name} accepted it and its policy is drop` : `${ruleText(last!)} says ${verdict.kind}: ${last!.text}`;
      const dev = h.iif ?? h.oif;
      at = note(at, h.netns, 'filter', { hook: h.hook, verdict: verdict.kind === 'reject' ? 'reject' : 'drop', rules: verdict.rules, why });
      return { end: drop(at, h.netns, { object, why, reason: 'NETFILTER_DROP', ...(dev ? { dev } : {}) }) };
    }
    if (verdict.nat) {
      const nat = translate(sim, at, h, verdict.nat);
      if (!nat) return { end: unknown(at, h.netns, `${verdict.nat.kind} in ${ruleText(last!)}`) };
      const before = at.packet;
      natDone = true;
      const changed = natText(before, nat) !== 'nothing changes';
      at = note(at, h.netns, 'nat', { hook: h.hook, before, rule: last!, packet: nat, why: `${ruleText(last!)} (${last!.text}): ${natText(before, nat)}` });
      if (changed) at = { ...at, translations: [...at.translations, { netns: h.netns, original: before, translated: nat }] };
    } else if (verdict.rules.length) {
      at = note(at, h.netns, 'filter', { hook: h.hook, verdict: 'accept', rules: verdict.rules, packet: verdict.packet, why: `${ruleText(last!)} ${verdict.kind === 'accept' ? 'accepts' : 'passes'}: ${last!.text}` });
    } else at = { ...at, packet: verdict.packet };
  }
  if (answering && !translated) untranslate();
  return { cursor: at };
}

/** A tunnel's outer packet is a connection of its own. */
function connectionOf(sim: Sim, c: Cursor, netns: string): NonNullable<MatchContext['connection']> {
  const here = c.packet.vxlan ? [] : (sim.answering ?? c.translations).filter((t) => t.netns === netns);
  return {
    original: here[0]?.original ?? c.packet,
    translated: here.flatMap((t) => [...(t.original.src !== t.translated.src ? (['snat'] as const) : []), ...(natDestination(t.original) !== natDestination(t.translated) ? (['dnat'] as const) : [])]),
  };
}

const natDestination = (p: Packet): string => end(p.dst, portOf(p, 'dstPort'));

function chainsAt(nft: readonly Readonly<Record<string, unknown>>[], h: HookPlace, ip: 'ip' | 'ip6'): BaseChain[] {
  const dormant = new Set(nft.flatMap((o) => {
    const t = o['table'] as { family: string; name: string; flags?: string | string[] } | undefined;
    return t?.flags && [t.flags].flat().includes('dormant') ? [`${t.family} ${t.name}`] : [];
  }));
  return nft
    .flatMap((o) => {
      const chain = o['chain'] as BaseChain | undefined;
      return chain?.hook === h.hook ? [chain] : [];
    })
    .filter((chain) => !dormant.has(`${chain.family} ${chain.table}`))
    .filter((chain) => {
      if (h.family === 'ip') return chain.family === ip || (chain.family === 'inet' && chain.hook !== 'ingress');
      if (h.family === 'netdev') {
        const dev = h.iif ?? h.oif ?? '';
        return (chain.family === 'netdev' || (chain.family === 'inet' && chain.hook === 'ingress')) && [chain.dev ?? []].flat().includes(dev);
      }
      return chain.family === 'bridge';
    })
    .sort((a, b) => a.prio - b.prio);
}

const portOf = (p: Packet, which: 'srcPort' | 'dstPort'): number | undefined => (p.l4.proto === 'icmp' ? undefined : p.l4[which]);
const withPort = (p: Packet, which: 'srcPort' | 'dstPort', port: number | undefined): Packet =>
  port === undefined || p.l4.proto === 'icmp' ? p : { ...p, l4: { ...p.l4, [which]: port } };
const end = (a: string, port: number | undefined): string => (port === undefined ? a : `${a}:${port}`);

function natText(a: Packet, b: Packet): string {
  const parts: string[] = [];
  const from = end(a.src, portOf(a, 'srcPort'));
  const to = end(a.dst, portOf(a, 'dstPort'));
  if (from !== end(b.src, portOf(b, 'srcPort'))) parts.push(`source ${from} → ${end(b.src, portOf(b, 'srcPort'))}`);
  if (to !== end(b.dst, portOf(b, 'dstPort'))) parts.push(`destination ${to} → ${end(b.dst, portOf(b, 'dstPort'))}`);
  return parts.join(', ') || 'nothing changes';
}

function translate(sim: Sim, c: Cursor, h: HookPlace, nat: Nat): Packet | undefined {
  const { state } = namespaceOf(sim, h.netns);
  const p = c.packet;
  switch (nat.kind) {
    case 'masquerade': {
      if (h.oif === undefined) return undefined;
      const d = lookupRoute(state, { dst: p.dst, mark: p.mark, oif: h.oif });
      const hop = d.nexthops[0] ?? { dev: h.oif };
      // IPv4 asks for the address that fits the next hop, IPv6 for the one that fits the destination.
      const near = isV6(p.dst) ? p.dst : (hop.gateway ?? p.dst);
      const source = selectSource(state, { ...d, query: { ...d.query, dst: near } }, { dev: h.oif, ...(hop.gateway ? { gateway: hop.gateway } : {}) });
      return source && { ...p, src: source.address };
    }
    case 'snat':
      return withPort({ ...p, src: nat.address ?? p.src }, 'srcPort', nat.port);
    case 'dnat':
      return withPort({ ...p, dst: nat.address ?? p.dst }, 'dstPort', nat.port);
    case 'redirect': {
      const six = isV6(p.dst);
      const own = h.hook === 'output' ? (six ? '::1' : '127.0.0.1') : state.addresses.find((a) => a.dev === h.iif && a.family === (six ? 'inet6' : 'inet') && a.scope !== 'link')?.address;
      return own === undefined ? undefined : withPort({ ...p, dst: own }, 'dstPort', nat.port);
    }
  }
}

/** The outer packet of an answer is a flow of its own: only what travels inside is an answer. */
function isAnswer(_sim: Sim, p: Packet, _netns: string): boolean {
  return p.vxlan === undefined;
}

/** Undoes, on an answer, what was done to the request in this namespace. */
function reverse(sim: Sim, c: Cursor, h: HookPlace): { packet: Packet; why: string } | undefined {
  const p = c.packet;
  for (const t of [...(sim.answering ?? [])].reverse()) {
    if (t.netns !== h.netns) continue;
    const { original: o, translated: n } = t;
    if ((h.hook === 'prerouting' || h.hook === 'output') && o.src !== n.src && p.dst === n.src && p.src === n.dst) {
      const packet = withPort({ ...p, dst: o.src }, 'dstPort', portOf(o, 'srcPort'));
      return { packet, why: `connection tracking: an answer, ${natText(p, packet)}` };
    }
    if ((h.hook === 'postrouting' || h.hook === 'input') && o.dst !== n.dst && p.src === n.dst) {
      const packet = withPort({ ...p, src: o.dst }, 'srcPort', portOf(o, 'dstPort'));
      return { packet, why: `connection tracking: an answer, ${natText(p, packet)}` };
    }
  }
  return undefined;
}
