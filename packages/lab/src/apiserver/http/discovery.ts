/**
 * What kinds there are: /api, /apis, the resource lists, and both versions of aggregated discovery.
 * Pure: made from the registry.
 */
import type { KindSpec } from '../kinds/spec.js';
import type { Registry } from '../kinds/registry.js';
import type { MediaType } from './message.js';

/** The API level that is spoken. */
export const VERSION = { major: '1', minor: '32', gitVersion: 'v1.32.0+podway' };

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];

/** Verbs and kinds of subresources. */
const SUB: Readonly<Record<string, { readonly verbs: readonly string[]; readonly kind?: string }>> = {
  status: { verbs: ['get', 'patch', 'update'] },
  binding: { verbs: ['create'], kind: 'Binding' },
  finalize: { verbs: ['update'] },
  ephemeralcontainers: { verbs: ['get', 'patch', 'update'] },
  log: { verbs: ['get'] },
  exec: { verbs: ['create', 'get'], kind: 'PodExecOptions' },
  attach: { verbs: ['create', 'get'], kind: 'PodAttachOptions' },
  portforward: { verbs: ['create', 'get'], kind: 'PodPortForwardOptions' },
};

export function versionInfo(): Record<string, string> {
  return { ...VERSION, gitCommit: '', gitTreeState: 'clean', buildDate: '1970-01-01T00:00:00Z', goVersion: 'none', compiler: 'none', platform: `linux/${process.arch === 'x64' ? 'amd64' : process.arch}` };
}

export const apiVersions = (host: string): unknown => ({
  kind: 'APIVersions',
  versions: ['v1'],
  serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: host }],
});

export function apiGroups(registry: Registry): unknown {
  return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups(registry).map(({ group, versions }) => groupOf(group, versions)) };
}

export function apiGroup(registry: Registry, name: string): unknown {
  const found = groups(registry).find((g) => g.group === name);
  return found === undefined ? undefined : { kind: 'APIGroup', apiVersion: 'v1', ...(groupOf(name, found.versions) as object) };
}

function groups(registry: Registry): { group: string; versions: string[] }[] {
  const out = new Map<string, string[]>();
  for (const { group, version } of registry.groupVersions()) if (group !== '') out.set(group, [...(out.get(group) ?? []), version]);
  return [...out].map(([group, versions]) => ({ group, versions }));
}

function groupOf(name: string, versions: readonly string[]): unknown {
  const list = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: list, preferredVersion: list[0] };
}

const kindsOf = (registry: Registry, group: string, version: string): KindSpec[] =>
  registry.all().filter(({ kind }) => kind.group === group && kind.version === version);

/** Undefined for a group and version that nobody serves. */
export function resourceList(registry: Registry, group: string, version: string): unknown {
  const kinds = kindsOf(registry, group, version);
  if (kinds.length === 0) return undefined;
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: group === '' ? version : `${group}/${version}`,
    resources: kinds.flatMap(({ kind, categories, subresources }) => [
      {
        name: kind.plural,
        singularName: kind.singular,
        namespaced: kind.namespaced,
        kind: kind.kind,
        verbs: VERBS,
        ...(kind.shortNames.length === 0 ? {} : { shortNames: kind.shortNames }),
        ...(categories.length === 0 ? {} : { categories }),
      },
      ...subresources.map((s) => ({ name: `${kind.plural}/${s}`, singularName: '', namespaced: kind.namespaced, kind: SUB[s]?.kind ?? kind.kind, verbs: SUB[s]?.verbs ?? [] })),
    ]),
  };
}

/** v2 or v2beta1 when the client prefers aggregated discovery to the plain one. */
export function aggregatedVersion(accept: readonly MediaType[]): 'v2' | 'v2beta1' | undefined {
  for (const { type, parameters } of accept) {
    if (type !== 'application/json') continue;
    if (parameters['as'] === undefined) return undefined;
    if (parameters['as'] === 'APIGroupDiscoveryList' && parameters['g'] === 'apidiscovery.k8s.io' && (parameters['v'] === 'v2' || parameters['v'] === 'v2beta1')) return parameters['v'];
  }
  return undefined;
}

export function aggregated(registry: Registry, core: boolean, version: 'v2' | 'v2beta1'): unknown {
  const names = core ? [''] : groups(registry).map((g) => g.group);
  return {
    kind: 'APIGroupDiscoveryList',
    apiVersion: `apidiscovery.k8s.io/${version}`,
    metadata: {},
    items: names.map((group) => ({
      metadata: { name: group, creationTimestamp: null },
      versions: registry
        .groupVersions()
        .filter((gv) => gv.group === group)
        .map((gv) => ({
          version: gv.version,
          freshness: 'Current',
          resources: kindsOf(registry, group, gv.version).map(({ kind, categories, subresources }) => ({
            resource: kind.plural,
            responseKind: { group, version: gv.version, kind: kind.kind },
            scope: kind.namespaced ? 'Namespaced' : 'Cluster',
            singularResource: kind.singular,
            verbs: VERBS,
            ...(kind.shortNames.length === 0 ? {} : { shortNames: kind.shortNames }),
            ...(categories.length === 0 ? {} : { categories }),
            ...(subresources.length === 0
              ? {}
              : { subresources: subresources.map((s) => ({ subresource: s, responseKind: { group, version: gv.version, kind: SUB[s]?.kind ?? kind.kind }, verbs: SUB[s]?.verbs ?? [] })) }),
          })),
        })),
    })),
  };
}
