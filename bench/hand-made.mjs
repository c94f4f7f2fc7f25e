/** The network of a two-node lab made with `ip`, `bridge`, `sysctl` and `nft` alone, as tutorials do it: what Podway's ways are measured against. */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const NODES = [
  { ns: 'n1', address: '172.18.0.2', cidr: '10.244.0', peer: 1 },
  { ns: 'n2', address: '172.18.0.3', cidr: '10.244.1', peer: 0 },
];
const PODS = [{ ns: 'p1', node: 0, host: 2 }, { ns: 'p2', node: 0, host: 3 }, { ns: 'p3', node: 1, host: 2 }];

const MASQUERADE = `table ip nat {
  chain postrouting {
    type nat hook postrouting priority srcnat;
    ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
  }
}
`;

/** What is particular to a mode: the pods' MTU, and the commands of a node for its peer. */
export const HAND_MADE = {
  'host-gw': { mtu: 1500, commands: (_, peer) => [`route add ${peer.cidr}.0/24 via ${peer.address}`] },
  // The routes that BIRD puts there are the same.
  bgp: { mtu: 1500, commands: (_, peer) => [`route add ${peer.cidr}.0/24 via ${peer.address} proto bird`] },
  vxlan: {
    mtu: 1450,
    commands: (node, peer) => [
      `link add flannel.1 address ${vtepMac(node)} type vxlan id 1 local ${node.address} dev eth0 dstport 8472 nolearning`,
      'link set flannel.1 mtu 1450 up',
      `addr add ${node.cidr}.0/32 dev flannel.1`,
      `neigh add ${peer.cidr}.0 lladdr ${vtepMac(peer)} dev flannel.1 nud permanent`,
      `route add ${peer.cidr}.0/24 via ${peer.cidr}.0 dev flannel.1 onlink`,
    ],
    fdb: (_, peer) => [`fdb add ${vtepMac(peer)} dev flannel.1 dst ${peer.address}`],
  },
  wireguard: { mtu: 1440, commands: (node, peer) => [`link set ${wgDevice(node)} mtu 1440 up`, `route add ${peer.cidr}.0/24 dev ${wgDevice(node)}`] },
};
/** A device in user space has its socket under its name in the folder that all share. */
const wgDevice = (node) => `pwb${process.pid % 100000}n${2 - node.peer}`;

/** The program that is a WireGuard device in user space, and its keys: what `wg` and `wireguard-go` need beside `ip`. */
function wireguardKeys() {
  const dir = mkdtempSync(join(tmpdir(), 'podway-bench-wg-'));
  const keys = NODES.map((n) => {
    const secret = execFileSync('wg', ['genkey'], { encoding: 'utf8' });
    const file = join(dir, n.ns);
    writeFileSync(file, secret, { mode: 0o600 });
    return { file, public: execFileSync('wg', ['pubkey'], { input: secret, encoding: 'utf8' }).trim() };
  });
  return { dir, keys };
}

const vtepMac = (node) => `0e:70:77:00:00:0${node.peer + 1}`;

/** @returns the places of lab() in ways.mjs, made by hand */
export function handMade(mode) {
  const { mtu, commands, fdb } = HAND_MADE[mode];
  const name = (ns) => `podway-bench-${process.pid}-${ns}`;
  const all = ['u', ...NODES.map((n) => n.ns), ...PODS.map((p) => p.ns)];
  const programs = [];
  const wg = mode === 'wireguard' ? wireguardKeys() : undefined;
  const close = () => {
    for (const p of programs) p.kill('SIGTERM');
    if (wg) rmSync(wg.dir, { recursive: true, force: true });
    for (const ns of all) execFileSync('ip', ['netns', 'del', name(ns)], { stdio: 'ignore' });
  };
  const batch = (tool, ns, lines) => execFileSync(tool, [...(ns === undefined ? [] : ['-n', name(ns)]), '-batch', '-'], { input: `${lines.join('\n')}\n` });
  try {
    batch('ip', undefined, all.map((ns) => `netns add ${name(ns)}`));
    for (const ns of all) batch('ip', ns, ['link set lo up']);
    batch('ip', 'u', ['link add br0 type bridge', 'link set br0 up', ...NODES.flatMap((n) => [`link add ${n.ns} type veth peer name eth0 netns ${name(n.ns)}`, `link set ${n.ns} master br0 up`])]);
    for (const node of NODES) {
      batch('ip', node.ns, ['link set eth0 up', `addr add ${node.address}/16 dev eth0`, `link add cni0 mtu ${mtu} type bridge`, 'link set cni0 up', `addr add ${node.cidr}.1/24 dev cni0`]);
      execFileSync('ip', ['netns', 'exec', name(node.ns), 'sysctl', '-qw', 'net.ipv4.ip_forward=1']);
      execFileSync('ip', ['netns', 'exec', name(node.ns), 'nft', '-f', '-'], { input: MASQUERADE });
      for (const pod of PODS.filter((p) => NODES[p.node] === node)) {
        batch('ip', node.ns, [`link add ${pod.ns} mtu ${mtu} type veth peer name eth0 mtu ${mtu} netns ${name(pod.ns)}`, `link set ${pod.ns} master cni0 up`]);
        batch('ip', pod.ns, ['link set eth0 up', `addr add ${node.cidr}.${pod.host}/24 dev eth0`, `route add default via ${node.cidr}.1`]);
      }
      if (wg) programs.push(userSpaceDevice(name(node.ns), node, wg.keys));
      batch('ip', node.ns, commands(node, NODES[node.peer]));
      if (fdb) batch('bridge', node.ns, fdb(node, NODES[node.peer]));
    }
  } catch (e) {
    close();
    throw e;
  }
  const place = (ns, address) => ({ netns: `/run/netns/${name(ns)}`, address });
  return {
    ...Object.fromEntries(PODS.map((p) => [p.ns, place(p.ns, `${NODES[p.node].cidr}.${p.host}`)])),
    ...Object.fromEntries(NODES.map((n) => [n.ns, place(n.ns, n.address)])),
    close,
  };
}

/** Starts wireguard-go and configures it with `wg`. @returns the process; its device is there */
function userSpaceDevice(netns, node, keys) {
  const device = wgDevice(node);
  const child = spawn('ip', ['netns', 'exec', netns, 'wireguard-go', '-f', device], { stdio: 'ignore' });
  const until = Date.now() + 5000;
  while (!existsSync(`/var/run/wireguard/${device}.sock`)) {
    if (Date.now() > until) throw new Error('wireguard-go did not start');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
  const peer = NODES[node.peer];
  execFileSync('wg', ['set', device, 'private-key', keys[NODES.indexOf(node)].file, 'listen-port', '51820', 'peer', keys[node.peer].public,
    'allowed-ips', `${peer.cidr}.0/24`, 'endpoint', `${peer.address}:51820`]);
  return child;
}
