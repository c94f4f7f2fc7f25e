#!/usr/bin/env node
/**
 * Peer programming: 1,000 peers of a VXLAN backend (a neighbour, an FDB entry and a route each, in the very forms the agent's backend computes)
 * brought into the kernel by netstate's `diff` and `apply`, against iproute2 with the same objects in the same run, by turns.
 *
 *   sudo node bench/peers.mjs [--peers N] [--rounds N] [--json]
 *
 * Every round makes fresh network namespaces, each with an uplink and a VXLAN device, and measures
 *
 *   (a) from nothing   podway: diff + apply in the running process; with `observe` shown beside it
 *                      iproute2: `bridge -batch` with the FDB entries, then `ip -batch` with neighbours and routes
 *   (b) one peer moved (its node gets another address and VTEP MAC, so the neighbour and the FDB entry change)
 *                      podway: diff of 1,000 peers against 1,000 peers + apply, as the agent does at a change of peers; and the full way,
 *                      observe + diff + apply
 *                      iproute2: the whole batches with `replace` (what a program without a diff must do), and, as the floor, batches of
 *                      only what differs
 *
 * iproute2's times are of the commands as one runs them, start of the program included; what starting alone takes is measured with empty
 * batches and printed. Podway is measured warm (after rounds that do not count) and cold (the first time in a process of its own).
 * After every apply the kernel's tables are compared: both ways must have made the same objects, or the bench fails.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { addAddrRequest, createRequests, Netns, RtNetlink, setRequest } from '../packages/kernel/dist/src/index.js';
import { tunnelAddress as vtepAddress } from '../packages/agent/dist/src/backends/routes.js';
import { vtepMac, vxlan } from '../packages/agent/dist/src/backends/vxlan.js';
import { apply, diff, mergeStates, observe, podwayOwnership } from '../packages/netstate/dist/src/index.js';

const { values } = parseArgs({
  options: {
    peers: { type: 'string', default: '1000' },
    rounds: { type: 'string', default: '11' },
    warmup: { type: 'string', default: '8' },
    cold: { type: 'string', default: '7' },
    json: { type: 'boolean', default: false },
    once: { type: 'string' },
  },
});

function count(name, least) {
  const value = Number(values[name]);
  if (!Number.isInteger(value) || value < least) {
    console.error(`bench: --${name} takes a whole number of at least ${least}, not ${values[name]}`);
    process.exit(2);
  }
  return value;
}

const PEERS = count('peers', 1);
const ROUNDS = count('rounds', 1);
const WARMUP = count('warmup', 0);
const COLD = count('cold', 1);
if (PEERS > 60_000) {
  console.error('bench: at most 60000 peers fit the address plan');
  process.exit(2);
}
const DEV = 'flannel.1';
const CONFIG = { clusterCidrs: ['10.0.0.0/8'], wiring: 'bridge', bridge: 'cni0', masquerade: true, backend: { type: 'vxlan', device: DEV, vni: 1, port: 8472, crossSubnet: false } };
const MTU = 1450;
const LOCAL = { name: 'm0', podCidrs: ['10.255.0.0/24'], uplink: { dev: 'eth0', address: '172.18.0.2', prefix: 16, mtu: 1500 } };
const ownership = podwayOwnership((a) => a.address.startsWith('10.'));

/** Peer `i`; `moved` ones have another node address and another VTEP MAC. */
function peer(i, moved = false) {
  const podCidr = `10.${i >> 8}.${i & 255}.0/24`;
  const [a, b] = [(i >> 8) + (moved ? 100 : 1), i & 255];
  return {
    name: `m${i + 1}`, podCidrs: [podCidr],
    ends: {
      publicIP: `172.18.${a}.${b}`, uses: 'vxlan',
      accepts: { vxlan: { vtepMAC: moved ? vtepMac(podCidr).replace(/^0e:70:77:../, '0e:70:77:fe') : vtepMac(podCidr), vni: 1, port: 8472 } },
    },
  };
}

const plan = (moved = -1) => mergeStates('m0', vxlan.desired(CONFIG, LOCAL, Array.from({ length: PEERS }, (_, i) => peer(i, i === moved)), MTU));
/** The same without sysctls and VTEP: those are there before, in both ways. */
const peersOnly = (s) => ({ ...s, sysctls: {} });

function setUp(name) {
  const ns = Netns.create(name);
  const nl = RtNetlink.open(ns);
  try {
    nl.createLink({ kind: 'bridge', name: 'eth0', mtu: 1500 });
    const index = nl.mustLink('eth0').index;
    nl.setLink('eth0', { up: true });
    nl.send(addAddrRequest({ index, address: LOCAL.uplink.address, prefix: LOCAL.uplink.prefix }));
    const want = plan();
    const own = want.links[0];
    const requests = createRequests({
      kind: 'vxlan', name: DEV, mtu: own.mtu, address: own.address, alias: own.alias,
      vxlan: { id: 1, port: 8472, local: LOCAL.uplink.address, link: index, learning: false },
    });
    const refused = nl.batch([...requests, setRequest(DEV, { up: true })]);
    if (refused.length) throw refused[0].error;
    nl.send(addAddrRequest({ index: nl.mustLink(DEV).index, address: vtepAddress(LOCAL.podCidrs[0]), prefix: 32 }));
  } finally {
    nl.close();
  }
  return ns;
}

