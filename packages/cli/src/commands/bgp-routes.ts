/** What BIRD on a node knows: each route of each peer, and which is used. */
import type { BgpRoute } from '@podway/agent';
import { defineCommand, optional } from '../command.js';
import { labOption } from '../lab.js';
import { bgpSpeakers, sinceText } from '../bgp.js';

interface Row extends BgpRoute {
  readonly node: string;
}

export const command = defineCommand({
  name: 'bgp routes',
  summary: 'Show the routes that the BGP speakers of nodes and routers know',
  details: '`*` marks the route that is used; `unreachable` one whose next hop is on no connected subnet, which the kernel never gets. What the kernel has: podway node exec m1 -- ip route show proto bird',
  arguments: { node: optional('name of a node, or of a router of a rack; all when absent', 'nodes') },
  options: { ...labOption },
  examples: [['podway bgp routes m1', 'what m1 has learnt, and from whom'], ['podway bgp routes -o wide', 'of every node, with next hops, local preference and communities']],
  needsRoot: true,
  view: {
    table: (rows: readonly Row[], wide) => ({
      columns: ['NODE', '', 'PREFIX', 'VIA', 'DEV', 'FROM', 'AS PATH', 'SINCE', ...(wide ? ['NEXT HOP', 'LOCAL PREF', 'ORIGINATOR', 'KIND', 'COMMUNITIES'] : [])],
      rows: rows.map((r) => [
        r.node, r.best ? '*' : '', r.prefix, r.gateway ?? (r.dest === 'blackhole' ? 'own' : r.dest), r.dev ?? '-', r.from, r.asPath.join(' ') || '-', sinceText(r.since),
        ...(wide ? [r.nextHop ?? '-', r.localPref ?? '-', r.originator ?? '-', r.dest, r.communities.join(' ') || '-'] : []),
      ]),
      empty: 'No routes.',
    }),
    names: (rows) => rows.map((r) => `${r.node}/${r.prefix}`),
  },
  async run({ args, options }) {
    const { bgpRoutes } = await import('@podway/agent');
    const { places } = await bgpSpeakers(options.lab, args.node);
    const found = await Promise.all(places.map(async (n) => (await bgpRoutes(n.socket)).map((r): Row => ({ ...r, node: n.name }))));
    return found.flat();
  },
});
