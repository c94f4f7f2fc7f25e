/**
 * Walks nftables chains for a packet. What decides is also what explains: the walk returns the rules that acted.
 *
 * A rule whose match cannot be told is tried both ways; if both lead to the same end, the doubt does not matter. If they differ,
 * the answer is "unknown", with the expression and the rule's handle: never a guess.
 * Source: nf_tables_core.c (nft_do_chain), libnftables-json(5).
 */
import { isUntold, lookupMap, matches, evaluate, type MatchContext, type Untold } from './nft-match.js';
import { ruleWords } from './nft-text.js';
import type { Packet, RuleRef } from './types.js';

type Json = Readonly<Record<string, unknown>>;
const isObject = (v: unknown): v is Json => typeof v === 'object' && v !== null && !Array.isArray(v);

export interface Nat {
  readonly kind: 'snat' | 'dnat' | 'masquerade' | 'redirect';
  readonly address?: string;
  readonly port?: number;
}

export type Verdict =
  | { readonly kind: 'accept' | 'continue' | 'drop' | 'reject'; readonly packet: Packet; readonly rules: readonly RuleRef[]; readonly nat?: Nat }
  | { readonly kind: 'unknown'; readonly missing: string };

interface Rule {
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  readonly handle?: number;
  readonly expr: readonly unknown[];
}

/** Statements that decide nothing about this packet's way. */
const REMEMBERS = /^(update|add|delete) @/;
const HARMLESS = new Set(['counter', 'log', 'comment', 'quota', 'last', 'meter', 'ct count', 'flow']);
const MOST_DOUBTS = 6;

export const refOf = (r: Rule): RuleRef => ({ family: r.family, table: r.table, chain: r.chain, text: ruleWords(r.expr), ...(r.handle === undefined ? {} : { handle: r.handle }) });
export const ruleText = (r: RuleRef): string => `rule ${r.handle ?? '?'} of chain ${r.family} ${r.table} ${r.chain}`;

export class NftWalk {
  private readonly chains = new Map<string, Rule[]>();
  private doubts = 0;

  /** @param policy of the base chain that is run: what reaching its end means. */
  constructor(
    private readonly context: MatchContext,
    private readonly policy: 'accept' | 'drop' = 'accept',
    /** Which of so many the kernel's random number falls on: the caller tries them all. */
    private readonly choose?: (of: number) => number,
  ) {
    for (const o of context.state.nft) {
      const r = o['rule'] as unknown as Rule | undefined;
      if (!r || r.family !== context.family || r.table !== context.table) continue;
      const list = this.chains.get(r.chain);
      if (list) list.push(r);
      else this.chains.set(r.chain, [r]);
    }
  }

  /** Runs a base chain; `continue` means its end was reached (the policy decides). */
  run(chain: string): Verdict {
    return this.chain(chain, 0, this.context.packet, [], 0);
  }

  private chain(name: string, from: number, packet: Packet, rules: readonly RuleRef[], depth: number): Verdict {
    if (depth > 16) return { kind: 'unknown', missing: `chains nested deeper than the kernel allows (${name})` };
    let p = packet;
    let acted = rules;
    const list = this.chains.get(name) ?? [];
    for (let i = from; i < list.length; i++) {
      const r = list[i]!;
      const verdict = this.rule(r, p, acted, depth);
      if (verdict.kind === 'doubt') {
        if (++this.doubts > MOST_DOUBTS) return { kind: 'unknown', missing: `${verdict.missing} (${ruleText(refOf(r))})` };
        const otherwise = this.chain(name, i + 1, p, acted, depth);
        const ifMatched = this.after(verdict.matched, name, i, depth);
        if (this.same(ifMatched, otherwise, depth)) return otherwise;
        return { kind: 'unknown', missing: `${verdict.missing} (${ruleText(refOf(r))})` };
      }
      if (verdict.kind === 'return') return { kind: 'continue', packet: verdict.packet, rules: verdict.rules };
      if (verdict.kind !== 'continue') return verdict;
      p = verdict.packet;
      acted = verdict.rules;
    }
    return { kind: 'continue', packet: p, rules: acted };
  }

  /** Whether two ways through the rules come to the same for the packet. The end of a base chain is its policy. */
  private same(a: Verdict, b: Verdict, depth: number): boolean {
    if (a.kind === 'unknown' || b.kind === 'unknown') return false;
    const kind = (v: typeof a): string => (v.kind === 'continue' && depth === 0 ? this.policy : v.kind);
    return kind(a) === kind(b) && JSON.stringify([a.packet, a.nat]) === JSON.stringify([b.packet, b.nat]);
  }

