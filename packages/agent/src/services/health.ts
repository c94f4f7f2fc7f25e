/**
 * Health checks of load balancers: for a Service with externalTrafficPolicy Local, every node answers on the
 * Service's healthCheckNodePort whether it has an endpoint of it: 200 with the count, 503 with none.
 * Source: https://kubernetes.io/docs/tasks/access-application-cluster/create-external-load-balancer/ (the JSON
 * is kube-proxy's).
 */
import { createServer, type Server } from 'node:http';
import { messageOf } from '@podway/errors';
import { listenTcp, type Netns } from '@podway/kernel';

export interface HealthCheck {
  readonly namespace: string;
  readonly name: string;
  readonly port: number;
  readonly endpoints: number;
}

export class HealthServers {
  private readonly servers = new Map<number, { server: Server; check: HealthCheck }>();
  private readonly refused = new Map<number, string>();

  constructor(
    private readonly ns: Netns,
    private readonly failed: (what: string, error: string) => void,
  ) {}

  /** Brings the listeners in line with what is wanted. */
  set(checks: readonly HealthCheck[]): void {
    const wanted = new Map(checks.map((c) => [c.port, c]));
    for (const [port, s] of this.servers) {
      if (wanted.has(port)) continue;
      s.server.close();
      s.server.closeAllConnections();
      this.servers.delete(port);
    }
    for (const [port, check] of wanted) {
      const there = this.servers.get(port);
      if (there) there.check = check;
      else this.open(check);
    }
  }

  private open(check: HealthCheck): void {
    try {
      // The node's addresses may be of either family: one socket for both where the kernel has IPv6.
      const fd = this.listen(check.port);
      const server = createServer((_, response) => {
        const c = this.servers.get(check.port)?.check ?? check;
        response.writeHead(c.endpoints > 0 ? 200 : 503, { 'content-type': 'application/json', 'x-content-type-options': 'nosniff', 'x-load-balancing-endpoint-weight': String(c.endpoints) });
        response.end(`${JSON.stringify({ service: { namespace: c.namespace, name: c.name }, localEndpoints: c.endpoints, serviceProxyHealthy: true }, null, '\t')}\n`);
      });
      server.on('error', (e) => this.refuse(check, messageOf(e)));
      server.listen({ fd });
      // The agent's life does not depend on who asks for its health.
      server.unref();
      this.servers.set(check.port, { server, check });
      this.refused.delete(check.port);
    } catch (e) {
      this.refuse(check, messageOf(e));
    }
  }

  private listen(port: number): number {
    try {
      return listenTcp(this.ns, '::', port);
    } catch {
      return listenTcp(this.ns, '0.0.0.0', port);
    }
  }

  private refuse(check: HealthCheck, error: string): void {
    if (this.refused.get(check.port) === error) return;
    this.refused.set(check.port, error);
    this.failed(`answer health checks of Service ${check.namespace}/${check.name} on port ${check.port}`, error);
  }

  close(): void {
    this.set([]);
  }
}
