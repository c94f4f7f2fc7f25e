/** The kinds a server serves: an explicit list, found by REST address. */
import type { KubeObject, ObjectKind } from '@podway/kube';
import { configMapKind } from './configmap.js';
import { eventKind } from './event.js';
import { ipBlockKind, ipPoolKind } from './ippool.js';
import { namespaceKind } from './namespace.js';
import { networkAttachmentKind } from './networkattachment.js';
import { nodeKind } from './node.js';
import { podKind } from './pod.js';
import { endpointSliceKind, endpointsKind } from './endpointslice.js';
import { serviceKind } from './service.js';
import { DEFAULT_SERVICE_RANGES, type ServiceRanges } from './serviceallocation.js';
import type { KindSpec } from './spec.js';

export const builtIn = (ranges: ServiceRanges = DEFAULT_SERVICE_RANGES): readonly KindSpec[] => [
  namespaceKind, nodeKind, podKind, eventKind, configMapKind, serviceKind(ranges), endpointSliceKind, endpointsKind, networkAttachmentKind, ipPoolKind, ipBlockKind,
];

/** How a kind is called in the store and in look-ups: `/pods`, `apps/deployments`. */
export const kindKey = (kind: ObjectKind<KubeObject>): string => `${kind.group}/${kind.plural}`;

export class Registry {
  private readonly byKey = new Map<string, KindSpec>();

  constructor(kinds: readonly KindSpec[] = builtIn()) {
    for (const k of kinds) this.byKey.set(kindKey(k.kind), k);
  }

  find(group: string, version: string, plural: string): KindSpec | undefined {
    const found = this.byKey.get(`${group}/${plural}`);
    return found?.kind.version === version ? found : undefined;
  }

  of(kind: ObjectKind<KubeObject>): KindSpec | undefined {
    return this.byKey.get(kindKey(kind));
  }

  all(): KindSpec[] {
    return [...this.byKey.values()];
  }

  /** Group and version pairs, the core group first. */
  groupVersions(): { group: string; version: string }[] {
    const seen = new Map<string, { group: string; version: string }>();
    for (const { kind } of this.byKey.values()) seen.set(`${kind.group}/${kind.version}`, { group: kind.group, version: kind.version });
    return [...seen.values()].sort((a, b) => a.group.localeCompare(b.group));
  }
}
