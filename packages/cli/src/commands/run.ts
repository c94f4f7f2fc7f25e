import type { Pod } from '@podway/kube';
import { PodwayError } from '@podway/errors';
import { defineCommand, duration, many, required, text, variadic } from '../command.js';
import { keyValues } from '../kinds.js';
import { labOption, namespaceOption, noNode, openLab } from '../lab.js';

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
  view: { text: (p: Pod) => `pod/${p.metadata?.name ?? ''} ${p.status?.phase === 'Succeeded' ? 'has done its work' : 'is ready'} at ${p.status?.podIP ?? '-'} on ${p.spec?.nodeName ?? '-'}`, names: (p) => [`pod/${p.metadata?.name ?? ''}`] },
  async run({ args, options, progress, signal }) {
    const words = args.command[0] === '--' ? args.command.slice(1) : args.command;
    const labels = { run: args.name, ...keyValues(options.label) };
    const lab = await openLab(options.lab);
    try {
      const { Pods } = await import('@podway/kube');
      if (options.node !== undefined && !lab.state.nodes.some((n) => n.name === options.node)) throw noNode(options.lab, options.node, lab.state);
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
      return await progress.phase(`pod ${args.name}`, () => ready(lab.client, {
        namespace: options.namespace, name: args.name, timeoutMs: options.timeout, settle: words.length > 0, lab: options.lab, signal,
      }));
    } finally {
      lab.client.close();
    }
  },
});

type Client = Awaited<ReturnType<typeof openLab>>['client'];

/** Reasons for which waiting does not help. */
const HOPELESS = new Set(['CrashLoopBackOff', 'ErrImagePull', 'ImagePullBackOff', 'InvalidImageName', 'CreateContainerConfigError', 'RunContainerError']);
/** A command of one's own may end right after its start: it counts as ready when it has lived this long. */
const SETTLE_MS = 250;
const LOG_LINES = 8;

interface Wanted {
  readonly namespace: string;
  readonly name: string;
  readonly timeoutMs: number;
  readonly settle: boolean;
  readonly lab: string;
  readonly signal: AbortSignal;
}

/** @throws POD_NOT_READY with what the pod itself says: its state and the last lines of its log */
async function ready(client: Client, w: Wanted): Promise<Pod> {
  const { Pods } = await import('@podway/kube');
  let last: Pod | undefined;
  const outcome = await new Promise<'ready' | 'failed' | 'late'>((resolve, reject) => {
    let settling: NodeJS.Timeout | undefined;
    const end = (act: () => void): void => {
      clearTimeout(timer);
      clearTimeout(settling);
      queueMicrotask(() => stop());
      act();
    };
    const timer = setTimeout(() => end(() => resolve('late')), w.timeoutMs);
    w.signal.addEventListener('abort', () => end(() => reject(w.signal.reason as Error)), { once: true });
    const stop = client.watch(Pods, { namespace: w.namespace, fieldSelector: `metadata.name=${w.name}` }, {
      event(_type, pod) {
        last = pod;
        if (pod.status?.phase === 'Succeeded') return end(() => resolve('ready'));
        if (hopeless(pod)) return end(() => resolve('failed'));
        clearTimeout(settling);
        if (!pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True')) return;
        if (w.settle) settling = setTimeout(() => end(() => resolve('ready')), SETTLE_MS);
        else end(() => resolve('ready'));
      },
    });
  });
  if (outcome === 'ready') return last!;
  const flag = w.lab === 'default' ? '' : ` --lab ${w.lab}`;
  const log = await lastLines(client, w).catch(() => ''); // a container that never ran has none
  throw new PodwayError('POD_NOT_READY', outcome === 'late' ? `pod ${w.name} is not ready after ${w.timeoutMs / 1000} s` : `pod ${w.name} does not start`, {
    object: `pod ${w.namespace}/${w.name}`, said: `${whyNot(last)}${log}`,
    hint: `It stays, and is tried again. Its events: podway get${flag} events; away with it: podway delete${flag} pod ${w.name}`,
  });
}

const hopeless = (pod: Pod): boolean => pod.status?.phase === 'Failed' || (pod.status?.containerStatuses ?? []).some((c) => HOPELESS.has(c.state?.waiting?.reason ?? ''));

/** Pure. */
export function whyNot(pod: Pod | undefined): string {
  const status = pod?.status?.containerStatuses?.[0];
  const waiting = status?.state?.waiting;
  const ended = status?.state?.terminated ?? status?.lastState?.terminated;
  const words = [
    ...(ended ? [`its container ended with exit code ${ended.exitCode}${ended.message ? ` (${ended.message})` : ''}`] : []),
    ...(waiting && !(ended && waiting.reason === 'CrashLoopBackOff') ? [[waiting.reason, waiting.message].filter(Boolean).join(': ')] : []),
  ];
  const scheduled = pod?.status?.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'False');
  return words.join('; ') || scheduled?.message || `phase ${pod?.status?.phase ?? 'unknown'}`;
}

async function lastLines(client: Client, w: Wanted): Promise<string> {
  const { Pods, resourcePath } = await import('@podway/kube');
  const read = async (previous: boolean): Promise<string> => {
    let text = '';
    const path = resourcePath(Pods, { namespace: w.namespace, name: w.name, subresource: 'log' });
    const query = { tailLines: String(LOG_LINES), previous: previous ? 'true' : undefined };
    for await (const chunk of (await client.open(path, { accept: '*/*', query })).setEncoding('utf8') as AsyncIterable<string>) text += chunk;
    return text;
  };
  const text = (await read(false)) || (await read(true));
  return text === '' ? '' : `; the last lines of its log:${text.trimEnd().split('\n').map((l) => `\n    ${l}`).join('')}`;
}