  /** How the chain goes on behind a rule that was taken to match. */
  private after(v: Verdict | Returning, name: string, i: number, depth: number): Verdict {
    if (v.kind === 'return') return { kind: 'continue', packet: v.packet, rules: v.rules };
    return v.kind === 'continue' ? this.chain(name, i + 1, v.packet, v.rules, depth) : v;
  }

  private rule(r: Rule, packet: Packet, rules: readonly RuleRef[], depth: number): Verdict | Returning | Doubt {
    return this.statements(r, 0, packet, rules, depth);
  }

  private statements(r: Rule, from: number, packet: Packet, rules: readonly RuleRef[], depth: number): Verdict | Returning | Doubt {
    // What an earlier rule of the walk has put there; a hook's end forgets it, as forwarding does.
    const c: MatchContext = { ...this.context, packet, ...(this.priority === undefined ? {} : { priority: this.priority }) };
    let p = packet;
    const acted = (): readonly RuleRef[] => [...rules, refOf(r)];
    for (let i = from; i < r.expr.length; i++) {
      const e = r.expr[i];
      // Maps that packets fill have no JSON in libnftables: listed as text. They decide nothing about this packet.
      if (typeof e === 'string' && REMEMBERS.test(e)) continue;
      if (!isObject(e)) return this.doubt(r, i, p, rules, depth, JSON.stringify(e));
      const kind = Object.keys(e)[0] ?? '';
      const body = e[kind];
      if (HARMLESS.has(kind) || (kind === 'xt' && isObject(body) && body['name'] === 'comment')) continue;
      switch (kind) {
        case 'match': {
          const m = matches(body as Json, { ...c, packet: p });
          if (isUntold(m)) return this.doubt(r, i, p, rules, depth, m.untold);
          if (!m) return { kind: 'continue', packet, rules };
          break;
        }
        case 'accept':
        case 'drop':
          return { kind, packet: p, rules: acted() };
        case 'reject':
          return { kind: 'reject', packet: p, rules: acted() };
        case 'return':
          return { kind: 'return', packet: p, rules: acted() };
        case 'continue':
          break;
        case 'jump':
        case 'goto':
          return this.jump(kind, String((body as Json)['target']), p, acted(), depth);
        case 'vmap': {
          const found = lookupMap(body as Json, { ...c, packet: p });
          if (isUntold(found)) return { kind: 'unknown', missing: `${found.untold} (${ruleText(refOf(r))})` };
          if (found === undefined) return { kind: 'continue', packet: p, rules };
          return this.verdictOf(found, p, acted(), depth, r);
        }
        case 'masquerade':
        case 'snat':
        case 'dnat':
        case 'redirect': {
          const nat = natOf(kind, body, { ...c, packet: p, ...(this.priority === undefined ? {} : { priority: this.priority }) });
          if (nat === 'no element') return { kind: 'continue', packet: p, rules };
          if (isUntold(nat)) return { kind: 'unknown', missing: `${nat.untold} (${ruleText(refOf(r))})` };
          if (!nat) return { kind: 'unknown', missing: `${kind} ${JSON.stringify(body)} (${ruleText(refOf(r))})` };
          return { kind: 'accept', packet: p, rules: acted(), nat };
        }
        case 'mangle': {
          const { key, value } = body as Json;
          const drawn = this.drawn(value, c);
          if (drawn === 'absent') return { kind: 'continue', packet: p, rules };
          if (drawn !== undefined && isObject(key) && isObject(key['meta']) && ['priority', 'mark'].includes(String(key['meta']['key']))) {
            if (key['meta']['key'] === 'mark') p = { ...p, mark: drawn };
            else this.priority = drawn;
            break;
          }
          const isMark = isObject(key) && isObject(key['meta']) && key['meta']['key'] === 'mark';
          const v = typeof value === 'number' ? value : evaluate(value, { ...c, packet: p });
          if (isMark && typeof v === 'number') p = { ...p, mark: v };
          else if (isObject(key) && isObject(key['ct'])) break;
          else return { kind: 'unknown', missing: `${JSON.stringify(e)} (${ruleText(refOf(r))})` };
          break;
        }
        default:
          return this.doubt(r, i, p, rules, depth, JSON.stringify(e));
      }
    }
    return { kind: 'continue', packet: p, rules: p === packet ? rules : acted() };
  }

