/**
 * Which way a packet takes: policy rules in order, in each table the longest prefix, then the lowest metric.
 * Source: net/ipv4/fib_rules.c, fib_trie.c (fib_table_lookup), fib_semantics.c (fib_select_path), route.c.
 * Equivalent: `ip route get DST from SRC iif DEV`, with the losers named.
 */
import type { NetnsState, Route, Rule } from '@podway/netstate';
import { addressValue, inPrefix, prefixLength } from './ip.js';
import { isV6, selectSource6 } from './ipv6.js';
import type { LosingRoute, NextHopChoice, RouteDecision } from './types.js';

export interface RouteQuery {
  readonly dst: string;
  readonly src?: string;
  /** Device it came in by; undefined for packets of this host. */
  readonly iif?: string;
  readonly oif?: string;
  readonly mark: number;
  readonly protocol?: number;
}

const ERRORS: Partial<Record<Route['type'], string>> = { blackhole: 'EINVAL', unreachable: 'EHOSTUNREACH', prohibit: 'EACCES' };

export function lookupRoute(state: NetnsState, q: RouteQuery): RouteDecision {
  const family = q.dst.includes(':') ? 'inet6' : 'inet';
  const losing: LosingRoute[] = [];
  const base = { query: { dst: q.dst, mark: q.mark, ...(q.src ? { src: q.src } : {}), ...(q.iif ? { iif: q.iif } : {}), ...(q.oif ? { oif: q.oif } : {}) } };
  const rules = state.rules.filter((r) => r.family === family).sort((a, b) => a.priority - b.priority);
  for (let i = 0; i < rules.length; i++) {
    const rule = rules[i]!;
    if (!ruleMatches(rule, q)) continue;
    if (rule.action === 'goto') {
      const target = rules.findIndex((r) => r.priority === rule.goto);
      if (target > i) i = target - 1;
      continue;
    }
    if (rule.action === 'nop') continue;
    if (rule.action !== 'lookup') {
      const type = rule.action as Route['type'];
      return { ...base, rule, type, losing, nexthops: [], error: ERRORS[type] ?? 'EINVAL' };
    }
    const found = lookupTable(state, rule.table, q, losing);
    if (!found) continue;
    if (rule.suppressPrefixLength !== undefined && prefixLength(found.route.dst) <= rule.suppressPrefixLength) {
      losing.push({ route: found.route, why: `rule ${rule.priority} suppresses prefixes up to /${rule.suppressPrefixLength}` });
      continue;
    }
    if (found.route.type === 'throw') {
      losing.push({ route: found.route, why: 'throw: go on with the next rule' });
      continue;
    }
    const error = ERRORS[found.route.type];
    return { ...base, rule, route: found.route, type: found.route.type, losing, nexthops: found.nexthops, ...(error ? { error } : {}) };
  }
  return { ...base, type: 'unreachable', losing, nexthops: [], error: 'ENETUNREACH' };
}

function ruleMatches(r: Rule, q: RouteQuery): boolean {
  const ok =
    (r.dst === undefined || inPrefix(q.dst, r.dst)) &&
    (r.src === undefined || (q.src !== undefined ? inPrefix(q.src, r.src) : prefixLength(r.src) === 0)) &&
    (r.iif === undefined || r.iif === (q.iif ?? 'lo')) &&
    (r.oif === undefined || r.oif === q.oif) &&
    (r.fwmark === undefined || (q.mark & (r.fwmask ?? 0xffffffff)) >>> 0 === r.fwmark) &&
    (r.ipProto === undefined || r.ipProto === q.protocol);
  return r.invert ? !ok : ok;
}

const hopsOf = (r: Route): readonly (NextHopChoice & { readonly dead?: boolean })[] =>
  r.nexthops ?? [{ dev: r.dev ?? 'lo', ...(r.gateway ? { gateway: r.gateway } : {}), ...(r.dead ? { dead: true } : {}) }];

