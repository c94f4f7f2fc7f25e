/**
 * Startup, readiness and liveness probes.
 *
 * http and tcp probes come from the node's network namespace, as a kubelet's do, made with
 * busybox (wget, nc): no setns in this process. An http probe follows redirects and fails on 4xx and
 * 5xx. exec probes run in the container. Cost: one process per probe (about 5 ms).
 * Source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
 */
import type { Clock } from './clock.js';
import type { Container } from './env.js';
import { runInit } from './init.js';
import { execInContainer, execInNamespaces, type CommandLine, type PodRecord } from './record.js';

type Probe = NonNullable<Container['readinessProbe']>;

export interface ProbeTarget {
  readonly init: string;
  readonly nodePid: number;
  readonly podIP: string;
  readonly record: PodRecord;
  readonly busybox: string;
}

function portOf(port: string | number, container: Container): number {
  if (typeof port === 'number') return port;
  return (container.ports ?? []).find((p) => p.name === port)?.containerPort ?? Number(port);
}

/** The command whose success is the probe's; undefined for kinds that are not known (grpc). */
export function probeCommand(probe: Probe, container: Container, target: ProbeTarget): CommandLine | undefined {
  if (probe.exec) return execInContainer(target.init, target.record, probe.exec.command ?? [], { container: container.name });
  if (probe.tcpSocket) {
    const { host, port } = probe.tcpSocket;
    return execInNamespaces(target.init, target.nodePid, ['n'], [target.busybox, 'nc', host || target.podIP, String(portOf(port, container)), '-e', '/bin/true']);
  }
  if (probe.httpGet) {
    const { host, port, path, scheme, httpHeaders } = probe.httpGet;
    const address = host || target.podIP;
    const url = `${(scheme ?? 'HTTP').toLowerCase()}://${address.includes(':') ? `[${address}]` : address}:${portOf(port, container)}${path?.startsWith('/') ? path : `/${path ?? ''}`}`;
    const headers = (httpHeaders ?? []).flatMap((h) => ['--header', `${h.name}: ${h.value}`]);
    return execInNamespaces(target.init, target.nodePid, ['n'], [target.busybox, 'wget', '-q', '-O', '/dev/null', ...headers, ...(scheme === 'HTTPS' ? ['--no-check-certificate'] : []), url]);
  }
  return undefined;
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
      const line = probeCommand(probe, container, target());
      // The time-out kills podway-init, and with it the command, whichever tool that is.
      const r = line
        ? await runInit(line.file, line.args, { env: line.env, timeoutMs: (probe.timeoutSeconds ?? 1) * 1000 })
        : { status: 1, stdout: '', stderr: 'probe kind not provided by this lab' };
      if (stopped) return;
      const ok = r.status === 0;
      good = ok ? good + 1 : 0;
      bad = ok ? 0 : bad + 1;
      if (!ok) on.unhealthy(kind, (r.stdout + r.stderr).trim() || (r.status === 137 ? `command timed out after ${probe.timeoutSeconds ?? 1}s` : `exit status ${r.status}`));
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
