/**
 * The checks on a received packet's source: own addresses, and the reverse path filter.
 * Source: fib_validate_source(), __fib_validate_source() in net/ipv4/fib_frontend.c; RFC 3704.
 */
import { isLocal, lookupRoute, routeText } from './route.js';
import { deviceSysctl, stateOf, type Sim } from './cursor.js';
import type { RouteDecision } from './types.js';

export interface SourceCheck {
  /** 0 off, 1 strict, 2 loose; undefined when the sysctl was not read. */
  readonly mode: number | undefined;
  readonly decision?: RouteDecision;
  readonly drop?: { readonly reason: string; readonly object: string; readonly why: string };
}

export function validateSource(sim: Sim, netns: string, p: { src: string; dst: string; dev: string; mark: number }): SourceCheck {
  const state = stateOf(sim, netns);
  const mode = deviceSysctl(state, p.dev, 'rp_filter', 'max');
  const own = { reason: 'IP_LOCAL_SOURCE', object: `address ${p.src} in ${netns}`, why: `${p.src} is an address of ${netns} itself: a packet from outside with it is not believed` };
  const acceptLocal = deviceSysctl(state, p.dev, 'accept_local', 'or') === 1;
  if (!mode) return { mode, ...(!acceptLocal && isLocal(state, p.src) ? { drop: own } : {}) };
  const decision = lookupRoute(state, { dst: p.src, src: p.dst, iif: 'lo', mark: 0 });
  const name = mode === 1 ? 'strict' : 'loose';
  const object = `sysctl rp_filter of ${p.dev} in ${netns}`;
  if (decision.error) {
    return { mode, decision, drop: { reason: 'IP_RPFILTER', object, why: `rp_filter is ${mode} (${name}) on ${p.dev} and there is no way back to ${p.src}` } };
  }
  if (decision.type !== 'unicast') {
    if (decision.type !== 'local') return { mode, decision, drop: { reason: 'IP_INVALID_SOURCE', object: `address ${p.src}`, why: `the source ${p.src} is a ${decision.type} address` } };
    if (!acceptLocal) return { mode, decision, drop: own };
  }
  const uses = decision.route?.nexthops?.map((h) => h.dev) ?? decision.nexthops.map((h) => h.dev);
  if (uses.includes(p.dev) || mode !== 1) return { mode, decision };
  return {
    mode, decision,
    drop: {
      reason: 'IP_RPFILTER', object,
      why: `rp_filter is 1 (strict) on ${p.dev}, but the way back to ${p.src} leaves by ${uses.join(', ')} (${decision.route ? routeText(decision.route) : ''})`,
    },
  };
}
