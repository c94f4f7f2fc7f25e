/** A running lab as the page's source: its world, and the processes of its pods with the namespaces they are in. */
import { readlinkSync } from 'node:fs';
import type { PodProcesses, UiSource } from '@podway/web';
import { labWorld } from './world.js';

/** Those by which a pod's processes differ: net, ipc and uts are shared, mnt and pid are each container's own. */
const KINDS = ['net', 'ipc', 'uts', 'mnt', 'pid'] as const;

function namespacesOf(pid: number): Record<string, string> {
  return Object.fromEntries(KINDS.flatMap((k): [string, string][] => {
    try {
      return [[k, /\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/${k}`))?.[1] ?? '']];
    } catch {
      return []; // it has just ended
    }
  }));
}

export function uiSource(lab: string): UiSource {
  return {
    name: lab,
    read: () => labWorld(lab),
    async processes() {
      const { LabLayout, mustRun, readRecords } = await import('@podway/lab/client');
      mustRun(lab);
      const records = await readRecords(new LabLayout(lab).pods);
      return records.map((r): PodProcesses => ({
        pod: `${r.namespace}/${r.name}`,
        ...(r.sandbox.pid > 0 ? { pause: { name: 'pause', pid: r.sandbox.pid, namespaces: namespacesOf(r.sandbox.pid) } } : {}),
        containers: r.containers.map((c) => ({ name: c.name, pid: c.pid, image: c.image, namespaces: namespacesOf(c.pid) })),
      })).sort((a, b) => a.pod.localeCompare(b.pod));
    },
  };
}
