/** REST addresses of kinds and objects. Source: API concepts, "Resource URIs". */
import type { KubeObject, ObjectKind } from './objects.js';

/** `v1` or `apps/v1`, as in `apiVersion`. */
export function apiVersionOf(kind: ObjectKind<KubeObject>): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

/** `/api/v1/namespaces/NS/pods[/NAME[/SUB]]`; without a namespace, all namespaces. */
export function resourcePath(
  kind: ObjectKind<KubeObject>,
  target: { readonly namespace?: string | undefined; readonly name?: string | undefined; readonly subresource?: string | undefined } = {},
): string {
  const e = encodeURIComponent;
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const scope = kind.namespaced && target.namespace !== undefined && target.namespace !== '' ? `/namespaces/${e(target.namespace)}` : '';
  const name = target.name === undefined ? '' : `/${e(target.name)}`;
  const sub = target.subresource === undefined ? '' : `/${target.subresource}`;
  return `${root}${scope}/${kind.plural}${name}${sub}`;
}

/** `pod default/web-a`, for messages. */
export function describeObject(kind: ObjectKind<KubeObject>, name?: string, namespace?: string): string {
  return name === undefined ? kind.plural : `${kind.singular} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}