  private priority: number | undefined;

  /** A number that the kernel draws (`numgen`) or computes from a secret (`jhash`): any of its range. */
  private drawn(value: unknown, c: MatchContext): number | 'absent' | undefined {
    if (!isObject(value) || !this.choose) return undefined;
    const g = isObject(value['numgen']) ? value['numgen'] : isObject(value['jhash']) ? value['jhash'] : undefined;
    if (!g || typeof g['mod'] !== 'number') return undefined;
    if ('expr' in g && evaluate(g['expr'], c) === 'absent') return 'absent';
    return this.choose(g['mod']) + (typeof g['offset'] === 'number' ? g['offset'] : 0);
  }

  /** An expression that is not modelled: the rule is gone on with as if it matched. */
  private doubt(r: Rule, at: number, packet: Packet, rules: readonly RuleRef[], depth: number, missing: string): Verdict | Doubt {
    const matched = this.statements(r, at + 1, packet, rules, depth);
    if (matched.kind === 'unknown') return matched;
    // Two things in one rule that cannot be told: the inner one stands for both.
    if (matched.kind === 'doubt') return { ...matched, missing: `${missing} and ${matched.missing}` };
    return { kind: 'doubt', missing, matched };
  }

  private jump(kind: 'jump' | 'goto', target: string, packet: Packet, rules: readonly RuleRef[], depth: number): Verdict | Returning {
    const v = this.chain(target, 0, packet, rules, depth + 1);
    if (v.kind !== 'continue') return v;
    return kind === 'goto' ? { kind: 'return', packet: v.packet, rules: v.rules } : v;
  }

  private verdictOf(v: unknown, packet: Packet, rules: readonly RuleRef[], depth: number, r: Rule): Verdict | Returning {
    if (isObject(v)) {
      if ('accept' in v || 'drop' in v) return { kind: 'accept' in v ? 'accept' : 'drop', packet, rules };
      if ('return' in v) return { kind: 'return', packet, rules };
      if ('continue' in v) return { kind: 'continue', packet, rules };
      for (const kind of ['jump', 'goto'] as const) if (isObject(v[kind])) return this.jump(kind, String(v[kind]['target']), packet, rules, depth);
    }
    return { kind: 'unknown', missing: `verdict ${JSON.stringify(v)} (${ruleText(refOf(r))})` };
  }
}

interface Returning {
  readonly kind: 'return';
  readonly packet: Packet;
  readonly rules: readonly RuleRef[];
}
interface Doubt {
  readonly kind: 'doubt';
  readonly missing: string;
  readonly matched: Verdict | Returning;
}

/** 'no element': the map has nothing for this packet, and so the rule does not match. */
function natOf(kind: Nat['kind'], body: unknown, c: MatchContext): Nat | Untold | 'no element' | undefined {
  if (kind === 'masquerade') return { kind };
  if (!isObject(body)) return undefined;
  let { addr, port } = body;
  if (isObject(port) && isObject(port['map'])) {
    const found = lookupMap(port['map'], c);
    if (isUntold(found)) return found;
    if (found === undefined) return 'no element';
    port = found;
  }
  if (isObject(addr) && isObject(addr['map'])) {
    const found = lookupMap(addr['map'], c);
    if (isUntold(found)) return found;
    if (found === undefined) return 'no element';
    const parts = isObject(found) && Array.isArray(found['concat']) ? (found['concat'] as readonly unknown[]) : [found];
    if (typeof parts[0] !== 'string') return undefined;
    if (parts.length > 1) return typeof parts[1] === 'number' ? { kind, address: parts[0], port: parts[1] } : undefined;
    addr = parts[0];
  }
  // `snat to ip saddr`: bound to what it is.
  if (isObject(addr) && isObject(addr['payload'])) {
    const value = evaluate(addr, c);
    if (isUntold(value)) return value;
    if (value === 'absent') return 'no element';
    addr = value;
  }
  if (addr !== undefined && typeof addr !== 'string') return undefined;
  if (port !== undefined && typeof port !== 'number') return undefined;
  if (kind !== 'redirect' && addr === undefined && port === undefined) return undefined;
  return { kind, ...(addr === undefined ? {} : { address: addr }), ...(port === undefined ? {} : { port }) };
}
