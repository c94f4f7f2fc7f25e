/** Shared by the tests: one trace, predicted and observed, as a report. */
import assert from 'node:assert/strict';
import { buildReport, observeFlow, type Flow, type Observed, type Report } from '../src/index.js';
import type { Cluster } from './fixture.js';

export const isRoot = process.getuid?.() === 0;
export const needsRoot = { skip: isRoot ? false : 'needs root: makes network namespaces' } as const;

export async function trace(cluster: Cluster, flow: Flow, o: { count?: number; timeoutMs?: number } = {}): Promise<{ report: Report; observed: Observed }> {
  const { world, live } = cluster.read();
  const observed = await observeFlow(world, live, flow, { count: 1, timeoutMs: 1500, ...o });
  return { report: buildReport(world, observed.prediction, observed.observation), observed };
}

/** Prediction and observation agree at every point, both ways. */
export function assertAsPredicted(r: Report): void {
  for (const leg of [r.request, r.reply]) {
    if (!leg) continue;
    const off = leg.rows.filter((x) => x.state !== 'seen' && x.state !== 'copy').map((x) => `${x.point.label}: ${x.state} ${x.differences.join(', ')}${x.state === 'unexpected' ? JSON.stringify(x.observed) : ''}`);
    assert.deepEqual(off, [], `${leg.direction}: ${r.headline}`);
  }
}
