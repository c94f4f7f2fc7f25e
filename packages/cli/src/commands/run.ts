import type { Pod } from '@podway/kube';
import { PodwayError } from '@podway/errors';
import { defineCommand, duration, many, required, text, variadic } from '../command.js';
import { keyValues } from '../kinds.js';
import { labOption, namespaceOption, openLab } from '../lab.js';

const DEFAULT_TIMEOUT_MS = 30_000;

export const command = defineCommand({
  name: 'run',
  summary: 'Start a pod and wait until it is ready',
  arguments: { name: required('name of the pod'), command: variadic('the command, behind --') },
  options: {
    ...labOption, ...namespaceOption,
    image: text('IMAGE', 'what it runs', { default: 'podway/web' }),
    node: text('NAME', 'on which node', { complete: 'nodes' }),
    address: text('IP', 'a fixed address'),
    label: many('KEY=VALUE', 'a label', { short: '-l' }),
    timeout: duration('how long to wait for it', { default: DEFAULT_TIMEOUT_MS }),
  },
  examples: [
    ['podway run web-e --node m2', 'one more of the sample pods'],
    ['podway run box --image busybox -- sleep 86400', 'a pod to look around from'],
  ],
  needsRoot: true,
  view: { text: (p: Pod) => `pod/${p.metadata?.name ?? ''} is ready at ${p.status?.podIP ?? '-'} on ${p.spec?.nodeName ?? '-'}`, names: (p) => [`pod/${p.metadata?.name ?? ''}`] },
  async run({ args, options, progress, signal }) {
    const words = args.command[0] === '--' ? args.command.slice(1) : args.command;
    const labels = { run: args.name, ...keyValues(options.label) };
    const lab = await openLab(options.lab);
    try {
      const { Pods } = await import('@podway/kube');
      await lab.client.create(Pods, {
        apiVersion: 'v1', kind: 'Pod',
        metadata: {
          name: args.name, namespace: options.namespace, labels,
          ...(options.address === undefined ? {} : { annotations: { 'podway.io/ip-addrs': JSON.stringify([options.address]) } }),
        },
        spec: {
          ...(options.node === undefined ? {} : { nodeName: options.node }),
          containers: [{ name: args.name, image: options.image, ...(words.length ? { command: [...words] } : {}) }],
        },
      });
      return await progress.phase(`pod ${args.name}`, () => ready(lab.client, options.namespace, args.name, options.timeout, signal));
    } finally {
      lab.client.close();
    }
  },
});

type Client = Awaited<ReturnType<typeof openLab>>['client'];

/** @throws POD_NOT_READY with what the pod itself says */
async function ready(client: Client, namespace: string, name: string, timeoutMs: number, signal: AbortSignal): Promise<Pod> {
  const { Pods } = await import('@podway/kube');
  let last: Pod | undefined;
  return new Promise((resolve, reject) => {
    const end = (act: () => void): void => {
      clearTimeout(timer);
      queueMicrotask(() => stop());
      act();
    };
    const timer = setTimeout(() => end(() => {
      const c = last?.status?.containerStatuses?.[0]?.state?.waiting;
      reject(new PodwayError('POD_NOT_READY', `pod ${name} is not ready after ${timeoutMs / 1000} s`, {
        object: `pod ${namespace}/${name}`, said: [c?.reason, c?.message].filter(Boolean).join(': ') || (last?.status?.phase ?? 'unknown'),
        hint: 'It goes on starting. Its events: podway get events',
      }));
    }), timeoutMs);
    signal.addEventListener('abort', () => end(() => reject(signal.reason as Error)), { once: true });
    const stop = client.watch(Pods, { namespace, fieldSelector: `metadata.name=${name}` }, {
      event(_type, pod) {
        last = pod;
        const done = pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') || ['Succeeded', 'Failed'].includes(pod.status?.phase ?? '');
        if (done) end(() => resolve(pod));
      },
    });
  });
}
