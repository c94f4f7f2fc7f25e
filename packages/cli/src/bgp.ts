/** What the bgp verbs have in common. */
import { PodwayError } from '@podway/errors';
import type { NodeState } from '@podway/lab/client';

/** One node of a running lab, or all. @throws LAB_NOT_RUNNING, NODE_NOT_FOUND */
export async function bgpNodes(lab: string, name: string | undefined): Promise<readonly NodeState[]> {
  const { mustRun } = await import('@podway/lab/client');
  const { nodes } = mustRun(lab);
  const found = nodes.filter((n) => name === undefined || n.name === name);
  if (found.length === 0) {
    throw new PodwayError('NODE_NOT_FOUND', `lab ${lab} has no node ${name ?? ''}`.trim(), { object: `node ${name ?? ''}`, hint: `Nodes: ${nodes.map((n) => n.name).join(', ')}` });
  }
  return found;
}

/** `2026-11-21 01:41:59.123` (UTC) → `01:41:59`, with the day when it was another one. */
export function sinceText(since: string, now = new Date()): string {
  const m = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)/.exec(since);
  if (!m) return since;
  return m[1] === now.toISOString().slice(0, 10) ? m[2]! : `${m[1]} ${m[2]}`;
}