/** The best of a table; everything else that would have fitted goes to `losing`. */
function lookupTable(state: NetnsState, table: number, q: RouteQuery, losing: LosingRoute[]): { route: Route; nexthops: NextHopChoice[] } | undefined {
  const fitting = state.routes
    .filter((r) => r.table === table && inPrefix(q.dst, r.dst))
    .sort((a, b) => prefixLength(b.dst) - prefixLength(a.dst) || (b.tos ?? 0) - (a.tos ?? 0) || a.metric - b.metric);
  let best: { route: Route; nexthops: NextHopChoice[] } | undefined;
  for (const route of fitting) {
    if (best) {
      const shorter = prefixLength(route.dst) < prefixLength(best.route.dst);
      losing.push({ route, why: shorter ? `shorter prefix than /${prefixLength(best.route.dst)}` : `higher metric ${route.metric}` });
      continue;
    }
    if (route.tos) {
      losing.push({ route, why: `only for TOS ${route.tos}` });
      continue;
    }
    if (ERRORS[route.type] || route.type === 'throw') {
      best = { route, nexthops: [] };
      continue;
    }
    const alive = hopsOf(route).filter((h) => !h.dead);
    const usable = alive.filter((h) => q.oif === undefined || route.type === 'local' || h.dev === q.oif);
    if (usable.length === 0) losing.push({ route, why: alive.length === 0 ? 'its next hop is dead' : `does not leave by ${q.oif}` });
    else best = { route, nexthops: usable.map((h) => ({ dev: h.dev, ...(h.gateway ? { gateway: h.gateway } : {}) })) };
  }
  return best;
}

const SCOPES: Readonly<Record<string, number>> = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 };

/**
 * The source address of a packet that has none yet: the route's preferred one, else the first address of the device that lies in the
 * next hop's subnet, else its first, else any of the host. Source: inet_select_addr().
 */
export function selectSource(state: NetnsState, decision: RouteDecision, hop: NextHopChoice): { address: string; why: string } | undefined {
  const { route } = decision;
  if (route?.prefsrc) return { address: route.prefsrc, why: `the route ${route.dst} says src ${route.prefsrc}` };
  if (route?.type === 'local') return { address: decision.query.dst, why: 'a packet to this host has its destination as source' };
  if (isV6(decision.query.dst)) return selectSource6(state, { dst: decision.query.dst, dev: hop.dev });
  const limit = SCOPES[route?.scope ?? 'link'] ?? 0;
  const usable = (dev: string) => state.addresses.filter((a) => a.family === 'inet' && a.dev === dev && Math.min(SCOPES[a.scope ?? 'global'] ?? 0, 253) <= Math.max(limit, 0));
  const near = hop.gateway ?? decision.query.dst;
  const own = usable(hop.dev);
  const fitting = own.find((a) => inPrefix(near, `${a.address}/${a.prefix}`));
  if (fitting) return { address: fitting.address, why: `first address of ${hop.dev} in the subnet of ${near}` };
  if (own[0]) return { address: own[0].address, why: `first address of ${hop.dev}` };
  const other = state.links.flatMap((l) => (l.name === hop.dev ? [] : usable(l.name))).find((a) => (SCOPES[a.scope ?? 'global'] ?? 0) < 253);
  return other && { address: other.address, why: `${hop.dev} has no address; first of another device (${other.dev})` };
}

export const isLocal = (state: NetnsState, address: string): boolean =>
  state.routes.some((r) => r.table === 255 && r.type === 'local' && inPrefix(address, r.dst));

/** `10.244.1.0/24 via 10.244.1.0 dev flannel.1 onlink`: as `ip route` prints it. */
export function routeText(r: Route): string {
  const type = r.type === 'unicast' ? '' : `${r.type} `;
  const dst = prefixLength(r.dst) === 0 ? 'default' : r.dst.replace(r.family === 'inet6' ? /\/128$/ : /\/32$/, '');
  const hop = r.nexthops
    ? ` ${r.nexthops.map((h) => `nexthop${h.gateway ? ` via ${h.gateway}` : ''} dev ${h.dev} weight ${h.weight}`).join(' ')}`
    : `${r.gateway ? ` via ${r.gateway}` : ''}${r.dev ? ` dev ${r.dev}` : ''}`;
  return `${type}${dst}${hop}${r.prefsrc ? ` src ${r.prefsrc}` : ''}${r.metric ? ` metric ${r.metric}` : ''}${r.onlink ? ' onlink' : ''}${r.linkdown ? ' linkdown' : ''}`;
}

/** The route that decided and those that lost, in one sentence. */
export function decisionText(d: RouteDecision): string {
  const losers = d.losing.length ? `; lost: ${d.losing.map((l) => `${routeText(l.route)} (${l.why})`).join(', ')}` : '';
  if (d.error && !d.route) return `no route to ${d.query.dst} (${d.error})${d.rule && d.rule.action !== 'lookup' ? ` by rule ${d.rule.priority}` : ''}${losers}`;
  const table = d.rule && ![254, 255, 253].includes(d.rule.table) ? ` in table ${d.rule.table} (rule ${d.rule.priority})` : '';
  if (!d.route) return `no route, but the output device ${d.query.oif} is given: ${d.query.dst} is taken to be on that link${losers}`;
  return `${routeText(d.route)}${table}${losers}`;
}

/** Compares two addresses for stable output. */
export const byAddress = (a: string, b: string): number => (addressValue(a) < addressValue(b) ? -1 : 1);
