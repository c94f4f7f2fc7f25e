/**
 * Ephemeral containers: the subresource `ephemeralcontainers` of pods, which may only add to a list.
 * Pure. Source: k8s.io/kubernetes/pkg/apis/core/validation (ValidatePodEphemeralContainersUpdate),
 * KEP-277. Clients before 1.22 speak of an object EphemeralContainers with the list in it.
 */
import { notAllowed, type FieldError } from '../errors.js';
import { clone, isObject, same, type ApiObject, type JsonObject } from '../object.js';
import { podSpecOf } from './poddefaults.js';
import { duplicateNames, validateContainer } from './podvalidation.js';

const AT = 'spec.ephemeralContainers';
/** What makes no sense for a container that comes late and is never restarted. */
const NOT_FOR_THEM = ['ports', 'livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle', 'resizePolicy', 'restartPolicy'] as const;

/** The pod as it is, with the list that was sent. */
export function withEphemeralContainers(before: ApiObject, sent: ApiObject): ApiObject {
  const object = clone(before);
  const list = podSpecOf(sent).ephemeralContainers;
  object.spec = { ...object.spec };
  if (list === undefined) Reflect.deleteProperty(object.spec, 'ephemeralContainers');
  else object.spec['ephemeralContainers'] = clone(list);
  object.metadata.resourceVersion = sent.metadata.resourceVersion ?? before.metadata.resourceVersion ?? '';
  return object;
}

export function validateEphemeralContainers(object: ApiObject): FieldError[] {
  const spec = podSpecOf(object);
  const volumes = new Set((spec.volumes ?? []).map((v) => v.name));
  const others = [...(spec.initContainers ?? []), ...(spec.containers ?? [])].map((c) => c.name);
  const list = spec.ephemeralContainers ?? [];
  return [
    ...duplicateNames(AT, list, others),
    ...list.flatMap((c, i) => {
      const at = `${AT}[${String(i)}]`;
      const target = c.targetContainerName ?? '';
      const known = target === '' || (spec.containers ?? []).some((x) => x.name === target) || (spec.initContainers ?? []).some((x) => x.name === target);
      const resources = c.resources as { limits?: object; requests?: object } | undefined;
      return [
        ...validateContainer(c, at, volumes),
        ...NOT_FOR_THEM.filter((f) => (c as unknown as JsonObject)[f] !== undefined).map((f) => notAllowed(`${at}.${f}`, 'cannot be set for an Ephemeral Container')),
        ...(resources?.limits !== undefined || resources?.requests !== undefined ? [notAllowed(`${at}.resources`, 'cannot be set for an Ephemeral Container')] : []),
        ...(known ? [] : [{ field: `${at}.targetContainerName`, type: 'notfound' as const, value: target, detail: '' }]),
      ];
    }),
  ];
}

/** Existing ones can neither be changed nor be removed. */
export function validateEphemeralUpdate(object: ApiObject, before: ApiObject): FieldError[] {
  const now = podSpecOf(object).ephemeralContainers ?? [];
  return (podSpecOf(before).ephemeralContainers ?? []).flatMap((old) => {
    const found = now.find((c) => c.name === old.name);
    if (found === undefined) return [notAllowed(AT, `existing ephemeral containers "${old.name}" may not be removed\n`)];
    return same(found, old) ? [] : [notAllowed(AT, `existing ephemeral containers "${old.name}" may not be changed\n`)];
  });
}

/** At creation there is no pod yet that needs looking into. */
export const noneAtCreation = (object: ApiObject): FieldError[] =>
  (podSpecOf(object).ephemeralContainers ?? []).length === 0 ? [] : [notAllowed(AT, 'cannot be set on create')];

/** kubectl 1.16 to 1.21. */
export const speaksOfLists = (userAgent: string | undefined): boolean => /^kubectl\S*\/v1\.(1[6-9]|2[01])\./.test(userAgent ?? '');

export function listOf(pod: ApiObject): JsonObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = pod.metadata;
  return { kind: 'EphemeralContainers', apiVersion: 'v1', metadata: { name, namespace, uid, resourceVersion, creationTimestamp }, ephemeralContainers: podSpecOf(pod).ephemeralContainers ?? [] };
}

/** A pod with the list of such an object; undefined for anything else. */
export function podOfList(pod: ApiObject, body: unknown): ApiObject | undefined {
  if (!isObject(body) || body['kind'] !== 'EphemeralContainers') return undefined;
  const list = body['ephemeralContainers'];
  const version = isObject(body['metadata']) ? body['metadata']['resourceVersion'] : undefined;
  const object = clone(pod);
  object.spec = { ...object.spec, ephemeralContainers: Array.isArray(list) ? list : [] };
  if (typeof version === 'string') object.metadata.resourceVersion = version;
  return object;
}
