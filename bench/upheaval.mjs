#!/usr/bin/env node
/**
 * What pods notice while the network below them is changed, and while agents are killed.
 *
 *   node bench/upheaval.mjs [--changes LIST] [--kill SECONDS] [--modes LIST] [-o json]        (as root)
 *
 * A lab of three nodes; a pod of the first asks a pod of the third: a datagram every millisecond, a line every 10 ms over one TCP connection
 * that stays open all the time. Then (1) the backend is changed along --changes, (2) in every mode of --modes, for --kill seconds in all,
 * one agent after the other is killed with -9 and comes back. Printed is what was lost and the longest time between two answers. A gap has
 * the scheduler of a busy machine in it as well: compare with the row "idle". Aim: nothing lost, the connection never broken.
 */
import { execFileSync, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LabLayout, readRecords } from '../packages/lab/dist/src/client.js';

const { values } = parseArgs({
  options: {
    changes: { type: 'string', default: 'bgp,host-gw,vxlan' }, kill: { type: 'string', default: '30' }, modes: { type: 'string', default: 'vxlan,host-gw,bgp' },
    output: { type: 'string', short: 'o', default: 'table' },
  },
});
const PODWAY = fileURLToPath(new URL('../packages/cli/dist/src/main.js', import.meta.url));
const ECHO = fileURLToPath(new URL('echo.mjs', import.meta.url));
const PORT = 7007;
const IDLE_MS = 3000;
const BACK_MS = 30_000;
const lab = `bench${process.pid}`;
if (process.getuid() !== 0) {
  console.error('bench: needs root to make network namespaces');
  process.exit(2);
}
const podway = (...words) => execFileSync(process.execPath, [PODWAY, ...words], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
const list = (text) => text.split(',').filter(Boolean);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (text) => process.stderr.write(`${text}\n`);

const children = [];
function inside(netns, ...argv) {
  const child = spawn('nsenter', [`--net=${netns}`, process.execPath, ECHO, ...argv], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  children.push(child);
  return { child, next: async () => (await lines.next()).value };
}

/** The agent of a node: a process in the node's network namespace with these words. */
function agentPid(node) {
  const netns = readlinkSync(`/proc/${node.holderPid}/ns/net`);
  for (const pid of readdirSync('/proc').filter((p) => /^\d+$/.test(p))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`\0agent\0--node\0${node.node}\0`) && readlinkSync(`/proc/${pid}/ns/net`) === netns) return Number(pid);
    } catch {
      // It ended while we looked.
    }
  }
  return undefined;
}

/** Kills an agent and waits until its successor answers the CNI. @returns milliseconds until then */
async function killOne(node) {
  const before = agentPid(node);
  const since = performance.now();
  process.kill(before, 'SIGKILL');
  for (;;) {
    const now = agentPid(node);
    if (now !== undefined && now !== before && served(node)) return performance.now() - since;
    if (performance.now() - since > BACK_MS) throw new Error(`the agent of ${node.node} did not come back`);
    await wait(20);
  }
}

function served(node) {
  try {
    execFileSync('nsenter', ['-t', String(node.holderPid), '-a', '--', '/opt/cni/bin/podway-cni'], {
      input: JSON.stringify({ cniVersion: '1.1.0', name: 'podway', type: 'podway-cni' }), env: { CNI_COMMAND: 'STATUS', CNI_PATH: '/opt/cni/bin', PATH: process.env.PATH }, stdio: ['pipe', 'ignore', 'ignore'],
    });
    return true;
  } catch {
    return false;
  }
}

/** Datagrams that reached a pod and found its socket's buffer full: a process that did not get the processor in time, not the network. */
function receiveErrors(netns) {
  const [names, numbers] = readFileSync(`/proc/${netns.split('/')[2]}/net/snmp`, 'utf8').split('\n').filter((l) => l.startsWith('Udp:')).map((l) => l.split(' '));
  return Number(numbers[names.indexOf('RcvbufErrors')]);
}

async function main() {
  podway('up', '--lab', lab, '-q');
  const records = await readRecords(new LabLayout(lab).pods);
  const netns = (pod) => `/proc/${records.find((r) => r.name === pod).sandbox.pid}/ns/net`;
  const address = JSON.parse(podway('get', 'pod', 'web-d', '--lab', lab, '-o', 'json')).status.podIP;
  const server = inside(netns('web-d'), 'serve', String(PORT));
  await server.next();
  const asking = inside(netns('web-a'), 'ask', address, String(PORT));
  await asking.next();
  const mark = (name) => {
    say(name);
    asking.child.stdin.write(`mark ${name}\n`);
  };
  mark('idle');
  await wait(IDLE_MS);
  for (const to of list(values.changes)) {
    mark(`change to ${to}`);
    podway('network', 'set', to, '--lab', lab, '-q');
    mark(`(on ${to})`);
    await wait(500);
  }
  const modes = list(values.modes);
  const { agents } = JSON.parse(podway('status', '--lab', lab, '-o', 'json'));
  const kills = {};
  for (const mode of Number(values.kill) > 0 ? modes : []) {
    podway('network', 'set', mode, '--lab', lab, '-q');
    const title = `${mode}, agents killed`;
    mark(title);
    kills[title] = [];
    const until = performance.now() + (Number(values.kill) * 1000) / modes.length;
    while (performance.now() < until) for (const node of agents) kills[title].push(await killOne(node));
    mark(`(${mode})`);
  }
  asking.child.stdin.end();
  const parts = JSON.parse(await asking.next());
  const overflows = ['web-a', 'web-d'].reduce((n, pod) => n + receiveErrors(netns(pod)), 0);
  return { parts: parts.filter((p) => p.name !== 'start'), kills, overflows };
}

let code = 0;
try {
  const { parts, kills, overflows } = await main();
  if (values.output === 'json') {
    console.log(JSON.stringify({ parts, kills, overflows }, null, 2));
  } else {
    console.log('                             datagrams    lost  longest gap   TCP lines   lost  longest gap  kills');
    for (const p of parts) {
      const side = (s) => `${String(s.sent).padStart(9)} ${String(s.sent - s.answered).padStart(7)} ${`${s.gapMs.toFixed(1)} ms`.padStart(12)}`;
      console.log(`${p.name.padEnd(28)} ${side(p.udp)}   ${side(p.tcp)}  ${kills[p.name]?.length ?? ''}`);
    }
    const lost = parts.reduce((n, p) => n + p.udp.sent - p.udp.answered + p.tcp.sent - p.tcp.answered, 0) - overflows;
    const broken = parts.reduce((n, p) => n + p.tcp.broken, 0);
    const back = Object.values(kills).flat().sort((a, b) => a - b);
    if (back.length) console.log(`${back.length} agents killed; back after ${back[back.length >> 1].toFixed(0)} ms (median), ${back.at(-1).toFixed(0)} ms at most`);
    if (overflows) console.log(`${overflows} datagrams arrived where a process did not read in time: not counted`);
    console.log(`${lost} lost, the connection broke ${broken} times: ${lost + broken === 0 ? 'aim met' : 'aim missed'}`);
    code = lost + broken === 0 ? 0 : 1;
  }
} finally {
  for (const c of children) c.kill('SIGKILL');
  podway('down', '--lab', lab, '-q');
}
process.exit(code);
