/** Which container of a pod a request means. Pure. Source: k8s.io/kubernetes/pkg/registry/core/pod/strategy.go. */
import type { Pod } from '@podway/kube';
import { badRequest, type ApiError } from '../errors.js';

const DEFAULT_CONTAINER = 'kubectl.kubernetes.io/default-container';

/**
 * @param strict a pod with init containers needs a name or an annotation: for logs, where all of them have one.
 * Errors: ApiError 400, naming the containers there are.
 */
export function containerOf(pod: Pod, asked: string, strict: boolean): string {
  const name = pod.metadata?.name ?? '';
  const init = (pod.spec?.initContainers ?? []).map((c) => c.name);
  const names = (pod.spec?.containers ?? []).map((c) => c.name);
  if (asked !== '') {
    if ([...names, ...init, ...(pod.spec?.ephemeralContainers ?? []).map((c) => c.name)].includes(asked)) return asked;
    throw badRequest(`container ${asked} is not valid for pod ${name}`);
  }
  const preferred = pod.metadata?.annotations?.[DEFAULT_CONTAINER];
  if (preferred !== undefined && names.includes(preferred)) return preferred;
  const [only] = names;
  if (only !== undefined && names.length === 1 && !(strict && init.length > 0)) return only;
  throw mustChoose(name, names, init);
}

function mustChoose(name: string, names: readonly string[], init: readonly string[]): ApiError {
  const also = init.length === 0 ? '' : ` or one of the init containers: [${init.join(' ')}]`;
  return badRequest(`a container name must be specified for pod ${name}, choose one of: [${names.join(' ')}]${also}`);
}
