/**
 * Five ways of having an MTU wrong, made on purpose in labs of two nodes, and what each looks like to a ping and to a
 * connection: they have five different signatures. What was measured is printed.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { LabLayout, mustRun, readRecords } from '@podway/lab/client';
import { good, kill, labName, needsRoot, podway, ROOT, scratch, startProgram, until } from './lab-support.js';

const run = promisify(execFile);
const NODES = ['m1', 'm2'];

interface Place {
  readonly lab: string;
  readonly target: string;
  /** argv in front of what is to run in the pod, or on the node. */
  readonly pod: (name: string) => string[];
  readonly node: (name: string) => string[];
}

async function lab(underlay: string): Promise<Place> {
  const name = labName();
  const file = join(scratch, `${name}.yaml`);
  writeFileSync(file, `apiVersion: podway.io/v1alpha1\nkind: Lab\nname: ${name}\nunderlay: ${underlay}\nnodes: [{name: m1}, {name: m2}]\npods: [{name: a, node: m1, image: busybox, command: [sleep, "86400"]}, {name: b, node: m2, image: busybox, command: [sleep, "86400"]}]\n`);
  await good('up', '-f', file);
  const records = await readRecords(new LabLayout(name).pods);
  const enter = (pid: number): string[] => ['nsenter', '-n', '-t', String(pid)];
  return {
    lab: name, target: records.find((r) => r.name === 'b')!.sandbox.ips[0]!,
    pod: (pod) => enter(records.find((r) => r.name === pod)!.sandbox.pid),
    node: (node) => enter(mustRun(name).nodes.find((n) => n.name === node)!.holderPid),
  };
}

const inside = async (prefix: readonly string[], ...words: string[]): Promise<string> => (await run(prefix[0]!, [...prefix.slice(1), ...words])).stdout;

/** What becomes of one echo request of so many bytes of payload. */
async function ping(p: Place, bytes: number, df: boolean): Promise<string> {
  const [program = '', ...args] = [...p.pod('a'), 'ping', '-n', '-c', '1', '-W', '1', '-s', String(bytes), ...(df ? ['-M', 'do'] : []), p.target];
  const said = await run(program, args).then((r) => r.stdout, (e: { stdout: string; stderr: string }) => `${e.stdout}${e.stderr}`);
  if (/ 0% packet loss/.test(said)) return 'ok';
  const local = /message too long, mtu=(\d+)/.exec(said);
  if (local) return `too long here (mtu ${local[1]})`;
  const told = /From (\S+) .*Frag needed and DF set \(mtu = (\d+)\)/.exec(said);
  return told ? `frag needed (mtu ${told[2]})` : 'lost';
}

/** Gigabits per second of one connection; 0 when it moved less than a first window. */
async function tcp(p: Place): Promise<number> {
  const server = startProgram('nsenter', [...p.pod('b').slice(1), 'iperf3', '-s', '-1']);
  try {
    await until('iperf3 to listen', async () => (await inside(p.pod('b'), 'ss', '-Hltn', 'sport', '=', ':5201')) !== '');
    const [program = '', ...args] = [...p.pod('a'), 'timeout', '6', 'iperf3', '-c', p.target, '-t', '1', '-J'];
    const said = await run(program, args, { maxBuffer: 1 << 22 }).then((r) => r.stdout, (e: { stdout: string }) => e.stdout);
    const received = (JSON.parse(said || '{}') as { end?: { sum_received?: { bits_per_second: number } } }).end?.sum_received?.bits_per_second ?? 0;
    return received / 1e9;
  } finally {
    kill(server.child.pid!);
    await server.done;
  }
}

interface Signature {
  readonly case: string;
  readonly ping1372: string;
  readonly ping1422: string;
  readonly ping1472: string;
  readonly plain1500: string;
  readonly gbps: number;
}

async function measure(p: Place, name: string): Promise<Signature> {
  // What an earlier case has taught the kernels of path MTUs is forgotten.
  for (const pod of ['a', 'b']) await inside(p.pod(pod), 'ip', 'route', 'flush', 'cache');
  return {
    case: name, ping1372: await ping(p, 1372, true), ping1422: await ping(p, 1422, true), ping1472: await ping(p, 1472, true), plain1500: await ping(p, 1500, false), gbps: await tcp(p),
  };
}

const agentsOf = async (lab: string): Promise<number[]> => {
  const out = await run('pgrep', ['-f', `agent --node m[12] --kubeconfig`]).then((r) => r.stdout, () => '');
  const holders = new Set(await Promise.all(mustRun(lab).nodes.map((n) => namespaceOf(n.holderPid))));
  const pids = out.split('\n').filter(Boolean).map(Number);
  const own = await Promise.all(pids.map(async (pid) => ({ pid, ns: await namespaceOf(pid) })));
  return own.filter((o) => o.ns !== undefined && holders.has(o.ns)).map((o) => o.pid);
};
const namespaceOf = (pid: number): Promise<string | undefined> => run('readlink', [`/proc/${pid}/ns/net`]).then((r) => r.stdout.trim(), () => undefined);