const now = () => Number(process.hrtime.bigint()) / 1e6;
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

/** Removed only at the end: the kernel takes a namespace apart under the lock that every measured request needs. */
const made = [];
function withNamespace(work) {
  const name = `podway-bench-${process.pid}-${made.length}`;
  const ns = setUp(name);
  made.push({ ns, name });
  return work(ns, name);
}

function removeAll() {
  for (const { ns, name } of made) {
    ns.close();
    Netns.remove(name);
  }
}

/** Podway's way, in one namespace: from nothing, then one peer moved, incrementally and in full. */
function podway(check) {
  return withNamespace((ns) => {
    const nl = RtNetlink.open(ns);
    try {
      const desired = peersOnly(plan());
      const moved = peersOnly(plan(PEERS >> 1));
      const t0 = now();
      const before = observe(ns);
      const t1 = now();
      const changes = diff(desired, before, ownership);
      const t2 = now();
      const made = apply(ns, changes, { netlink: nl });
      const t3 = now();
      must(made, PEERS * 3);
      check(ns, desired);
      const t4 = now();
      const full = observe(ns);
      const t5 = now();
      const delta = diff(moved, desired, ownership);
      const t6 = now();
      must(apply(ns, delta, { netlink: nl }), 3);
      const t7 = now();
      check(ns, moved);
      // And back, from what the kernel says.
      const t8 = now();
      const again = diff(desired, observe(ns), ownership);
      must(apply(ns, again, { netlink: nl }), 3);
      const t9 = now();
      check(ns, desired);
      return {
        observeEmpty: t1 - t0, diff: t2 - t1, apply: t3 - t2, fromNothing: t3 - t1, observeFull: t5 - t4, objects: full.routes.length + full.neighbours.length + full.fdb.length,
        diffOne: t6 - t5, applyOne: t7 - t6, one: t7 - t5, oneFull: t9 - t8,
      };
    } finally {
      nl.close();
    }
  });
}

function must(result, expected) {
  if (result.failed.length) throw new Error(`${result.failed.length} changes failed, first: ${result.failed[0].error.message}`);
  if (result.done.length !== expected) {
    const kinds = result.done.slice(0, 3).map((c) => `${c.op} ${c.kind} ${c.key} (${c.reason})`);
    throw new Error(`${result.done.length} changes were made, expected ${expected}; first: ${kinds.join('; ')}`);
  }
}

function same(ns, desired) {
  const left = diff(desired, observe(ns), ownership);
  if (left.length) throw new Error(`after applying, ${left.length} differences are left, first: ${left[0].kind} ${left[0].key}: ${left[0].reason}`);
}

const ipLines = (s) => [
  ...s.neighbours.map((n) => `neigh replace ${n.dst} lladdr ${n.lladdr} dev ${n.dev} nud permanent`),
  ...s.routes.map((r) => `route replace ${r.dst} via ${r.gateway} dev ${r.dev} onlink`),
];
const bridgeLines = (s) => s.fdb.map((f) => `fdb replace ${f.lladdr} dev ${f.dev} dst ${f.dst} self permanent`);

