#!/usr/bin/env node
/**
 * Services: N Services with three endpoints each, brought into the kernel as the agent does it (one table of maps, applied by element),
 * against iptables rules of kube-proxy's shape for the very same Services, loaded with iptables-restore, in one run on this kernel.
 *
 *   sudo node bench/services.mjs [--sizes 10,1000,10000] [--connections N] [--iptables legacy|nft] [--json]
 *
 * At each size, each in fresh network namespaces (a client, a router that holds the rules, a server):
 *
 *   load      everything from nothing. podway: from Service and EndpointSlice objects to the kernel's answer. iptables: iptables-restore of
 *             rules that are there already as a file (making them is not counted)
 *   change    one endpoint of one Service becomes another one. podway: from the new EndpointSlice to the kernel's answer. iptables: what
 *             kube-proxy sends at a change (iptables-restore --noflush with the chains of that Service and the whole KUBE-SERVICES), and, as
 *             the floor, the two chains of that Service alone
 *   connect   from connect() to the first byte of a new connection to the Service that stands last in kube-proxy's list, by turns
 *
 * iptables' times are of the command as one runs it. Before anything is measured, a connection through either must reach the server.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Netns, Nftables, RtNetlink, writeSysctl } from '../packages/kernel/dist/src/index.js';
import { serviceModel } from '../packages/kube/dist/src/index.js';
import { changeCommands, serviceEntries, ServiceTable, TABLE, wholeTable } from '../packages/agent/dist/src/services/index.js';

const { values } = parseArgs({
  options: {
    sizes: { type: 'string', default: '10,1000,10000' },
    connections: { type: 'string', default: '1500' },
    changes: { type: 'string', default: '15' },
    iptables: { type: 'string', default: 'legacy' },
    json: { type: 'boolean', default: false },
    role: { type: 'string' },
    target: { type: 'string' },
  },
});

const SELF = fileURLToPath(import.meta.url);
const whole = (name) => {
  const n = Number(values[name]);
  if (!Number.isInteger(n) || n < 1) {
    console.error(`bench: --${name} takes a whole number of at least 1, not ${values[name]}`);
    process.exit(2);
  }
  return n;
};
const CONNECTIONS = whole('connections');
const CHANGES = whole('changes');
const SIZES = values.sizes.split(',').map(Number);
if (SIZES.some((n) => !Number.isInteger(n) || n < 1 || n > 60_000)) {
  console.error(`bench: --sizes takes whole numbers from 1 to 60000 with commas between, not ${values.sizes}`);
  process.exit(2);
}
if (!['legacy', 'nft'].includes(values.iptables)) {
  console.error(`bench: --iptables is legacy or nft, not ${values.iptables}`);
  process.exit(2);
}

const ENDPOINTS = ['10.244.1.11', '10.244.1.12', '10.244.1.13'];
const MOVED = '10.244.1.14';
const NODE = { name: 'm1', addresses: ['172.18.0.2'] };
const CLUSTER = ['10.244.0.0/16'];
const median = (list) => [...list].sort((x, y) => x - y)[Math.floor(list.length / 2)];
const ms = (f) => {
  const began = performance.now();
  f();
  return performance.now() - began;
};

/** One byte to whoever connects, on all addresses. */
async function serve() {
  const { createServer } = await import('node:net');
  createServer({ noDelay: true }, (s) => s.on('error', () => undefined).end('.')).listen(8080, '0.0.0.0', 1024, () => console.log('ready'));
  process.stdin.resume().on('end', () => process.exit(0));
}

