/** How a verb reaches a running lab: its state, its folder, and a client for its API. */
import type { RemoteClient } from '@podway/kube';
import type { LabLayout, LabState, PodRecord } from '@podway/lab/client';
import { isPodwayError, PodwayError } from '@podway/errors';
import { text } from './command.js';

export const labOption = { lab: text('NAME', 'the lab', { default: 'default', complete: 'labs' }) } as const;
export const namespaceOption = { namespace: text('NAME', 'namespace of the pod', { short: '-n', default: 'default' }) } as const;

export interface OpenLab {
  readonly state: LabState;
  readonly layout: LabLayout;
  readonly client: RemoteClient;
  readonly init: string;
}

/** @throws LAB_NOT_RUNNING, LAB_BROKEN */
export async function openLab(name: string): Promise<OpenLab> {
  const [{ mustRun, LabLayout, binary }, { RemoteClient }] = await Promise.all([import('@podway/lab/client'), import('@podway/kube')]);
  const state = mustRun(name);
  const layout = new LabLayout(name);
  return { state, layout, client: await RemoteClient.load({ kubeconfig: layout.kubeconfig }), init: binary('podway-init') };
}

/** What a request for one object by its name answers, with the name instead of the API's path when there is none. */
export async function named<T>(kind: string, name: string, namespace: string | undefined, answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (e) {
    if (!isPodwayError(e, 'KUBE_NOT_FOUND')) throw e;
    const place = namespace === undefined ? '' : ` in namespace ${namespace}`;
    throw new PodwayError('KUBE_NOT_FOUND', `there is no ${kind} ${name}${place}`, {
      object: `${kind} ${name}`, hint: `See: podway get ${kind}s${namespace === undefined ? '' : ' -A'}`, cause: e,
    });
  }
}

/** @throws POD_NOT_FOUND, POD_NOT_RUNNING: with what there is. */
export async function podRecord(name: string, namespace: string, pod: string): Promise<PodRecord> {
  const { readRecords, LabLayout, mustRun } = await import('@podway/lab/client');
  mustRun(name);
  const records = await readRecords(new LabLayout(name).pods);
  const found = records.find((r) => r.namespace === namespace && r.name === pod);
  if (found) return found;
  const there = records.filter((r) => r.namespace === namespace).map((r) => r.name).sort();
  throw new PodwayError('POD_NOT_FOUND', `no pod ${pod} runs in namespace ${namespace}`, {
    object: `pod ${pod}`, hint: there.length ? `Running: ${there.join(', ')}` : 'See: podway get pods -A',
  });
}

export const noNode = (lab: string, node: string, state: LabState): PodwayError => new PodwayError('NODE_NOT_FOUND', `lab ${lab} has no node ${node}`, {
  object: `node ${node}`, hint: `Nodes: ${state.nodes.map((n) => n.name).join(', ')}`,
});