function run(command, args) {
  const r = spawnSync(command, args, { encoding: 'utf8' });
  if (r.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${r.stderr || r.error?.message}`);
}

/** iproute2's way, in one namespace. */
function iproute2(dir) {
  const write = (name, lines) => {
    const path = join(dir, name);
    writeFileSync(path, lines.length ? `${lines.join('\n')}\n` : '');
    return path;
  };
  const desired = peersOnly(plan());
  const moved = peersOnly(plan(PEERS >> 1));
  const old = peer(PEERS >> 1);
  const files = {
    all: { ip: write('all.ip', ipLines(desired)), bridge: write('all.bridge', bridgeLines(desired)) },
    // The former VTEP MAC must go as well.
    moved: { ip: write('moved.ip', ipLines(moved)), bridge: write('moved.bridge', [`fdb del ${old.ends.accepts.vxlan.vtepMAC} dev ${DEV} dst ${old.ends.publicIP} self`, ...bridgeLines(moved)]) },
    back: {
      ip: write('back.ip', ipLines(desired).filter((l) => l.includes(old.ends.accepts.vxlan.vtepMAC))),
      bridge: write('back.bridge', [
        `fdb del ${peer(PEERS >> 1, true).ends.accepts.vxlan.vtepMAC} dev ${DEV} dst ${peer(PEERS >> 1, true).ends.publicIP} self`,
        ...bridgeLines(desired).filter((l) => l.includes(old.ends.accepts.vxlan.vtepMAC)),
      ]),
    },
    none: { ip: write('none.ip', []), bridge: write('none.bridge', []) },
  };
  return withNamespace((ns, name) => {
    const timed = (f) => {
      const t = now();
      run('bridge', ['-n', name, '-batch', f.bridge]);
      run('ip', ['-n', name, '-batch', f.ip]);
      return now() - t;
    };
    const start = timed(files.none);
    const fromNothing = timed(files.all);
    same(ns, desired);
    const wholeAgain = timed(files.moved);
    same(ns, moved);
    const onlyChanged = timed(files.back);
    same(ns, desired);
    return { start, fromNothing, wholeAgain, onlyChanged };
  });
}

if (values.once !== undefined) {
  // One cold measurement, in a process of its own.
  try {
    console.log(JSON.stringify(podway(() => undefined)));
  } finally {
    removeAll();
  }
  process.exit(0);
}

if (process.getuid?.() !== 0) {
  console.error('bench: this makes network namespaces and needs root: sudo node bench/peers.mjs');
  process.exit(2);
}

const dir = mkdtempSync(join(tmpdir(), 'podway-bench-'));
try {
  for (let i = 0; i < WARMUP; i++) podway(() => undefined);
  const warm = [];
  const peerRuns = [];
  const cold = [];
  const self = fileURLToPath(import.meta.url);
  for (let i = 0; i < ROUNDS; i++) {
    warm.push(podway(same));
    peerRuns.push(iproute2(dir));
    if (i < COLD) {
      const r = spawnSync(process.execPath, [self, '--once', '1', '--peers', String(PEERS)], { encoding: 'utf8' });
      if (r.status !== 0) throw new Error(r.stderr);
      cold.push(JSON.parse(r.stdout));
    }
  }
  report(warm, cold, peerRuns);
} finally {
  removeAll();
  rmSync(dir, { recursive: true, force: true });
}

function report(warm, cold, peerRuns) {
  const of = (runs, key) => median(runs.map((r) => r[key]));
  const result = {
    peers: PEERS, rounds: warm.length, coldRounds: cold.length,
    fromNothing: {
      podwayWarm: of(warm, 'fromNothing'), podwayCold: of(cold, 'fromNothing'), iproute2: of(peerRuns, 'fromNothing'), iproute2Start: of(peerRuns, 'start'),
      parts: { diff: of(warm, 'diff'), apply: of(warm, 'apply'), diffCold: of(cold, 'diff'), applyCold: of(cold, 'apply') },
    },
    onePeer: {
      podwayWarm: of(warm, 'one'), podwayCold: of(cold, 'one'), podwayFull: of(warm, 'oneFull'), podwayFullCold: of(cold, 'oneFull'),
      iproute2Whole: of(peerRuns, 'wholeAgain'), iproute2OnlyChanged: of(peerRuns, 'onlyChanged'),
    },
    observe: { objects: warm[0].objects, warm: of(warm, 'observeFull'), cold: of(cold, 'observeFull'), empty: of(warm, 'observeEmpty') },
  };
  if (values.json) {
    console.log(JSON.stringify(result, null, 2));
    return;
  }
  const ms = (x) => `${x.toFixed(x < 10 ? 2 : 1)} ms`.padStart(10);
  const line = (label, x, ratio) => console.log(`  ${label.padEnd(58)}${ms(x)}${ratio === undefined ? '' : `   ratio ${ratio.toFixed(ratio < 0.1 ? 3 : 2)}`}`);
  const { fromNothing: a, onePeer: b, observe: o } = result;
  console.log(`${PEERS} peers, ${PEERS * 3} objects; medians of ${warm.length} rounds by turns (cold: ${cold.length} processes)\n`);
  console.log('(a) from nothing');
  line('bridge -batch + ip -batch', a.iproute2);
  line('  of which starting the two programs', a.iproute2Start);
  line('podway diff + apply, warm', a.podwayWarm, a.podwayWarm / a.iproute2);
  line('  of which diff', a.parts.diff);
  line('podway diff + apply, cold', a.podwayCold, a.podwayCold / a.iproute2);
  console.log('\n(b) one peer moved');
  line('bridge -batch + ip -batch, everything again', b.iproute2Whole);
  line('podway diff + apply, warm', b.podwayWarm, b.podwayWarm / b.iproute2Whole);
  line('podway diff + apply, cold', b.podwayCold, b.podwayCold / b.iproute2Whole);
  line('podway observe + diff + apply, warm', b.podwayFull, b.podwayFull / b.iproute2Whole);
  line('bridge -batch + ip -batch, only what differs', b.iproute2OnlyChanged);
  line('podway diff + apply against that, warm', b.podwayWarm, b.podwayWarm / b.iproute2OnlyChanged);
  console.log(`\nobserve, ${o.objects} objects`);
  line('warm', o.warm);
  line('cold', o.cold);
  line('before there was a peer', o.empty);
}