async function links(prefix: readonly string[], ...args: string[]): Promise<string[]> {
  const said = JSON.parse(await inside(prefix, 'ip', '-j', 'link', 'show', ...args)) as { ifname?: string }[];
  return said.flatMap((l) => l.ifname ?? []);
}

/** Pods, their veths and the bridges get this MTU; nobody tells the VTEP. */
async function podsTo(p: Place, mtu: number): Promise<void> {
  for (const node of NODES) {
    for (const dev of [...await links(p.node(node), 'master', 'cni0'), 'cni0']) await inside(p.node(node), 'ip', 'link', 'set', dev, 'mtu', String(mtu));
  }
  for (const pod of ['a', 'b']) await inside(p.pod(pod), 'ip', 'link', 'set', 'eth0', 'mtu', String(mtu));
}

test('five wrong MTUs have five signatures', { skip: needsRoot }, async (t) => {
  const found: Signature[] = [];
  const p = await lab('{mtu: 1500}');
  found.push(await measure(p, 'correct: pod 1450, VTEP 1450'));
  // Else the agents would mend what is made wrong now.
  const agents = await agentsOf(p.lab);
  assert.ok(agents.length >= NODES.length);
  for (const pid of agents) kill(pid, 'SIGSTOP');
  await podsTo(p, 1500);
  found.push(await measure(p, 'pod and bridge 1500, VTEP 1450'));
  for (const node of NODES) {
    await inside(p.node(node), 'nft', 'add table ip filtered');
    await inside(p.node(node), 'nft', 'add chain ip filtered out { type filter hook output priority 0; }');
    await inside(p.node(node), 'nft', 'add rule ip filtered out icmp type destination-unreachable drop');
  }
  found.push(await measure(p, 'the same, ICMP filtered'));
  for (const node of NODES) {
    await inside(p.node(node), 'nft', 'delete table ip filtered');
    // The kernel refuses a VTEP that does not fit its uplink; it does not look again when the uplink shrinks.
    for (const [dev, mtu] of [['eth0', '1550'], ['flannel.1', '1500'], ['eth0', '1500']] as const) await inside(p.node(node), 'ip', 'link', 'set', dev, 'mtu', mtu);
  }
  found.push(await measure(p, 'pod 1500, VTEP 1500, underlay 1500'));
  for (const pid of agents) kill(pid, 'SIGCONT');
  await good('down', '--lab', p.lab);

  // No fault by hand: the lab file says that the switch passes less than its ports' owners think.
  const hole = await lab('{mtu: 1500, switchMTU: 1300}');
  found.push(await measure(hole, 'pod 1450, VTEP 1450, switch passes 1300'));
  await good('down', '--lab', hole.lab);

  for (const s of found) t.diagnostic(`${s.case.padEnd(40)} DF 1372: ${s.ping1372}; DF 1422: ${s.ping1422}; DF 1472: ${s.ping1472}; 1500: ${s.plain1500}; TCP ${s.gbps.toFixed(2)} Gb/s`);
  assert.deepEqual(found.map(({ gbps: _, case: __, ...s }) => Object.values(s)), [
    ['ok', 'ok', 'too long here (mtu 1450)', 'ok'],
    ['ok', 'ok', 'frag needed (mtu 1450)', 'ok'],
    ['ok', 'ok', 'lost', 'ok'],
    ['ok', 'ok', 'ok', 'ok'],
    ['lost', 'lost', 'too long here (mtu 1450)', 'lost'],
  ]);
  // The stall and the black hole move nothing but what fits; the others work, the one that fragments with a loss of speed that is printed.
  const moves = found.map((s) => s.gbps > 0.05);
  assert.deepEqual(moves, [true, true, false, true, false], found.map((s) => s.gbps).join(', '));
});

test('DF in the outer header: what does not fit the path is dropped at the router, and split where DF is unset', { skip: needsRoot }, async () => {
  const example = readFileSync(join(ROOT, 'examples/outer-df.yaml'), 'utf8');
  for (const [df, verdict, says] of [['set', 'dropped', /1450 bytes with DF set do not fit the MTU 1400 of core0/], ['unset', 'delivered', /split into 2/]] as const) {
    const name = labName();
    const file = join(scratch, `${name}.yaml`);
    assert.ok(example.includes('df: set'));
    writeFileSync(file, example.replace('df: set}', `df: ${df}}`));
    await good('up', '-f', file, '--lab', name, '-q');
    for (const [size, expected] of [['1350', 'delivered'], ['1400', verdict]] as const) {
      const { stdout } = await podway('trace', 'a', 'b', '--lab', name, '--size', size);
      assert.match(stdout, new RegExp(`Predicted: ${expected}[^]*Observed: the same`), `${df}, ${size}`);
      if (size === '1400') assert.match(stdout.replace(/\n */g, ' '), says);
    }
    await good('down', '--lab', name, '-q');
  }
});