/** Each line on stdin, `HOST COUNT`, makes so many connections, one after the other; the times to the first byte in microseconds. */
async function connector() {
  const { connect } = await import('node:net');
  const once = (host) => new Promise((resolve, reject) => {
    const began = process.hrtime.bigint();
    const s = connect({ host, port: 80, noDelay: true });
    s.once('data', () => {
      resolve(Number(process.hrtime.bigint() - began) / 1000);
      s.resetAndDestroy();
    }).once('error', reject);
    s.setTimeout(5000, () => s.destroy(new Error('no answer in 5 s')));
  });
  console.log('ready');
  for await (const line of createInterface({ input: process.stdin })) {
    const [host, count] = line.split(' ');
    const times = [];
    try {
      for (let i = 0; i < Number(count); i++) times.push(await once(host));
      console.log(JSON.stringify({ times }));
    } catch (e) {
      console.log(JSON.stringify({ error: String(e.message) }));
    }
  }
}

function service(i) {
  const name = `svc-${i}`;
  const ip = `10.${96 + ((i + 1) >> 16)}.${((i + 1) >> 8) & 255}.${(i + 1) & 255}`;
  return { metadata: { name, namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z' }, spec: { type: 'ClusterIP', clusterIP: ip, clusterIPs: [ip], ports: [{ port: 80 }] } };
}

const slice = (s, addresses) => ({
  metadata: { name: `${s.metadata.name}-1`, namespace: 'default', labels: { 'kubernetes.io/service-name': s.metadata.name } }, addressType: 'IPv4', ports: [{ name: '', protocol: 'TCP', port: 8080 }],
  endpoints: addresses.map((a) => ({ addresses: [a], conditions: { ready: true, serving: true, terminating: false }, nodeName: 'm2' })),
});

const owner = (s) => `${s.metadata.creationTimestamp} default/${s.metadata.name}`;

/** kube-proxy's chain names are 16 characters of a hash; a number of that length serves. */
const id = (...parts) => parts.join('x').padStart(16, '0').toUpperCase();

const svcRule = (s, i) => `-A KUBE-SERVICES -m comment --comment "default/${s.metadata.name} cluster IP" -m tcp -p tcp -d ${s.spec.clusterIP} --dport 80 -j KUBE-SVC-${id(i)}`;

/** The chains of one Service, as kube-proxy 1.28 and later writes them with --cluster-cidr. */
function chainsOf(s, i, endpoints) {
  const comment = `-m comment --comment "default/${s.metadata.name}`;
  const lines = { chains: [`:KUBE-SVC-${id(i)} - [0:0]`], rules: [`-A KUBE-SVC-${id(i)} ${comment} cluster IP" -m tcp -p tcp -d ${s.spec.clusterIP} --dport 80 ! -s ${CLUSTER[0]} -j KUBE-MARK-MASQ`] };
  endpoints.forEach((e, k) => {
    const sep = `KUBE-SEP-${id(i, k)}`;
    const probability = (1 / (endpoints.length - k)).toFixed(10);
    lines.chains.push(`:${sep} - [0:0]`);
    lines.rules.push(`-A KUBE-SVC-${id(i)} ${comment} -> ${e}:8080"${k < endpoints.length - 1 ? ` -m statistic --mode random --probability ${probability}` : ''} -j ${sep}`);
    lines.rules.push(`-A ${sep} ${comment}" -s ${e} -j KUBE-MARK-MASQ`, `-A ${sep} ${comment}" -m tcp -p tcp -j DNAT --to-destination ${e}:8080`);
  });
  return lines;
}

const natFile = (chains, rules) => ['*nat', ...chains, ...rules, 'COMMIT', ''].join('\n');
const SKELETON = {
  chains: [':KUBE-SERVICES - [0:0]', ':KUBE-POSTROUTING - [0:0]', ':KUBE-MARK-MASQ - [0:0]'],
  rules: ['-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000', '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN', '-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000', '-A KUBE-POSTROUTING -j MASQUERADE --random-fully'],
};

const pathOf = (ns) => `/proc/${process.pid}/fd/${ns.fd}`;

/** client 10.0.1.2 ── 10.0.1.1 router 10.244.1.1 ── 10.244.1.11-14 server */
function network() {
  const [client, router, server] = ['client', 'router', 'server'].map((l) => Netns.createNameless(`bench ${l}`));
  for (const ns of [client, router, server]) RtNetlink.with(ns, (nl) => nl.setLink(1, { up: true }));
  const cable = (name, to, address, prefix, peers) => {
    RtNetlink.with(router, (nl) => {
      nl.createLink({ kind: 'veth', name, peer: { name: 'eth0', netnsFd: to.fd } });
      nl.setLink(name, { up: true });
      nl.addAddr({ index: nl.mustLink(name).index, address, prefix });
    });
    RtNetlink.with(to, (nl) => {
      const eth0 = nl.mustLink('eth0');
      nl.setLink(eth0.index, { up: true });
      for (const p of peers) nl.addAddr({ index: eth0.index, address: p, prefix });
      nl.addRoute({ dst: '0.0.0.0/0', index: eth0.index, gateway: address });
    });
  };
  // The client has a pod's address, so that neither translates its source.
  cable('c', client, '10.244.0.1', 24, ['10.244.0.2']);
  cable('s', server, '10.244.1.1', 24, [...ENDPOINTS, MOVED]);
  writeSysctl(router, 'net.ipv4.ip_forward', '1');
  return { client, router, server, close: () => [client, router, server].forEach((ns) => ns.close()) };
}

async function program(ns, role) {
  const child = spawn('nsenter', [`--net=${pathOf(ns)}`, process.execPath, SELF, '--role', role], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    async ask(line) {
      child.stdin.write(`${line}\n`);
      const { times, error } = JSON.parse((await lines.next()).value);
      if (error) throw new Error(`${role} ${line}: ${error}`);
      return times;
    },
    stop: () => child.kill('SIGKILL'),
  };
}

const dir = mkdtempSync(join(tmpdir(), 'podway-bench-'));
process.once('exit', () => rmSync(dir, { recursive: true, force: true }));

function restore(ns, text, ...options) {
  const file = join(dir, 'rules');
  writeFileSync(file, text);
  const command = `iptables-${values.iptables}-restore`;
  let ran;
  const time = ms(() => {
    ran = spawnSync('nsenter', [`--net=${pathOf(ns)}`, command, ...options, '-w', '5', file], { encoding: 'utf8' });
  });
  if (ran.status !== 0) throw new Error(`${command}: ${ran.stderr || ran.error}`);
  return time;
}

async function atSize(size) {
  const services = Array.from({ length: size }, (_, i) => service(i));
  const slices = services.map((s) => slice(s, ENDPOINTS));
  const last = services.at(-1);
  const result = { services: size };
  const [mine, theirs] = [network(), network()];
  const running = [];
  try {
    // Podway.
    const nft = Nftables.open(mine.router);
    const table = new ServiceTable();
    const heap = process.memoryUsage().heapUsed;
    result.podway = {
      load: ms(() => {
        services.forEach((s, i) => table.put(owner(s), serviceEntries(serviceModel(s, [slices[i]]), NODE)));
        nft.text(wholeTable(table, CLUSTER));
      }),
    };
    result.podway.heapMB = (process.memoryUsage().heapUsed - heap) / 1e6;
    const changes = [];
    for (let n = 0; n < CHANGES; n++) {
      const changed = slice(last, n % 2 ? ENDPOINTS : [...ENDPOINTS.slice(0, 2), MOVED]);
      changes.push(ms(() => nft.text(changeCommands(table.put(owner(last), serviceEntries(serviceModel(last, [changed]), NODE))))));
    }
    result.podway.change = median(changes);
    result.podway.rules = nft.list(TABLE, true).filter((o) => 'rule' in o).length;
    nft.close();

    // iptables.
    const all = services.map((s, i) => chainsOf(s, i, ENDPOINTS));
    const dispatch = services.map(svcRule);
    const chains = [':PREROUTING ACCEPT [0:0]', ':OUTPUT ACCEPT [0:0]', ':POSTROUTING ACCEPT [0:0]', ...SKELETON.chains, ...all.flatMap((a) => a.chains)];
    const rules = ['-A PREROUTING -j KUBE-SERVICES', '-A OUTPUT -j KUBE-SERVICES', '-A POSTROUTING -j KUBE-POSTROUTING', ...dispatch, ...SKELETON.rules, ...all.flatMap((a) => a.rules)];
    result.iptables = { load: restore(theirs.router, natFile(chains, rules)), rules: rules.length };
    const [asKubeProxy, floor] = [[], []];
    const rounds = size > 1000 ? Math.min(CHANGES, 5) : CHANGES;
    for (let n = 0; n < rounds; n++) {
      const only = chainsOf(last, size - 1, n % 2 ? ENDPOINTS : [...ENDPOINTS.slice(0, 2), MOVED]);
      asKubeProxy.push(restore(theirs.router, natFile([...SKELETON.chains, ...only.chains], [...dispatch, ...SKELETON.rules, ...only.rules]), '--noflush'));
      floor.push(restore(theirs.router, natFile(only.chains, only.rules), '--noflush'));
    }
    result.iptables.change = median(asKubeProxy);
    result.iptables.changeFloor = median(floor);

    // New connections, by turns.
    for (const net of [mine, theirs]) running.push(await program(net.server, 'serve'));
    const [a, b] = [await program(mine.client, 'connect'), await program(theirs.client, 'connect')];
    running.push(a, b);
    const times = { podway: [], iptables: [] };
    await a.ask(`${last.spec.clusterIP} 100`);
    await b.ask(`${last.spec.clusterIP} 100`);
    const turn = 100;
    for (let n = 0; n < CONNECTIONS; n += turn) {
      times.podway.push(...await a.ask(`${last.spec.clusterIP} ${turn}`));
      times.iptables.push(...await b.ask(`${last.spec.clusterIP} ${turn}`));
    }
    result.podway.firstByteUs = median(times.podway);
    result.iptables.firstByteUs = median(times.iptables);
  } finally {
    for (const r of running) r.stop();
    mine.close();
    theirs.close();
  }
  return result;
}

async function bench() {
  // What is compiled and loaded at the first use is not what is measured.
  await atSize(3);
  const results = [];
  for (const size of SIZES) results.push(await atSize(size));
  if (values.json) {
    console.log(JSON.stringify({ iptables: values.iptables, results }, null, 2));
    return;
  }
  const n = (x, digits = 1) => x.toFixed(digits).padStart(9);
  console.log(`Services × 3 endpoints; iptables-restore is the ${values.iptables} one; ${CONNECTIONS} connections each\n`);
  console.log('services            podway  iptables     ratio');
  for (const r of results) {
    console.log(`${String(r.services).padEnd(8)} load ms  ${n(r.podway.load)} ${n(r.iptables.load)} ${n(r.podway.load / r.iptables.load, 3)}`);
    console.log(`         change  ${n(r.podway.change, 2)} ${n(r.iptables.change, 2)} ${n(r.podway.change / r.iptables.change, 3)}   (floor of iptables: ${r.iptables.changeFloor.toFixed(2)} ms, ratio ${(r.podway.change / r.iptables.changeFloor).toFixed(3)})`);
    console.log(`         byte µs ${n(r.podway.firstByteUs)} ${n(r.iptables.firstByteUs)} ${n(r.podway.firstByteUs / r.iptables.firstByteUs, 3)}`);
    console.log(`         rules   ${String(r.podway.rules).padStart(9)} ${String(r.iptables.rules).padStart(9)}`);
  }
  const [small, large] = [results[0], results.at(-1)];
  if (small !== large) {
    const grows = (k) => `${(100 * (large[k].firstByteUs / small[k].firstByteUs - 1)).toFixed(1)}%`;
    console.log(`\nfirst byte at ${large.services} against ${small.services} services: podway ${grows('podway')}, iptables ${grows('iptables')}`);
  }
}

if (values.role === 'serve') await serve();
else if (values.role === 'connect') await connector();
else await bench();
