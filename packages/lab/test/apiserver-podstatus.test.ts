/** READY, STATUS and RESTARTS as `kubectl get pods` computes them; one row per situation. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Pod } from '@podway/kube';
import { humanDuration, podSummary } from '../src/apiserver/index.js';

const NOW = Date.parse('2026-01-01T00:10:00Z');
type Status = NonNullable<Pod['status']>;
type Container = NonNullable<Status['containerStatuses']>[number];
const c = (state: Container['state'], rest: Partial<Container> = {}): Container => ({ name: 'c', image: 'i', imageID: '', ready: false, restartCount: 0, state: state ?? {}, ...rest });
const running = (rest: Partial<Container> = {}): Container => c({ running: { startedAt: '2026-01-01T00:00:00Z' } }, { ready: true, ...rest });
const done = (exitCode: number, reason = '', extra: object = {}): Container => c({ terminated: { exitCode, reason, ...extra } });

const rows: [name: string, status: Status, expected: [ready: string, status: string, restarts: string], more?: { init?: object[]; deleted?: boolean; containers?: number }][] = [
  ['fresh', { phase: 'Pending' }, ['0/1', 'Pending', '0']],
  ['image', { phase: 'Pending', containerStatuses: [c({ waiting: { reason: 'ContainerCreating' } })] }, ['0/1', 'ContainerCreating', '0']],
  ['no image', { phase: 'Pending', containerStatuses: [c({ waiting: { reason: 'ImagePullBackOff' } })] }, ['0/1', 'ImagePullBackOff', '0']],
  ['running', { phase: 'Running', containerStatuses: [running()] }, ['1/1', 'Running', '0']],
  ['crashing', { phase: 'Running', containerStatuses: [c({ waiting: { reason: 'CrashLoopBackOff' } }, { restartCount: 4, lastState: { terminated: { exitCode: 1, finishedAt: '2026-01-01T00:09:57Z' } } })] }, ['0/1', 'CrashLoopBackOff', '4 (3s ago)']],
  ['restarted', { phase: 'Running', containerStatuses: [running({ restartCount: 2, lastState: { terminated: { exitCode: 0, finishedAt: '2026-01-01T00:05:00Z' } } })] }, ['1/1', 'Running', '2 (5m ago)']],
  ['completed', { phase: 'Succeeded', containerStatuses: [done(0, 'Completed')] }, ['0/1', 'Completed', '0']],
  ['error', { phase: 'Failed', containerStatuses: [done(1, 'Error')] }, ['0/1', 'Error', '0']],
  ['signal', { phase: 'Failed', containerStatuses: [done(137, '', { signal: 9 })] }, ['0/1', 'Signal:9', '0']],
  ['exit code', { phase: 'Failed', containerStatuses: [done(3)] }, ['0/1', 'ExitCode:3', '0']],
  ['evicted', { phase: 'Failed', reason: 'Evicted' }, ['0/1', 'Evicted', '0']],
  ['terminating', { phase: 'Running', containerStatuses: [running()] }, ['1/1', 'Terminating', '0'], { deleted: true }],
  ['ended and deleted', { phase: 'Succeeded', containerStatuses: [done(0, 'Completed')] }, ['0/1', 'Completed', '0'], { deleted: true }],
  ['lost', { phase: 'Running', reason: 'NodeLost' }, ['0/1', 'Unknown', '0'], { deleted: true }],
  ['first of two inits', { phase: 'Pending', initContainerStatuses: [c({ running: {} }), c({ waiting: { reason: 'PodInitializing' } })] }, ['0/1', 'Init:0/2', '0'], { init: [{}, {}] }],
  ['second of two inits', { phase: 'Pending', initContainerStatuses: [done(0, 'Completed'), c({ running: {} })] }, ['0/1', 'Init:1/2', '0'], { init: [{}, {}] }],
  ['failing init', { phase: 'Pending', initContainerStatuses: [c({ waiting: { reason: 'CrashLoopBackOff' } }, { restartCount: 3 })] }, ['0/1', 'Init:CrashLoopBackOff', '3'], { init: [{}] }],
  ['init exit', { phase: 'Pending', initContainerStatuses: [done(2)] }, ['0/1', 'Init:ExitCode:2', '0'], { init: [{}] }],
  ['inits done', { phase: 'Pending', initContainerStatuses: [done(0, 'Completed')], containerStatuses: [c({ waiting: { reason: 'PodInitializing' } })] }, ['0/1', 'PodInitializing', '0'], { init: [{}] }],
  ['sidecar', { phase: 'Running', conditions: [{ type: 'Initialized', status: 'True' }], initContainerStatuses: [running({ name: 's0', started: true })], containerStatuses: [running()] }, ['2/2', 'Running', '0'], { init: [{ restartPolicy: 'Always' }] }],
  ['one of two ready', { phase: 'Running', containerStatuses: [running(), running({ ready: false })] }, ['1/2', 'Running', '0'], { containers: 2 }],
  ['one completed, one running', { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }], containerStatuses: [done(0, 'Completed'), running()] }, ['1/2', 'NotReady', '0'], { containers: 2 }],
  ['gated', { phase: 'Pending', conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }] }, ['0/1', 'SchedulingGated', '0']],
];

describe('pod status', () => {
  for (const [name, status, [ready, word, restarts], more] of rows) {
    it(name, () => {
      const pod: Pod = {
        metadata: { name: 'p', ...(more?.deleted === true ? { deletionTimestamp: '2026-01-01T00:10:00Z' } : {}) },
        spec: {
          containers: Array.from({ length: more?.containers ?? 1 }, () => ({ name: 'c', image: 'i' })),
          ...(more?.init === undefined ? {} : { initContainers: more.init.map((x, i) => ({ name: `s${String(i)}`, image: 'i', ...x })) }),
        },
        status,
      };
      assert.deepEqual(podSummary(pod, NOW), { ready, status: word, restarts });
    });
  }
});

describe('ages', () => {
  const s = 1000;
  const m = 60 * s;
  const h = 60 * m;
  const d = 24 * h;
  const cases: [number, string][] = [[0, '0s'], [-500, '0s'], [-5 * s, '<invalid>'], [119 * s, '119s'], [2 * m, '2m'], [3 * m + 5 * s, '3m5s'], [10 * m + 30 * s, '10m'], [179 * m, '179m'], [3 * h, '3h'], [5 * h + 12 * m, '5h12m'], [9 * h + 12 * m, '9h'], [47 * h, '47h'], [2 * d, '2d'], [3 * d + 4 * h, '3d4h'], [40 * d, '40d'], [800 * d, '2y70d'], [3000 * d, '8y']];
  for (const [ms, text] of cases) it(text, () => { assert.equal(humanDuration(ms), text); });
});
