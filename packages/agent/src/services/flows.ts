/**
 * What must be forgotten when endpoints go: NAT is decided with a flow's first packet, and a UDP flow has no
 * end of its own. So after a change, tracked UDP flows to a Service's address whose endpoint is not among those
 * of the Service any more are deleted, and so are flows that began before the Service had rules and lead to the
 * bare address; the next packet chooses anew. The same goes for what clients are remembered for (affinity).
 * TCP is left alone: its connections end by themselves, and a pod that is ending may still answer.
 */
import { Conntrack, type ConntrackEntry, type Netns } from '@podway/kernel';
import { indexText, LOCAL_OFFSET, type SetName } from './entries.js';
import type { ElementChange, TableContent } from './table.js';

const UDP = 17;
/** More than this many at once are looked for in one listing of all. */
const SINGLE_LOOKUPS = 16;

/** `10.96.0.10 . udp . 53` of the keys whose answer is another now. */
export function changedFrontends(elements: readonly ElementChange[]): Set<string> {
  const found = new Set<string>();
  for (const e of elements) {
    if (/^(services|outside|refused)/.test(e.set)) found.add(e.key);
    else if (e.set.startsWith('endpoints')) found.add(e.key.slice(0, e.key.lastIndexOf(' . ')));
  }
  return found;
}

/** All endpoints of a frontend, as `address . port`; undefined when the address is no Service's. */
export function endpointsOfFrontend(content: TableContent, frontend: string): ReadonlySet<string> | undefined {
  const f = frontend.includes(':') ? 6 : 4;
  const known = (['services', 'refused'] as const).some((s) => content.elements.get(`${s}${f}` satisfies SetName)?.has(frontend));
  if (!known) return undefined;
  const endpoints = content.elements.get(`endpoints${f}`);
  const found = new Set<string>();
  for (const offset of [0, LOCAL_OFFSET]) {
    for (let i = 1; ; i++) {
      const e = endpoints?.get(`${frontend} . ${indexText(offset + i)}`);
      if (e === undefined) break;
      found.add(e);
    }
  }
  return found;
}

/** Whether a tracked flow leads where the Service has nobody (any more). Pure. */
export function isStale(content: TableContent, e: ConntrackEntry): boolean {
  if (e.protocol !== UDP) return false;
  const endpoints = endpointsOfFrontend(content, `${e.orig.dst} . udp . ${e.orig.dport ?? 0}`);
  if (endpoints === undefined) return false;
  return !endpoints.has(`${e.reply.src} . ${e.reply.sport ?? 0}`);
}

/** @param frontends undefined: all there are. @returns how many flows were forgotten */
export function forgetStaleFlows(ns: Netns, content: TableContent, frontends?: ReadonlySet<string>): number {
  const udp = frontends && [...frontends].filter((f) => f.includes(' . udp . '));
  if (udp?.length === 0) return 0;
  return Conntrack.with(ns, (ct) => {
    const stale = (e: ConntrackEntry): boolean => {
      const frontend = `${e.orig.dst} . udp . ${e.orig.dport ?? 0}`;
      if (frontends && !frontends.has(frontend)) return false;
      // Of a Service that is gone, only what was translated: the address may be somebody else's now.
      return isStale(content, e) || (frontends !== undefined && e.status.includes('dst-nat') && endpointsOfFrontend(content, frontend) === undefined);
    };
    const entries = udp && udp.length <= SINGLE_LOOKUPS
      ? udp.flatMap((f) => {
          const [dst, , port] = f.split(' . ');
          return ct.list({ protocol: UDP, dst: dst!, dport: Number(port) });
        })
      : ct.list({ protocol: UDP });
    return entries.filter(stale).reduce((n, e) => n + Number(ct.delete(e)), 0);
  });
}

/** Keys of the affinity map that lead to an endpoint its Service has no more. Pure. @param remembered `address . protocol . port . client` → endpoint */
export function staleAffinity(content: TableContent, remembered: ReadonlyMap<string, string>): string[] {
  return [...remembered].flatMap(([key, endpoint]) => {
    const endpoints = endpointsOfFrontend(content, key.slice(0, key.lastIndexOf(' . ')));
    return endpoints?.has(endpoint) ? [] : [key];
  });
}
