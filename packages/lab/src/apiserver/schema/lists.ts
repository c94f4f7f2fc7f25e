/**
 * How lists and structs of the API are merged: which key identifies an element for strategic merge
 * patch, and what server-side apply tracks. The declarations do not carry this, so it is a table.
 *
 * Source: the patchMergeKey/patchStrategy and listType/listMapKey/structType tags in
 * k8s.io/api (core, apps, batch, discovery, networking) and apimachinery's ObjectMeta.
 */

export interface ListRule {
  /** Strategic merge: merge by this key; absent with `set` for lists of scalars. Otherwise replace. */
  readonly mergeKey?: string;
  readonly mergeSet?: true;
  /** Server-side apply: keys of a map list, or a set of scalars. Otherwise the list is one value. */
  readonly applyKeys?: readonly string[];
  readonly applySet?: true;
}

const by = (mergeKey: string, ...applyKeys: string[]): ListRule => ({ mergeKey, applyKeys: applyKeys.length === 0 ? [mergeKey] : applyKeys });

/** By type name and field. Fields not named are replaced whole. */
export const LIST_RULES: Readonly<Record<string, ListRule>> = {
  'meta/v1.ObjectMeta.finalizers': { mergeSet: true, applySet: true },
  'meta/v1.ObjectMeta.ownerReferences': by('uid'),
  'core/v1.PodSpec.containers': by('name'),
  'core/v1.PodSpec.initContainers': by('name'),
  'core/v1.PodSpec.ephemeralContainers': by('name'),
  'core/v1.PodSpec.volumes': by('name'),
  'core/v1.PodSpec.imagePullSecrets': by('name'),
  'core/v1.PodSpec.hostAliases': by('ip'),
  'core/v1.PodSpec.topologySpreadConstraints': by('topologyKey', 'topologyKey', 'whenUnsatisfiable'),
  'core/v1.PodSpec.schedulingGates': by('name'),
  'core/v1.PodSpec.resourceClaims': by('name'),
  ...Object.fromEntries(
    ['Container', 'EphemeralContainer'].flatMap((t) => [
      [`core/v1.${t}.env`, by('name')],
      [`core/v1.${t}.ports`, by('containerPort', 'containerPort', 'protocol')],
      [`core/v1.${t}.volumeMounts`, by('mountPath')],
      [`core/v1.${t}.volumeDevices`, by('devicePath')],
    ]),
  ),
  'core/v1.ResourceRequirements.claims': { applyKeys: ['name'] },
  'core/v1.PodStatus.conditions': by('type'),
  'core/v1.PodStatus.podIPs': by('ip'),
  'core/v1.PodStatus.hostIPs': { mergeKey: 'ip' },
  'core/v1.NodeSpec.podCIDRs': { mergeSet: true, applySet: true },
  'core/v1.NodeStatus.conditions': by('type'),
  'core/v1.NodeStatus.addresses': by('type'),
  'core/v1.NamespaceStatus.conditions': by('type'),
  'core/v1.ServiceSpec.ports': by('port', 'port', 'protocol'),
  'core/v1.ServiceStatus.conditions': by('type'),
  'core/v1.ServiceAccount.secrets': by('name'),
  'apps/v1.DeploymentStatus.conditions': by('type'),
  'apps/v1.ReplicaSetStatus.conditions': by('type'),
  'apps/v1.DaemonSetStatus.conditions': by('type'),
  'apps/v1.StatefulSetStatus.conditions': by('type'),
  'batch/v1.JobStatus.conditions': by('type'),
};

/** Structs and maps that server-side apply owns as one value. */
export const ATOMIC: ReadonlySet<string> = new Set([
  'core/v1.PodSpec.nodeSelector',
  'core/v1.EnvVarSource.fieldRef',
  'core/v1.EnvVarSource.resourceFieldRef',
  'core/v1.EnvVarSource.configMapKeyRef',
  'core/v1.EnvVarSource.secretKeyRef',
  'core/v1.ServiceSpec.selector',
  'core/v1.ReplicationControllerSpec.selector',
  'apps/v1.DeploymentSpec.selector',
  'apps/v1.ReplicaSetSpec.selector',
  'apps/v1.DaemonSetSpec.selector',
  'apps/v1.StatefulSetSpec.selector',
  'batch/v1.JobSpec.selector',
  'core/v1.Event.involvedObject',
  'meta/v1.LabelSelector.matchLabels',
]);

/** Lists of scalars that server-side apply treats as sets, and structs with `retainKeys`, are few. */
export const RETAIN_KEYS: ReadonlySet<string> = new Set(['core/v1.PodSpec.volumes', 'apps/v1.DeploymentSpec.strategy']);
