/** The kinds a lab serves, by every name people type: `pods`, `pod`, `po`. */
import { usageError } from './errors.js';
import type { KubeObject, ObjectKind } from '@podway/kube';

/** @throws a usage error naming the kinds there are */
export async function kindOf(word: string): Promise<ObjectKind<KubeObject>> {
  const { EndpointSlices, EndpointsKind, Events, Namespaces, Nodes, Pods, Services } = await import('@podway/kube');
  const kinds: readonly ObjectKind<KubeObject>[] = [Pods, Nodes, Namespaces, Services, EndpointSlices, EndpointsKind, Events];
  const found = kinds.find((k) => [k.plural, k.singular, ...k.shortNames].includes(word.toLowerCase()));
  if (found) return found;
  throw usageError(`"${word}" is not a kind that podway knows`, `Known: ${kinds.map((k) => k.plural).join(', ')}. kubectl reaches everything the lab serves.`);
}

/** `key=value` words as labels. @throws a usage error */
export function keyValues(words: readonly string[]): Record<string, string> {
  return Object.fromEntries(words.map((word) => {
    const m = /^([^=]+)=(.*)$/.exec(word);
    if (!m) throw usageError(`"${word}" is not a label`, 'Write it as key=value.');
    return [m[1]!, m[2]!];
  }));
}
