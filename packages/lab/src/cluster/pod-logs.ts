/** `kubectl logs`: from the API server's hook to the runtime of the node that the pod is on. */
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';
import type { PodSubresources } from '../apiserver/index.js';
import type { NodeRuntime } from '../runtime/index.js';

export function podLogs(runtimeOf: (pod: Pod) => NodeRuntime | undefined): PodSubresources {
  return {
    async log(pod, options, out: Writable, signal) {
      const runtime = runtimeOf(pod);
      const name = `${pod.metadata?.namespace}/${pod.metadata?.name}`;
      if (!runtime) throw new PodwayError('POD_NOT_BOUND', `pod ${name} is not on any node yet`, { object: `pod ${name}` });
      const { sinceTime, limitBytes, ...rest } = options;
      const since = sinceTime === undefined ? {} : { sinceTime };
      const lines = runtime.log(pod.metadata?.namespace ?? '', pod.metadata?.name ?? '', { ...rest, ...since, signal });
      await pipeline(Readable.from(limitBytes === undefined ? lines : limited(lines, limitBytes)), out, { signal });
    },
  };
}

async function* limited(lines: AsyncIterable<string>, bytes: number): AsyncGenerator<string> {
  let left = bytes;
  for await (const line of lines) {
    const text = Buffer.from(line);
    yield text.subarray(0, left).toString();
    left -= text.length;
    if (left <= 0) return;
  }
}
