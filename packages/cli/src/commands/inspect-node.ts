/** A node's devices with their purpose and owner, and which pod is behind which veth. */
import type { LinkRole } from '@podway/netstate';
import { defineCommand, required, text } from '../command.js';
import { labOption } from '../lab.js';
import { findTarget, labWorld } from '../world.js';

interface DeviceRow extends LinkRole {
  readonly index: number | undefined;
  readonly shown: string;
  readonly state: string;
  readonly mtu: number | undefined;
  readonly mac: string | undefined;
  readonly master: string | undefined;
  readonly portState: string | undefined;
  readonly addresses: readonly string[];
  /** What is at the other end: `default/web-a eth0`. */
  readonly peer: string | undefined;
  /** A veth that looks like a pod's but leads nowhere known. */
  readonly orphan: boolean;
}

export const command = defineCommand({
  name: 'inspect node',
  summary: 'Show what every device of a node is for, whose it is, and where it leads',
  arguments: { node: required('name of the node', 'nodes') },
  options: { ...labOption, device: text('NAME', 'only this one') },
  examples: [
    ['podway inspect node m1', 'all devices of m1'],
    ['podway inspect node m1 --device veth0a1b2c3d4e5', 'which pod is behind this veth'],
  ],
  needsRoot: true,
  view: {
    table: (rows: readonly DeviceRow[], wide) => ({
      columns: [
        { title: 'IFINDEX', align: 'right' }, 'DEVICE', { title: 'ROLE', shrink: true }, 'OWNER', 'STATE', { title: 'MTU', align: 'right' }, 'ADDRESS', 'LEADS TO', 'PORT OF',
        ...(wide ? ['MAC'] : []),
      ],
      rows: rows.map((r) => [
        r.index, r.shown, r.unused === undefined ? r.role : `${r.role} (unused: ${r.unused})`, r.owner ?? '-', r.state, r.mtu, r.addresses.join(',') || '-',
        r.orphan ? 'ORPHAN: no pod known' : (r.peer ?? '-'), r.master === undefined ? '-' : `${r.master} ${r.portState ?? ''}`.trim(), ...(wide ? [r.mac ?? '-'] : []),
      ]),
    }),
    names: (rows) => rows.map((r) => r.name),
  },
  async run({ args, options, setExitCode }) {
    const [{ linkRoles }, { WorldIndex }] = await Promise.all([import('@podway/netstate'), import('@podway/trace')]);
    const read = await labWorld(options.lab);
    try {
      const target = findTarget(read, `node/${args.node}`, { pod: '', node: '' });
      const index = new WorldIndex(read.world);
      const state = index.namespace(target.key)!.state;
      const roles = linkRoles(state);
      const rows = state.links.map((l, i): DeviceRow => {
        const peer = index.peer(target.key, l.name);
        return {
          ...roles[i]!, index: l.index, mtu: l.mtu, mac: l.address, master: l.master, portState: l.port?.state,
          shown: l.kind === 'veth' && l.peer ? `${l.name}@if${l.peer.index}` : l.name,
          // A bridge has a carrier while one of its ports has: without pods it has none, and its route is shown as linkdown.
          state: !l.up ? 'DOWN' : l.lowerUp !== false ? 'UP' : l.kind === 'bridge' ? 'NO-CARRIER (no port is up)' : 'NO-CARRIER',
          addresses: state.addresses.filter((a) => a.dev === l.name && a.scope !== 'link').map((a) => `${a.address}/${a.prefix}`),
          peer: peer && `${peer.netns} ${peer.dev}`,
          orphan: l.kind === 'veth' && peer === undefined && roles[i]!.role !== 'uplink',
        };
      }).filter((r) => options.device === undefined || r.name === options.device);
      if (rows.length === 0) setExitCode(1);
      return rows;
    } finally {
      read.live.close();
    }
  },
});
