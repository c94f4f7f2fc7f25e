/** What the nodes of a lab have given out, beside what the cluster knows. */
import type { NodeRecords } from '@podway/agent';
import type { IPBlock, Node, Pod } from '@podway/kube';
import { openLab, type OpenLab } from './lab.js';

export interface Addresses {
  readonly nodes: readonly Node[];
  readonly blocks: readonly IPBlock[];
  readonly pods: readonly Pod[];
  readonly records: readonly NodeRecords[];
}

/** The records are read from the nodes' disks: an agent that does not run hides nothing. */
export async function readAddresses(lab: OpenLab): Promise<Addresses> {
  const [{ parseRecord }, { IPBlocks, Nodes, Pods }, { readdir, readFile }, { join }] = await Promise.all([
    import('@podway/agent'), import('@podway/kube'), import('node:fs/promises'), import('node:path'),
  ]);
  const [nodes, blocks, pods] = await Promise.all([lab.client.list(Nodes), lab.client.list(IPBlocks), lab.client.list(Pods)]);
  const records = await Promise.all(lab.state.nodes.map(async ({ name }): Promise<NodeRecords> => {
    const dir = join(lab.layout.node(name).state, 'attachments');
    const files = (await readdir(dir).catch(() => [])).filter((f) => f.endsWith('.json') && !f.startsWith('.'));
    // One that goes while it is read is an attachment that ended.
    const read = await Promise.all(files.map(async (f) => parseRecord(await readFile(join(dir, f), 'utf8').catch(() => ''))));
    return { node: name, records: read.flatMap((r) => ('record' in r ? [r.record] : [])) };
  }));
  return { nodes, blocks, pods, records };
}

export async function withLab<T>(name: string, use: (lab: OpenLab) => Promise<T>): Promise<T> {
  const lab = await openLab(name);
  try {
    return await use(lab);
  } finally {
    lab.client.close();
  }
}
