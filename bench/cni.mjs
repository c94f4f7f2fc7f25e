#!/usr/bin/env node
/**
 * CNI ADD and DEL: Podway's shim on a running agent, against Debian's `bridge` + `host-local` for the same job, in the same run.
 *
 *   node bench/cni.mjs [--wiring bridge|ptp] [--chain] [--runs N] [--pods N] [--parallel N] [-o json]        (as root)
 *
 * With `--chain` every pod has a host port and a bandwidth (10 Mbit/s each way) as well: the reference is then the chain `bridge` + `host-local`,
 * `portmap`, `bandwidth`, each called with the result of the one before; Podway does all of it in its one call. Aim: ADD 0.15, DEL 0.25.
 *
 * With `--wiring ptp` against Debian's `ptp` + `host-local`: the same three routes in the pod, the same route on the node.
 * The job: a veth pair from the node's bridge (which is the gateway) into the pod, MTU 1450, an address from the node's /24, a default route.
 * Each side has a scratch node namespace of its own with the same number of pods already there. Every ADD is into a fresh namespace; both
 * sides are measured by turns (A B B A …), DELs as well. A time is from starting the program to its end, as a container runtime sees it: it
 * includes starting a process (the shim, or bridge and the host-local that it starts), which the row "start" shows for a program that does
 * nothing. Records are kept on the same file system; Podway flushes them to disk, host-local does not.
 *
 * Then N at once: the time until the last of N ADDs started together has answered. Aim: ratio of the medians at most 0.5.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildShim } from '../packages/cni/dist/src/index.js';
import { Netns, RtNetlink } from '../packages/kernel/dist/src/index.js';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '60' }, pods: { type: 'string', default: '10' }, parallel: { type: 'string', default: '10' },
    chain: { type: 'boolean', default: false }, output: { type: 'string', short: 'o', default: 'table' }, wiring: { type: 'string', default: 'bridge' },
  },
});
const AIM = values.chain ? { ADD: 0.15, DEL: 0.25 } : { ADD: 0.5, DEL: 0.5 };
const NEEDED = ['bridge', 'ptp', 'host-local', ...(values.chain ? ['portmap', 'bandwidth'] : [])];
const PLUGINS = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'].find((d) => NEEDED.every((p) => existsSync(join(d, p))));

function stop(message, code = 2) {
  console.error(`bench: ${message}`);
  process.exit(code);
}
function count(name) {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < 1) stop(`--${name} takes a whole number of at least 1, not ${values[name]}`);
  return value;
}
const [runs, pods, parallel] = ['runs', 'pods', 'parallel'].map(count);
const { wiring } = values;
if (!['bridge', 'ptp'].includes(wiring)) stop(`--wiring takes bridge or ptp, not ${wiring}`);
if (process.getuid() !== 0) stop('needs root to make network namespaces');
if (!PLUGINS) stop('the reference plugins are missing (Debian package containernetworking-plugins)');
if (pods + parallel > 200) stop('--pods and --parallel together must fit into a /24');

const dir = mkdtempSync(join(tmpdir(), 'podway-bench-cni-'));
const path = (ns) => `/proc/${process.pid}/fd/${ns.fd}`;

/** A node: loopback and an uplink that leads nowhere; its own bridge is made by whoever wires pods. */
function nodeNamespace() {
  const ns = Netns.createNameless('node');
  RtNetlink.with(ns, (nl) => {
    nl.setLink(1, { up: true });
    nl.createLink({ kind: 'veth', name: 'eth0', peer: { name: 'far' } });
    for (const name of ['eth0', 'far']) nl.setLink(name, { up: true });
    nl.addAddr({ index: nl.mustLink('eth0').index, address: '172.18.0.2', prefix: 16 });
  });
  return ns;
}

