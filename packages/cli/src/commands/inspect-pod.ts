/** Where a pod is: processes, namespaces, devices on both sides. */
import { readlinkSync } from 'node:fs';
import { defineCommand, required } from '../command.js';
import { labOption, namespaceOption, podRecord } from '../lab.js';
import { labWorld } from '../world.js';

/** All that /proc/PID/ns has: eight kinds since Linux 5.6. */
const KINDS = ['net', 'mnt', 'pid', 'user', 'uts', 'ipc', 'cgroup', 'time'] as const;

interface ProcessRow {
  readonly what: string;
  readonly pid: number;
  readonly namespaces: Readonly<Record<string, string>>;
}

interface PodView {
  readonly pod: string;
  readonly uid: string;
  readonly node: string;
  readonly ips: readonly string[];
  readonly sandboxId: string;
  /** As the node's mount namespace has it. */
  readonly netns: string | undefined;
  readonly netnsId: string;
  readonly device: string | undefined;
  readonly mac: string | undefined;
  readonly hostDevice: string | undefined;
  readonly hostIndex: number | undefined;
  readonly processes: readonly ProcessRow[];
  readonly inNetns: readonly number[];
}

const inode = (pid: number, kind: string): string => {
  try {
    return readlinkSync(`/proc/${pid}/ns/${kind}`);
  } catch {
    return 'gone';
  }
};

export const command = defineCommand({
  name: 'inspect pod',
  summary: 'Show where a pod is: its processes, namespaces and both ends of its cable',
  arguments: { pod: required('name of the pod', 'pods') },
  options: { ...labOption, ...namespaceOption },
  examples: [['podway inspect pod web-a', 'pids, namespaces, host veth'], ['podway inspect pod web-a -o json', 'for programs']],
  needsRoot: true,
  view: {
    text(v: PodView, { theme }) {
      const rows: [string, string][] = [
        ['pod', `${theme.name(v.pod)}  on node ${v.node}`],
        ['addresses', v.ips.join(', ') || '-'],
        ['sandbox', v.sandboxId],
        ['network namespace', `${v.netnsId}  ${v.netns ?? '(that of the node)'}`],
        ...(v.device === undefined ? [] : [['in the pod', `${v.device}  MAC ${v.mac ?? '-'}`] as [string, string]]),
        ...(v.hostDevice === undefined ? [] : [['on the node', `${v.hostDevice}  ifindex ${v.hostIndex ?? '-'}`] as [string, string]]),
        ['processes inside', `${v.inNetns.length}: ${v.inNetns.join(', ')}`],
      ];
      return [
        ...rows.map(([k, t]) => `${k.padEnd(18)} ${t}`),
        ...v.processes.flatMap((p) => ['', `${theme.strong(p.what)}  pid ${p.pid}`, ...KINDS.map((k) => `  ${k.padEnd(7)} ${p.namespaces[k] ?? '-'}`)]),
      ].join('\n');
    },
  },
  async run({ args, options }) {
    const [{ listNetns }, { WorldIndex }] = await Promise.all([import('@podway/kernel'), import('@podway/trace')]);
    const record = await podRecord(options.lab, options.namespace, args.pod);
    const read = await labWorld(options.lab);
    try {
      const index = new WorldIndex(read.world);
      const key = `${record.namespace}/${record.name}`;
      const eth0 = index.link(key, 'eth0');
      const host = index.peer(key, 'eth0');
      const id = String(record.sandbox.netnsInode);
      return {
        pod: key, uid: record.uid, node: record.node, ips: record.sandbox.ips, sandboxId: record.sandbox.id, netns: record.sandbox.netns,
        netnsId: `net:[${id}]`,
        device: eth0 && `eth0@if${eth0.peer?.index ?? '?'}`, mac: eth0?.address,
        hostDevice: host?.dev, hostIndex: host && index.link(host.netns, host.dev)?.index,
        processes: [
          { what: 'sandbox (pause)', pid: record.sandbox.pid },
          ...record.containers.map((c) => ({ what: `container ${c.name}`, pid: c.pid })),
        ].map((p) => ({ ...p, namespaces: Object.fromEntries(KINDS.map((k) => [k, inode(p.pid, k)])) })),
        inNetns: listNetns().find((n) => n.id === id)?.pids ?? [],
      };
    } finally {
      read.live.close();
    }
  },
});
