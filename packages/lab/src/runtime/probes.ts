/**
 * Startup, readiness and liveness probes.
 *
 * http and tcp probes come from the node's network namespace, as a kubelet's do (network-probe.ts);
 * exec probes run in the container: one process each, about 5 ms.
 * Source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
 */
import { messageOf } from '@podway/errors';
import type { Clock } from './clock.js';
import type { Container } from './env.js';
import { runInit } from './init.js';
import { httpProbe, tcpProbe, type ProbeResult } from './network-probe.js';
import { execInContainer, type PodRecord } from './record.js';

type Probe = NonNullable<Container['readinessProbe']>;

export interface ProbeTarget {
  readonly init: string;
  readonly nodePid: number;
  readonly podIP: string;
  readonly record: PodRecord;
}

function portOf(port: string | number, container: Container): number {
  if (typeof port === 'number') return port;
  return (container.ports ?? []).find((p) => p.name === port)?.containerPort ?? Number(port);
}

/** Makes one probe. Never rejects. */
export async function runProbe(probe: Probe, container: Container, target: ProbeTarget): Promise<ProbeResult> {
  const timeoutMs = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.exec) {
      const line = execInContainer(target.init, target.record, probe.exec.command ?? [], { container: container.name });
      // The time-out kills podway-init, and with it the command, whichever tool that is.
      const r = await runInit(line.file, line.args, { env: line.env, timeoutMs });
      return {
        ok: r.status === 0,
        output: (r.stdout + r.stderr).trim() || (r.status === 137 ? `command timed out after ${timeoutMs / 1000}s` : `exit status ${r.status}`),
      };
    }
    if (probe.tcpSocket) {
      return await tcpProbe(target.nodePid, { address: probe.tcpSocket.host || target.podIP, port: portOf(probe.tcpSocket.port, container) }, timeoutMs);
    }
    if (probe.httpGet) {
      const { host, port, path, scheme, httpHeaders } = probe.httpGet;
      return await httpProbe(target.nodePid, {
        scheme: scheme === 'HTTPS' ? 'https' : 'http', address: host || target.podIP, port: portOf(port, container),
        path: path?.startsWith('/') ? path : `/${path ?? ''}`, headers: httpHeaders ?? [],
      }, timeoutMs);
    }
  } catch (e) {
    return { ok: false, output: messageOf(e) };
  }
  return { ok: false, output: 'probe kind not provided by this lab' };
}

export type ProbeKind = 'Startup' | 'Readiness' | 'Liveness';

export interface ProbeEvents {
  ready(ready: boolean): void;
  started(): void;
  /** One probe failed; for the Unhealthy event. */
  unhealthy(kind: ProbeKind, output: string): void;
  /** Liveness or startup failed often enough: the container must be restarted. */
  kill(kind: ProbeKind): void;
}

/** Runs the probes of one container run until stopped. Without a readiness probe it is ready at once. */
export function startProbes(
  container: Container,
  { target, on, clock }: { readonly target: () => ProbeTarget; readonly on: ProbeEvents; readonly clock: Clock },
): () => void {
  let stopped = false;
  const timers = new Set<() => void>();
  const later = (ms: number, fn: () => void): void => {
    const cancel = clock.after(ms, () => {
      timers.delete(cancel);
      if (!stopped) fn();
    });
    timers.add(cancel);
  };

  const loop = (kind: ProbeKind, probe: Probe, done: (ok: boolean) => boolean): void => {
    let good = 0;
    let bad = 0;
    const once = async (): Promise<void> => {
      const { ok, output } = await runProbe(probe, container, target());
      if (stopped) return;
      good = ok ? good + 1 : 0;
      bad = ok ? 0 : bad + 1;
      if (!ok) on.unhealthy(kind, output);
      const end = ok ? good >= (probe.successThreshold ?? 1) && done(true) : bad >= (probe.failureThreshold ?? 3) && done(false);
      if (!end) later((probe.periodSeconds ?? 10) * 1000, () => void once());
    };
    later((probe.initialDelaySeconds ?? 0) * 1000, () => void once());
  };

  const afterStart = (): void => {
    on.started();
    if (container.readinessProbe) {
      loop('Readiness', container.readinessProbe, (ok) => (on.ready(ok), false));
    } else on.ready(true);
    if (container.livenessProbe) {
      loop('Liveness', container.livenessProbe, (ok) => (ok ? false : (on.kill('Liveness'), true)));
    }
  };
  if (container.startupProbe) {
    loop('Startup', container.startupProbe, (ok) => {
      if (ok) afterStart();
      else on.kill('Startup');
      return true;
    });
  } else afterStart();

  return () => {
    stopped = true;
    for (const cancel of timers) cancel();
  };
}
