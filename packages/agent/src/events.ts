/** What an agent tells of itself: one union, rendered by whoever listens. */
import type { DaemonEvent } from './daemons/index.js';
import type { CniEvent } from './server/index.js';

export type AgentEvent =
  | DaemonEvent
  | { readonly type: 'starting'; readonly node: string; readonly version: string }
  | { readonly type: 'waiting'; readonly for: string }
  | { readonly type: 'took-over'; readonly attachments: number; readonly changes: number }
  | { readonly type: 'ready'; readonly node: string; readonly podCidrs: readonly string[]; readonly mtu: number; readonly backend: string; readonly ms: number }
  /** A change made in the kernel: the sentence of `describe`. */
  | { readonly type: 'changed'; readonly change: string }
  | { readonly type: 'refused'; readonly change: string; readonly error: string; readonly hint?: string }
  | { readonly type: 'peers'; readonly joined: readonly string[]; readonly left: readonly string[]; readonly changes: number; readonly ms: number }
  | { readonly type: 'peer-problem'; readonly node: string; readonly reason: string }
  | { readonly type: 'rolled-back'; readonly attachment: string; readonly pod: string; readonly phase: string }
  | { readonly type: 'collected'; readonly attachment: string; readonly pod: string; readonly addresses: readonly string[] }
  | { readonly type: 'orphan'; readonly link: string; readonly alias: string }
  | { readonly type: 'device-lost'; readonly link: string; readonly why: string }
  | { readonly type: 'damaged-record'; readonly file: string; readonly reason: string }
  | { readonly type: 'network-changed'; readonly backend: string }
  | { readonly type: 'network-settled'; readonly backend: string; readonly left: string }
  /** Rules of Services were brought in line: how many Services there are, what was changed, flows that were forgotten. */
  | { readonly type: 'services'; readonly services: number; readonly changes: number; readonly forgotten: number; readonly ms: number }
  | { readonly type: 'service-problem'; readonly service: string; readonly reason: string }
  | { readonly type: 'block-claimed'; readonly cidr: string; readonly pool: string }
  | { readonly type: 'block-released'; readonly cidr: string }
  | { readonly type: 'api-lost'; readonly error: string }
  | { readonly type: 'failed'; readonly doing: string; readonly error: string }
  | ({ readonly type: 'cni' } & CniEvent)
  | { readonly type: 'stopped' };

/** One line for a log. Pure. */
export function eventLine(e: AgentEvent): string {
  switch (e.type) {
    case 'starting': return `podway agent ${e.version} of node ${e.node} starts`;
    case 'waiting': return `waiting for ${e.for}`;
    case 'took-over': return `took over ${e.attachments} attachments; ${e.changes} things had to be changed`;
    case 'ready': return `ready: ${e.backend}, pods ${e.podCidrs.join(', ')}, MTU ${e.mtu}, after ${e.ms.toFixed(0)} ms`;
    case 'changed': return e.change;
    case 'refused': return `cannot ${e.change}: ${e.error}${e.hint ? ` (${e.hint})` : ''}`;
    case 'peers': {
      const words = [e.joined.length ? `joined: ${e.joined.join(', ')}` : '', e.left.length ? `left: ${e.left.join(', ')}` : ''].filter(Boolean);
      return `peers ${words.join('; ') || 'changed'} (${e.changes} changes, ${e.ms.toFixed(1)} ms)`;
    }
    case 'peer-problem': return `node ${e.node} is not reached: ${e.reason}`;
    case 'rolled-back': return `rolled back ${e.attachment} of ${e.pod}, which was ${e.phase} when the agent before this one ended`;
    case 'collected': return `collected ${e.attachment} of ${e.pod}: freed ${e.addresses.join(', ')}`;
    case 'orphan': return `removed ${e.link} (${e.alias}), which belongs to no attachment`;
    case 'device-lost': return `${e.link}, ${e.why}, is gone: somebody deleted it; the pod has no network until it is made anew`;
    case 'damaged-record': return `damaged record ${e.file}: ${e.reason}`;
    case 'network-changed': return `the cluster's network is to be ${e.backend} from now on`;
    case 'network-settled': return `all nodes use ${e.backend}; ${e.left} is taken down`;
    case 'services': return `services: ${e.services} known, ${e.changes} elements changed${e.forgotten ? `, ${e.forgotten} flows forgotten` : ''} (${e.ms.toFixed(1)} ms)`;
    case 'service-problem': return `Service ${e.service} is not realised in full: ${e.reason}`;
    case 'block-claimed': return `claimed block ${e.cidr} of pool ${e.pool}`;
    case 'block-released': return `released block ${e.cidr}: no pod has an address of it`;
    case 'api-lost': return `the API server is out of reach: ${e.error}`;
    case 'failed': return `${e.doing}: ${e.error}`;
    case 'daemon-started': return `${e.daemon} runs${e.again ? ' again' : ''} (pid ${e.pid}), after ${e.ms.toFixed(0)} ms`;
    case 'daemon-adopted': return `${e.daemon} (pid ${e.pid}) runs already: taken over`;
    case 'daemon-reloaded': return `${e.daemon} (pid ${e.pid}) took ${e.files.join(', ')} in ${e.ms.toFixed(0)} ms`;
    case 'daemon-ended': return `${e.daemon} (pid ${e.pid}) ended: ${e.how}; started again in ${e.restartInMs} ms`;
    case 'daemon-stopped': return `${e.daemon} (pid ${e.pid}) was stopped`;
    case 'daemon-failed': return `${e.daemon}: cannot ${e.doing}: ${e.error}`;
    case 'cni': {
      const outcome = e.error ? `failed: ${e.error.message}` : e.gone ? 'done, but whoever asked has gone' : 'done';
      return `CNI ${e.command} ${e.pod ?? ''} ${e.containerId?.slice(0, 13) ?? ''} ${e.ifname ?? ''} ${outcome} in ${e.durationMs.toFixed(1)} ms`.replace(/ +/g, ' ');
    }
    case 'stopped': return 'stopped';
  }
}
