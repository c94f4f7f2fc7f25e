/** Addresses that nobody uses and that are not free, and the other way round. */
import type { Leak } from '@podway/agent';
import { defineCommand, flag } from '../command.js';
import { readAddresses, withLab } from '../ipam.js';
import { labOption, type OpenLab } from '../lab.js';

interface Checked {
  readonly leaks: readonly Leak[];
  /** What --free took back. */
  readonly freed: readonly string[];
}

export const command = defineCommand({
  name: 'ipam check',
  summary: 'Find addresses that leaked, and free them',
  details: 'Compares the attachment records on the nodes with the pods of the cluster. --free takes back what is held for nobody (a CNI DEL on its node).\nA runtime that calls CNI GC does the same by itself.',
  arguments: {},
  options: { ...labOption, free: flag('free what has leaked') },
  examples: [['podway ipam check', 'exit code 0: every address in use has a pod, and every pod its address'], ['podway ipam check --free', 'and free the others']],
  needsRoot: true,
  view: {
    table: ({ leaks, freed }: Checked) => ({
      columns: ['NODE', 'ADDRESS', 'HELD FOR', { title: 'REASON', shrink: true }],
      rows: leaks.map((l) => [l.node, l.address, l.holder, l.why]),
      empty: freed.length ? `Freed: ${freed.join(', ')}. No address is lost.` : 'No address is lost: each one in use has a pod, and each pod its own.',
    }),
    names: ({ leaks }) => leaks.map((l) => l.address),
  },
  run: ({ options, setExitCode }) => withLab(options.lab, async (lab) => {
    const { leaks } = await import('@podway/agent');
    const look = async (): Promise<Leak[]> => {
      const { pods, records } = await readAddresses(lab);
      return leaks(pods, records);
    };
    const before = await look();
    const collectable = before.filter((l) => l.attachment !== undefined);
    if (!options.free || collectable.length === 0) {
      if (before.length) setExitCode(1);
      return { leaks: before, freed: [] };
    }
    for (const leak of collectable) await free(lab, leak);
    const after = await look();
    if (after.length) setExitCode(1);
    return { leaks: after, freed: collectable.filter((l) => !after.some((a) => a.address === l.address && a.node === l.node)).map((l) => l.address) };
  }),
});

/**
 * CNI DEL of one attachment, as its runtime would ask for it. Not GC: that would need a list of all that is valid,
 * and a pod that starts meanwhile would not stand in it.
 */
async function free(lab: OpenLab, leak: Leak): Promise<void> {
  const [{ execInNode }, { spawnSync }, { PodwayError }] = await Promise.all([import('@podway/lab/client'), import('node:child_process'), import('@podway/errors')]);
  const holderPid = lab.state.nodes.find((n) => n.name === leak.node)?.holderPid;
  if (holderPid === undefined || !leak.attachment) return;
  const { file, args, env } = execInNode(lab.init, holderPid, ['/opt/cni/bin/podway-cni'], {
    CNI_COMMAND: 'DEL', CNI_CONTAINERID: leak.attachment.containerId, CNI_IFNAME: leak.attachment.ifname, CNI_PATH: '/opt/cni/bin',
  });
  const done = spawnSync(file, args, { input: JSON.stringify({ cniVersion: '1.1.0', name: 'podway', type: 'podway-cni' }), env: { ...env }, encoding: 'utf8' });
  if (done.status === 0) return;
  throw new PodwayError('IPAM_FREE', `${leak.address} could not be freed`, { object: `node ${leak.node}`, said: `${done.stdout}${done.stderr}`.trim() });
}
