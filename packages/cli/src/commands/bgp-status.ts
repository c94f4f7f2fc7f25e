/** BGP sessions of the nodes as operators know the table, and why one does not stand. */
import type { BgpSession } from '@podway/agent';
import { defineCommand, flag, optional } from '../command.js';
import { labOption } from '../lab.js';
import { bgpSpeakers, sinceText } from '../bgp.js';

interface Row extends BgpSession {
  readonly node: string;
}
interface Shown {
  readonly sessions: readonly Row[];
  /** Nodes whose speaker did not answer, and why. */
  readonly silent: readonly { readonly node: string; readonly reason: string }[];
}

/** As calicoctl says it. */
const TYPES = { mesh: 'node-to-node mesh', rr: 'route reflector', client: 'reflector client', external: 'external', unknown: 'unknown' } as const;

export const command = defineCommand({
  name: 'bgp status',
  summary: 'Show the BGP sessions of nodes and routers, and why one does not stand',
  details: 'Asks BIRD on each node through its control socket. A session that is not Established is explained: the peer is probed (TCP port 179, ping, dropped MD5 signatures), which takes up to three seconds.',
  arguments: { node: optional('name of a node, or of a router of a rack; all when absent', 'nodes') },
  options: { ...labOption, noProbe: flag('ask BIRD only, probe nobody') },
  examples: [
    ['podway bgp status', 'every session of every node'],
    ['podway bgp status m1 -o wide', 'with AS numbers, router ids, timers and the names of BIRD\'s protocols'],
  ],
  needsRoot: true,
  view: {
    table: ({ sessions, silent }: Shown, wide) => ({
      columns: [
        'NODE', 'PEER ADDRESS', 'PEER', 'PEER TYPE', 'STATE', 'SINCE', 'INFO', { title: 'IN', align: 'right' }, { title: 'OUT', align: 'right' },
        ...(wide ? ['PEER AS', 'LOCAL AS', 'PEER ID', { title: 'HOLD', align: 'right' as const }, 'PROTOCOL'] : []), { title: 'REASON', shrink: true },
      ],
      rows: [
        ...sessions.map((s) => [
          s.node, s.address, s.name, TYPES[s.type], s.protocolState, sinceText(s.since), s.state, s.imported, s.exported,
          ...(wide ? [s.asn, s.localAsn, s.neighborId ?? '-', s.holdTimer ? `${s.holdTimer.left}/${s.holdTimer.of}` : '-', s.protocol] : []),
          s.explanation.cause === 'established' ? '' : `${s.explanation.cause}: ${s.explanation.text}`,
        ]),
        ...silent.map((n) => [n.node, '-', '-', '-', '-', '-', 'no answer', '', '', ...(wide ? ['', '', '', '', ''] : []), n.reason]),
      ],
      empty: 'Nobody has a BGP session: the mesh is off, and there are neither reflectors nor peers (podway network set bgp --help).',
    }),
    names: ({ sessions }) => sessions.map((s) => `${s.node}/${s.protocol}`),
  },
  async run({ args, options, setExitCode }) {
    const [{ bgpStatus }, { Netns }, { messageOf }] = await Promise.all([import('@podway/agent'), import('@podway/kernel'), import('@podway/errors')]);
    const { places, routers } = await bgpSpeakers(options.lab, args.node);
    const sessions: Row[] = [];
    const silent: { node: string; reason: string }[] = [];
    await Promise.all(places.map(async (n) => {
      const netns = Netns.open(n.netns, n.name);
      try {
        const { sessions: found } = await bgpStatus({ socket: n.socket, ...(options.noProbe ? {} : { netns }) });
        sessions.push(...found.map((s) => ({ ...s, node: n.name, name: routers.get(s.address) ?? s.name })));
      } catch (e) {
        silent.push({ node: n.name, reason: messageOf(e) });
      } finally {
        netns.close();
      }
    }));
    const order = new Map(places.map((n, i) => [n.name, i]));
    sessions.sort((a, b) => order.get(a.node)! - order.get(b.node)! || (a.protocol < b.protocol ? -1 : 1));
    silent.sort((a, b) => order.get(a.node)! - order.get(b.node)!);
    if (silent.length || sessions.some((s) => s.state !== 'Established')) setExitCode(1);
    return { sessions, silent };
  },
});