const vars = (command, id, netns) => ({
  PATH: process.env.PATH, CNI_COMMAND: command, CNI_CONTAINERID: id, CNI_NETNS: netns, CNI_IFNAME: 'eth0', CNI_PATH: PLUGINS,
  CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${id};K8S_POD_INFRA_CONTAINER_ID=${id}`,
});

async function startAgent(ns) {
  const node = { metadata: { name: 'm1' }, spec: { podCIDRs: ['10.244.0.0/24'] }, status: { addresses: [{ type: 'InternalIP', address: '172.18.0.2' }] } };
  const options = {
    node: 'm1', netns: path(ns), network: JSON.stringify({ Network: '10.244.0.0/16', Wiring: wiring, Backend: { Type: 'vxlan' } }), socketPath: join(dir, 'run', 'agent.sock'),
    stateDir: join(dir, 'state'), cniConfDir: join(dir, 'net.d'), nodes: [node],
  };
  const child = fileURLToPath(new URL('../packages/agent/dist/test/agent-child.js', import.meta.url));
  const agent = spawn(process.execPath, [child, JSON.stringify(options)], { stdio: ['pipe', 'pipe', 'inherit'] });
  const inAgent = { ADD: [], DEL: [] };
  await new Promise((resolve, reject) => {
    agent.once('close', () => reject(new Error('the agent ended')));
    createInterface({ input: agent.stdout }).on('line', (line) => {
      const e = JSON.parse(line);
      if (e.type === 'loaded') agent.stdin.write('begin\n');
      if (e.type === 'ready') resolve();
      if (e.type === 'cni') inAgent[e.command]?.push(e.durationMs);
    });
  });
  return { agent, socket: options.socketPath, inAgent };
}

const a = nodeNamespace();
const b = nodeNamespace();
let agent;
try {
  const started = await startAgent(a);
  agent = started.agent;
  const shim = await buildShim(dir);
  const podwayConf = { cniVersion: '1.0.0', name: 'podway', type: 'podway-cni' };
  mkdirSync(join(dir, 'host-local'));
  const referenceConf = {
    cniVersion: '1.0.0', name: 'reference', ...(wiring === 'bridge' ? { type: 'bridge', bridge: 'cni0', isGateway: true } : { type: 'ptp' }), mtu: 1450,
    ipam: { type: 'host-local', dataDir: join(dir, 'host-local'), ranges: [[{ subnet: '10.244.0.0/24' }]], routes: [{ dst: '0.0.0.0/0' }] },
  };
  const sides = {
    podway: { ns: a, env: { PODWAY_AGENT_SOCKET: started.socket }, plugins: [{ program: shim, conf: podwayConf, capabilities: ['portMappings', 'bandwidth'] }] },
    reference: { ns: b, env: {}, plugins: [
      { program: join(PLUGINS, wiring), conf: referenceConf, capabilities: [] },
      ...(values.chain ? [
        { program: join(PLUGINS, 'portmap'), conf: { cniVersion: '1.0.0', name: 'reference', type: 'portmap' }, capabilities: ['portMappings'] },
        { program: join(PLUGINS, 'bandwidth'), conf: { cniVersion: '1.0.0', name: 'reference', type: 'bandwidth' }, capabilities: ['bandwidth'] },
      ] : []),
    ] },
  };
  /** A host port of its own for every pod; the burst is what `bandwidth` takes without complaint. */
  const ports = new Map();
  const asked = (id) => ({
    portMappings: [{ hostPort: 20000 + (ports.get(id) ?? ports.set(id, ports.size).get(id)) % 40000, containerPort: 80, protocol: 'tcp' }],
    bandwidth: { ingressRate: 10_000_000, ingressBurst: 4_000_000, egressRate: 10_000_000, egressBurst: 4_000_000 },
  });
  /** The plugins of a call in their order, and what each is given. */
  const plan = (side, command) => (command === 'DEL' ? [...sides[side].plugins].reverse() : command === 'VERSION' ? sides[side].plugins.slice(0, 1) : sides[side].plugins);
  const input = (plugin, id, prevResult) => JSON.stringify({
    ...plugin.conf, ...(values.chain && plugin.capabilities.length ? { runtimeConfig: Object.fromEntries(Object.entries(asked(id)).filter(([k]) => plugin.capabilities.includes(k))) } : {}),
    ...(prevResult ? { prevResult } : {}),
  });
  const results = { podway: new Map(), reference: new Map() };

  /** One call, from start to end, in milliseconds. The program is started inside the node, as its runtime would. */
  const call = (side, command, id, netns) => {
    const { ns, env } = sides[side];
    return ns.run(() => {
      const began = performance.now();
      let prev = results[side].get(id);
      for (const plugin of plan(side, command)) {
        const r = spawnSync(plugin.program, [], { env: { ...vars(command, id, netns), ...env }, input: input(plugin, id, prev) });
        if (r.status !== 0) throw new Error(`${side} ${command} ${plugin.program}: ${r.stdout}${r.stderr}`);
        if (command === 'ADD') prev = JSON.parse(r.stdout);
      }
      if (command === 'ADD' && values.chain && side === 'reference') results[side].set(id, prev);
      if (command === 'DEL') results[side].delete(id);
      return performance.now() - began;
    });
  };
  const one = (side, plugin, command, id, netns, prev) => {
    const child = sides[side].ns.run(() => spawn(plugin.program, [], { env: { ...vars(command, id, netns), ...sides[side].env }, stdio: ['pipe', 'pipe', 'inherit'] }));
    let text = '';
    child.stdout.on('data', (d) => (text += d));
    child.stdin.end(input(plugin, id, prev));
    return new Promise((resolve, reject) => child.once('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`${side} ${command} ${plugin.program}: ${text}`)))));
  };
  const callAsync = async (side, command, id, netns) => {
    let prev = results[side].get(id);
    for (const plugin of plan(side, command)) {
      const text = await one(side, plugin, command, id, netns, prev);
      if (command === 'ADD') prev = JSON.parse(text);
    }
    if (command === 'ADD' && values.chain && side === 'reference') results[side].set(id, prev);
  };
  const fresh = () => Netns.createNameless('pod');
  const both = (i) => (i % 2 === 0 ? ['podway', 'reference'] : ['reference', 'podway']);

  const standing = [];
  for (let i = 0; i < pods; i++) {
    for (const side of both(0)) {
      const pod = fresh();
      standing.push(pod);
      call(side, 'ADD', `standing-${i}`, path(pod));
    }
  }
  started.inAgent.ADD.length = 0;
  const times = { podway: { ADD: [], DEL: [], many: [], manyDel: [] }, reference: { ADD: [], DEL: [], many: [], manyDel: [] }, start: [] };
  for (let i = 0; i < runs; i++) {
    const made = {};
    for (const side of both(i)) {
      made[side] = fresh();
      times[side].ADD.push(call(side, 'ADD', `pod-${i}`, path(made[side])));
    }
    for (const side of both(i + 1)) {
      times[side].DEL.push(call(side, 'DEL', `pod-${i}`, path(made[side])));
      made[side].close();
    }
    times.start.push(call('podway', 'VERSION', `pod-${i}`, ''));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const alone = { ADD: [...started.inAgent.ADD], DEL: [...started.inAgent.DEL] };
  for (let i = 0; i < Math.max(4, runs / 10); i++) {
    for (const side of both(i)) {
      const made = Array.from({ length: parallel }, fresh);
      for (const [command, key] of [['ADD', 'many'], ['DEL', 'manyDel']]) {
        const began = performance.now();
        await Promise.all(made.map((ns, n) => callAsync(side, command, `many-${i}-${n}`, path(ns))));
        times[side][key].push(performance.now() - began);
      }
      for (const ns of made) ns.close();
    }
  }
  for (const ns of standing) ns.close();

  const at = (list, q) => [...list].sort((x, y) => x - y)[Math.min(list.length - 1, Math.floor(list.length * q))];
  const rows = [['ADD', 'ADD'], ['DEL', 'DEL'], [`${parallel} ADDs at once`, 'many'], [`${parallel} DELs at once`, 'manyDel']].map(([what, key]) => {
    const [p, r] = [times.podway[key], times.reference[key]];
    return {
      what, runs: p.length, podway: { p50: at(p, 0.5), p95: at(p, 0.95) }, reference: { p50: at(r, 0.5), p95: at(r, 0.95) },
      ratio: { p50: at(p, 0.5) / at(r, 0.5), p95: at(p, 0.95) / at(r, 0.95) },
    };
  });
  const inside = { ADD: { p50: at(alone.ADD, 0.5), p95: at(alone.ADD, 0.95) }, DEL: { p50: at(alone.DEL, 0.5), p95: at(alone.DEL, 0.95) } };
  const start = { p50: at(times.start, 0.5), p95: at(times.start, 0.95) };
  const missed = rows.slice(0, 2).filter((r) => r.ratio.p50 > AIM[r.what]).map((r) => r.what);
  if (values.output === 'json') console.log(JSON.stringify({ unit: 'ms', wiring, pods, rows, inAgent: inside, start, aim: AIM, missed }, null, 2));
  else {
    const n = (x) => x.toFixed(1).padStart(8);
    console.log(`CNI, wiring ${wiring}, with ${pods} pods on each node${values.chain ? ', each with a host port and a bandwidth' : ''}; milliseconds from starting the program to its end`);
    console.log(`${''.padEnd(18)}${'podway'.padStart(9)}${'p95'.padStart(8)}${'reference'.padStart(11)}${'p95'.padStart(7)}${'ratio'.padStart(9)}${'p95'.padStart(8)}`);
    for (const r of rows) {
      console.log(`${r.what.padEnd(18)} ${n(r.podway.p50)}${n(r.podway.p95)}  ${n(r.reference.p50)}${n(r.reference.p95)} ${r.ratio.p50.toFixed(2).padStart(8)}${r.ratio.p95.toFixed(2).padStart(8)}`);
    }
    console.log(`of which inside the agent: ADD p50 ${inside.ADD.p50.toFixed(1)} p95 ${inside.ADD.p95.toFixed(1)}, DEL p50 ${inside.DEL.p50.toFixed(1)} p95 ${inside.DEL.p95.toFixed(1)}; starting a process that does nothing: p50 ${start.p50.toFixed(1)}`);
    console.log(`aim of ${AIM.ADD} for ADD and ${AIM.DEL} for DEL: ${missed.length === 0 ? 'met' : `missed for ${missed.join(', ')}`}`);
  }
} finally {
  agent?.kill('SIGKILL');
  a.close();
  b.close();
  rmSync(dir, { recursive: true, force: true });
}
