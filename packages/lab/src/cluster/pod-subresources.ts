/** `kubectl logs`, exec, attach, port-forward: from the API server's hook to the runtime of the node that the pod is on. */
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';
import type { PodSubresources } from '../apiserver/index.js';
import { attachTo, connectInPod, execCommand, runningContainer, type NodeRuntime, type PodRecord } from '../runtime/index.js';

/** @param init path of podway-init */
export function podSubresources(init: string, runtimeOf: (pod: Pod) => NodeRuntime | undefined): PodSubresources {
  const runtimeFor = (pod: Pod): NodeRuntime => {
    const runtime = runtimeOf(pod);
    const name = `${pod.metadata?.namespace}/${pod.metadata?.name}`;
    if (!runtime) throw new PodwayError('POD_NOT_BOUND', `pod ${name} is not on any node yet`, { object: `pod ${name}` });
    return runtime;
  };
  const recordOf = (pod: Pod): PodRecord => runtimeFor(pod).record(pod.metadata?.namespace ?? '', pod.metadata?.name ?? '');
  return {
    check(pod, container) {
      const record = recordOf(pod);
      if (container !== undefined) runningContainer(record, container);
    },
    async exec(pod, request, command) {
      return execCommand(init, recordOf(pod), request, command);
    },
    async attach(pod, request) {
      return attachTo(init, recordOf(pod), request);
    },
    async connect(pod, port) {
      return connectInPod(recordOf(pod), port);
    },
    async log(pod, options, out: Writable, signal) {
      const runtime = runtimeFor(pod);
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
