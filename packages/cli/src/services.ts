/** Services by the words people use: `web`, `kube-system/kube-dns`, `svc/web`. */
import { PodwayError } from '@podway/errors';
import type { EndpointSlice, ObjectClient, Service } from '@podway/kube';

export interface FoundService {
  readonly service: Service;
  readonly slices: readonly EndpointSlice[];
}

/** @throws SERVICE_NOT_FOUND with what there is */
export async function findService(client: ObjectClient, word: string, namespace = 'default'): Promise<FoundService> {
  const found = await lookUpService(client, word, namespace);
  if (found) return found;
  const { Services } = await import('@podway/kube');
  const all = (await client.list(Services)).map((s) => (s.metadata?.namespace === namespace ? (s.metadata.name ?? '') : `${s.metadata?.namespace ?? ''}/${s.metadata?.name ?? ''}`));
  throw new PodwayError('SERVICE_NOT_FOUND', `there is no Service ${word}`, { object: `Service ${word}`, hint: `Services: ${all.sort().join(', ') || 'none'}` });
}

export async function lookUpService(client: ObjectClient, word: string, namespace = 'default'): Promise<FoundService | undefined> {
  const { EndpointSlices, Services, SERVICE_NAME_LABEL } = await import('@podway/kube');
  const path = word.replace(/^(svc|service|services)\//, '').split('/');
  const [ns, name] = path.length === 2 ? [path[0]!, path[1]!] : [namespace, path[0]!];
  const service = (await client.list(Services, { namespace: ns })).find((s) => s.metadata?.name === name);
  if (!service) return undefined;
  return { service, slices: await client.list(EndpointSlices, { namespace: ns, labelSelector: `${SERVICE_NAME_LABEL}=${name}` }) };
}
