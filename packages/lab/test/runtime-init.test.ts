/** podway-init on the real kernel: nodes, sandboxes, containers, exec, and what is left when they end. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { namespaceInode, readLog, startContainer, startHold, startPause, unmountInNode, type Resident, type RunOptions } from '../src/runtime/index.js';
import { defaultCapabilities } from '../src/runtime/index.js';
import { initBinary, machineMounts, membersOf, needsRoot, runs, until } from './runtime-support.js';

const kinds = ['net', 'mnt', 'pid', 'user', 'uts', 'ipc', 'cgroup', 'time'] as const;
const inside = (pid: number, ...command: string[]) => {
  const r = spawnSync(initBinary(), ['exec', '--target', String(pid), '-a', '--', ...command], { encoding: 'utf8' });
  return { ...r, out: r.stdout.trim() };
};

describe('podway-init', { skip: needsRoot }, () => {
  let dir: string;
  let node: Resident;
  let sandbox: Resident;
  let init: string;
  let image: string;

  before(async () => {
    init = initBinary();
    dir = mkdtempSync(join(tmpdir(), 'podway-initt-'));
    image = join(dir, 'image');
    mkdirSync(join(image, 'bin'), { recursive: true });
    copyFileSync('/bin/busybox', join(image, 'bin/busybox'));
    node = await startHold(init, { hostname: 'n1', tmpfs: ['/run'], sysctls: { 'net.ipv4.ip_forward': '1' } });
    sandbox = await startPause(init, { nodePid: node.pid, hostname: 'web-a', title: 'default/web-a', netns: '/var/run/netns/cni-1', shm: '/run/s/1/shm' });
  });
  after(async () => {
    if (runs(node.pid)) process.kill(node.pid, 'SIGKILL');
    await node.gone;
    rmSync(dir, { recursive: true, force: true });
  });

  const container = (command: string[], extra: Partial<RunOptions> = {}) =>
    startContainer(init, {
      nodePid: node.pid, sandboxPid: sandbox.pid, root: image, binds: [], nodeBinds: [{ source: '/run/s/1/shm', target: '/dev/shm', readOnly: false }], tmpfs: [],
      privileged: false, readOnlyRoot: false, sharePid: false, caps: defaultCapabilities,
      log: { path: join(dir, `${Math.random()}.log`), maxBytes: 1 << 20, files: 3 }, exitFile: join(dir, 'exit'),
      env: { PATH: '/bin', HOME: '/root' }, command: ['busybox', ...command], ...extra,
    });
  const text = async (path: string): Promise<string> => {
    let all = '';
    for await (const t of readLog(path)) all += t;
    return all;
  };

  test('a node has namespaces, host name, /proc and sysctls of its own, and nothing brought up', () => {
    for (const k of ['net', 'mnt', 'pid', 'uts', 'ipc'] as const) assert.notEqual(namespaceInode(node.pid, k), namespaceInode(process.pid, k), k);
    assert.equal(inside(node.pid, 'hostname').out, 'n1');
    assert.equal(inside(node.pid, 'cat', '/proc/1/comm').out, 'podway-node');
    assert.equal(inside(node.pid, 'cat', '/proc/sys/net/ipv4/ip_forward').out, '1');
    assert.match(inside(node.pid, 'ip', '-br', 'link').out, /^lo\s+DOWN/);
    assert.deepEqual(inside(node.pid, 'ls', '/sys/class/net').out.split('\n'), ['lo']);
  });

  test('a node keeps no namespace file of the machine alive', () => {
    const nsfs = inside(node.pid, 'cat', '/proc/self/mountinfo').out.split('\n').filter((l) => l.includes(' - nsfs '));
    assert.equal(nsfs.length, 1);
    assert.match(nsfs[0] ?? '', / \/run\/netns\/cni-1 /);
  });

  test('joins the netns that a file is bound to', async () => {
    const name = `podway-t${process.pid}`;
    assert.equal(spawnSync('ip', ['netns', 'add', name]).status, 0);
    try {
      const n = await startHold(init, { hostname: 'n2', netnsFile: `/run/netns/${name}`, tmpfs: ['/run'] });
      const ids = spawnSync('ip', ['netns', 'identify', String(n.pid)], { encoding: 'utf8' });
      assert.equal(ids.stdout.trim(), name);
      process.kill(n.pid, 'SIGKILL');
      await n.gone;
    } finally {
      spawnSync('ip', ['netns', 'del', name]);
    }
  });

  test('a sandbox: own net, ipc, uts, pid; lo up; netns path in the node; under a megabyte', () => {
    for (const k of ['net', 'ipc', 'uts', 'pid'] as const) assert.notEqual(namespaceInode(sandbox.pid, k), namespaceInode(node.pid, k), k);
    assert.equal(namespaceInode(sandbox.pid, 'mnt'), namespaceInode(node.pid, 'mnt'));
    const rss = Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${sandbox.pid}/status`, 'utf8'))?.[1]);
    assert.ok(rss < 1024, `RSS ${rss} kB`);
    assert.equal(readFileSync(`/proc/${sandbox.pid}/comm`, 'utf8').trim(), 'pause');
    assert.equal(spawnSync(init, ['exec', '--target', String(sandbox.pid), '-n', '--', 'busybox', 'ping', '-c1', '-W1', '127.0.0.1']).status, 0);
    assert.equal(inside(node.pid, 'stat', '-L', '-c', '%i', '/var/run/netns/cni-1').out, String(namespaceInode(sandbox.pid, 'net')));
  });

  test('all eight namespaces of a container are those of /proc/PID/ns, shared and own as in a pod', async () => {
    const a = await container(['sleep', '1000']);
    const b = await container(['sleep', '1000']);
    const seen = inside(a.pid, 'busybox', 'ls', '-l', '/proc/self/ns').out;
    for (const k of kinds) assert.ok(seen.includes(readlinkSync(`/proc/${a.pid}/ns/${k}`)), k);
    for (const k of ['net', 'ipc', 'uts', 'user', 'time'] as const) assert.equal(namespaceInode(a.pid, k), namespaceInode(b.pid, k), k);
    for (const k of ['net', 'ipc', 'uts'] as const) assert.equal(namespaceInode(a.pid, k), namespaceInode(sandbox.pid, k), k);
    for (const k of ['mnt', 'pid'] as const) {
      assert.notEqual(namespaceInode(a.pid, k), namespaceInode(b.pid, k), k);
      assert.notEqual(namespaceInode(a.pid, k), namespaceInode(node.pid, k), k);
    }
    assert.equal(inside(a.pid, 'busybox', 'hostname').out, 'web-a');
    assert.match(inside(a.pid, 'busybox', 'sh', '-c', 'echo x > /dev/shm/f; busybox wc -c /dev/shm/f').out, /^2 /);
    assert.equal(inside(b.pid, 'busybox', 'cat', '/dev/shm/f').out, 'x', '/dev/shm is the pod’s');
    assert.match(inside(node.pid, 'ps', 'ax').out, /sleep 1000/, 'the node sees its containers');
    a.signal('SIGALRM');
    b.signal('SIGALRM');
    assert.deepEqual(await a.exited, { exitCode: 137, signal: 9 });
    await b.exited;
  });

  test('status: exit code, signal, and what cannot be executed', async () => {
    const code = await container(['sh', '-c', 'exit 42']);
    assert.deepEqual(await code.exited, { exitCode: 42, signal: 0 });
    assert.equal(readFileSync(join(dir, 'exit'), 'utf8'), '{"exitCode":42,"signal":0}\n');
    const termLog = join(dir, 'term.log');
    const term = await container(['sh', '-c', 'trap "exit 7" TERM; echo ready; while :; do busybox sleep 0.05; done'], { log: { path: termLog, maxBytes: 1 << 20, files: 2 } });
    await until('the trap', () => readFileSync(termLog, 'utf8').includes('ready'));
    term.signal('SIGTERM');
    assert.equal((await term.exited).exitCode, 7);
    await assert.rejects(container([], { command: ['nope'] }), { code: 'INIT_EXEC', message: 'exec nope: executable file not found in $PATH' });
    await assert.rejects(container([], { command: ['/bin'] }), { code: 'INIT_EXEC', message: 'exec /bin: Permission denied' });
    await assert.rejects(container(['true'], { root: '/does/not/exist' }), { code: 'INIT_FAILED', message: 'open /does/not/exist: No such file or directory' });
    const running = await container(['sleep', '1000']);
    assert.equal(inside(running.pid, 'busybox', 'sh', '-c', 'exit 9').status, 9);
    assert.equal(inside(running.pid, 'busybox', 'sh', '-c', 'kill -TERM $$').status, 143);
    const none = inside(running.pid, 'ip');
    assert.equal(none.status, 127);
    assert.equal(none.stderr, 'podway-init: exec ip: executable file not found in $PATH\n');
    process.kill(running.monitorPid, 'SIGKILL'); // a container does not outlive its monitor
    await running.exited;
    await until('the container to die with its monitor', () => !runs(running.pid));
  });

  test('root: read-only kernel, minimal /dev, no capability beyond the default set', async () => {
    const c = await container(['sh', '-c', 'busybox sleep 1000 & wait']);
    const sh = (s: string) => inside(c.pid, 'busybox', 'sh', '-c', s);
    assert.notEqual(sh('echo 0 > /proc/sys/net/ipv4/ip_forward').status, 0);
    assert.notEqual(sh('echo h > /proc/sysrq-trigger').status, 0);
    assert.notEqual(sh('echo 1 > /sys/kernel/uevent_seqnum').status, 0);
    assert.deepEqual(sh('busybox ls /dev').out.split('\n').sort(), ['fd', 'full', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero']);
    assert.deepEqual(sh('busybox ls /').out.split('\n').sort(), ['bin', 'dev', 'proc', 'sys', 'tmp']);
    const have = BigInt(`0x${/CapEff:\s+(\w+)/.exec(readFileSync(`/proc/${c.pid}/status`, 'utf8'))?.[1]}`);
    assert.equal(have & ~defaultCapabilities, 0n);
    assert.ok(have & (1n << 13n), 'NET_RAW is there: ping works');
    assert.equal(sh('echo x > /new && busybox cat /new').out, 'x');
    assert.ok(!existsSync(join(image, 'new')), 'the image is untouched');
    c.signal('SIGALRM');
    await c.exited;
    const user = await container(['id'], { uid: 1000, gid: 1000, groups: [7], readOnlyRoot: true, log: { path: join(dir, 'id.log'), maxBytes: 1 << 20, files: 2 } });
    await user.exited;
    assert.equal(await text(join(dir, 'id.log')), 'uid=1000 gid=1000 groups=7\n');
    const ro = await container(['touch', '/x'], { readOnlyRoot: true });
    assert.equal((await ro.exited).exitCode, 1);
  });

  test('log: both streams, long lines in parts, rotation keeps to its bound', async () => {
    const path = join(dir, 'big.log');
    const c = await container(['sh', '-c', 'echo out; echo err >&2; busybox head -c 20000 /dev/zero | busybox tr "\\0" x; echo; busybox seq 1 20000'], { log: { path, maxBytes: 100_000, files: 3 } });
    assert.equal((await c.exited).exitCode, 0);
    const files = readdirSync(dir).filter((f) => f.startsWith('big.log')).sort();
    assert.deepEqual(files, ['big.log', 'big.log.1', 'big.log.2']);
    for (const f of files) assert.ok(readFileSync(join(dir, f)).length <= 100_000, f);
    const lines = (await text(path)).trimEnd().split('\n');
    assert.equal(lines.at(-1), '20000');
    const first = Number(lines[0]);
    assert.deepEqual(lines, Array.from({ length: 20000 - first + 1 }, (_, i) => String(first + i)), 'no line lost or doubled over rotations');
    const whole = join(dir, 'whole.log');
    await (await container(['sh', '-c', 'echo out; busybox head -c 20000 /dev/zero | busybox tr "\\0" x; echo; printf end'], { log: { path: whole, maxBytes: 1 << 20, files: 3 } })).exited;
    assert.equal(await text(whole), `out\n${'x'.repeat(20000)}\nend\n`);
    assert.match(readFileSync(whole, 'utf8'), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z stdout F out\n\S+ stdout P x{16384}\n/);
  });

  test('a followed log misses nothing over rotations and ends with the container', async () => {
    const path = join(dir, 'follow.log');
    const c = await container(['sh', '-c', 'i=0; while [ $i -lt 3000 ]; do echo "$i $((i=i+1)) a line of some length"; done'], { log: { path, maxBytes: 20_000, files: 100 } });
    let over = false;
    void c.exited.then(() => (over = true));
    let seen = '';
    for await (const t of readLog(path, { follow: true, ended: () => over })) seen += t;
    assert.equal(seen, Array.from({ length: 3000 }, (_, i) => `${i} ${i + 1} a line of some length\n`).join(''));
    assert.ok(readdirSync(dir).filter((f) => f.startsWith('follow.log')).length > 5);
    let tail = '';
    for await (const t of readLog(path, { tailLines: 2, limitBytes: 40 })) tail += t;
    assert.equal(tail, '2998 2999 a line of some length\n2999 300');
    const stop = new AbortController();
    const waiting = (async () => {
      for await (const t of readLog(path, { follow: true, tailLines: 1, signal: stop.signal })) if (t.startsWith('2999 ')) stop.abort();
    })();
    await waiting;
  });

  test('an image of one static binary can be entered from the node, with the node’s tools', async () => {
    const c = await container([], { root: (mkdirSync(join(dir, 'distroless')), copyFileSync('/bin/busybox', join(dir, 'distroless/sleep')), join(dir, 'distroless')), command: ['/sleep', '1000'] });
    assert.equal(inside(c.pid, 'sh').status, 127);
    const net = spawnSync(init, ['exec', '--target', String(c.pid), '-n', '--', 'ip', '-br', 'addr'], { encoding: 'utf8' });
    assert.match(net.stdout, /^lo\s+UNKNOWN\s+127\.0\.0\.1\/8/);
    const uts = spawnSync(init, ['exec', '--target', String(c.pid), '-n', '-u', '-i', '-C', '-U', '-T', '--', 'hostname'], { encoding: 'utf8' });
    assert.equal(uts.stdout, 'web-a\n');
    const files = spawnSync(init, ['exec', '--target', String(c.pid), '-m', '-p', '--', '/sleep', '0'], { encoding: 'utf8' });
    assert.equal(files.status, 0);
    c.signal('SIGALRM');
    await c.exited;
  });

  test('exec passes a terminal through, and Ctrl-C reaches the command', async () => {
    const c = await container(['sleep', '1000']);
    // `exec`: script(1) runs the line in $SHELL, and a shell that stays in between (dash does) dies of Ctrl-C itself.
    const script = spawn('script', ['-qec', `exec ${init} exec --target ${c.pid} -a -- busybox sh -c 'busybox stty size >/dev/null && echo tty; trap "echo got INT; exit 3" INT; echo ready; while :; do busybox sleep 0.05; done'`, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    let out = '';
    script.stdout.setEncoding('utf8').on('data', (d: string) => (out += d));
    const status = new Promise((r) => script.once('close', r));
    await until('the command to be ready', () => out.includes('ready'));
    script.stdin.write('\x03');
    assert.equal(await status, 3);
    assert.match(out, /tty\r\nready/);
    assert.match(out, /got INT/);
    c.signal('SIGALRM');
    await c.exited;
  });

  test('containers go on when their starter dies, and the log with them', async () => {
    const starter = join(dir, 'starter.mjs');
    const log = join(dir, 'orphan.log');
    writeFileSync(starter, `
      import { spawn } from 'node:child_process';
      const c = spawn(${JSON.stringify(init)}, ${JSON.stringify(['run', '--node', String(node.pid), '--sandbox', String(sandbox.pid), '--root', image, '--log', log, '--exit-file', join(dir, 'orphan.exit'), '--', '/bin/busybox', 'sh', '-c', 'i=0; while :; do echo $((i=i+1)); busybox sleep 0.02; done'])}, { stdio: ['ignore', 'pipe', 'pipe'] });
      c.stdout.on('data', (d) => { process.stdout.write(d); process.kill(process.pid, 'SIGKILL'); });
    `);
    const r = spawnSync(process.execPath, [starter], { encoding: 'utf8' });
    assert.equal(r.signal, 'SIGKILL');
    const pid = (JSON.parse(r.stdout) as { pid: number }).pid;
    const lines = (): number => readFileSync(log, 'utf8').split('\n').length;
    const before = lines();
    await until('the log to grow', () => lines() > before + 5);
    assert.ok(runs(pid));
    process.kill(pid, 'SIGKILL');
    await until('its exit file', () => existsSync(join(dir, 'orphan.exit')));
    assert.equal(readFileSync(join(dir, 'orphan.exit'), 'utf8'), '{"exitCode":137,"signal":9}\n');
  });

  test('a sandbox can be taken away: process, netns path, shm', async () => {
    const s = await startPause(init, { nodePid: node.pid, hostname: 'gone', netns: '/run/netns/cni-2', shm: '/run/s/2/shm' });
    process.kill(s.pid, 'SIGKILL');
    await s.gone;
    await unmountInNode(init, node.pid, ['/run/netns/cni-2', '/run/s/2/shm']);
    await unmountInNode(init, node.pid, ['/run/netns/cni-2', '/run/s/2/shm']); // twice is once
    assert.doesNotMatch(inside(node.pid, 'cat', '/proc/self/mountinfo').out, /cni-2|\/s\/2\//);
    assert.equal(inside(node.pid, 'ls', '/run/netns').out, 'cni-1');
  });

  test('killing the holder leaves no process and no mount', async () => {
    const mountsBefore = machineMounts();
    const n = await startHold(init, { hostname: 'n3', tmpfs: ['/run'] });
    const s = await startPause(init, { nodePid: n.pid, hostname: 'p', netns: '/run/netns/cni-1', shm: '/run/s/1/shm' });
    const c = await startContainer(init, {
      nodePid: n.pid, sandboxPid: s.pid, root: image, binds: [], nodeBinds: [], tmpfs: [], privileged: true, readOnlyRoot: false, sharePid: true,
      log: { path: join(dir, 'k.log'), maxBytes: 1 << 20, files: 2 }, exitFile: join(dir, 'k.exit'), env: { PATH: '/bin' }, command: ['busybox', 'sleep', '1000'],
    });
    assert.equal(namespaceInode(c.pid, 'pid'), namespaceInode(s.pid, 'pid'), 'shareProcessNamespace');
    const inodes = (['net', 'mnt', 'pid', 'ipc'] as const).flatMap((k) => [n, s, c].map((p) => [k, namespaceInode(p.pid, k) ?? 0] as const));
    assert.deepEqual(machineMounts(), mountsBefore, 'nothing of a node is mounted on the machine');
    process.kill(n.pid, 'SIGKILL');
    await Promise.all([n.gone, s.gone]);
    assert.equal((await c.exited).exitCode, 137);
    await until('all processes to be gone', () => ![n.pid, s.pid, c.pid, c.monitorPid].some(runs));
    for (const [k, inode] of inodes) assert.deepEqual(membersOf(k, inode), [], `${k} namespace ${inode}`);
    assert.deepEqual(machineMounts(), mountsBefore);
    assert.ok(!readFileSync('/proc/self/mountinfo', 'utf8').includes('cni-1'));
  });

  test('errors: one line, what, which object, why; status 125', () => {
    const bad = (...args: string[]) => {
      const r = spawnSync(init, args, { encoding: 'utf8' });
      return [r.status, r.stderr];
    };
    assert.deepEqual(bad('hold', '--hostname', 'x', '--netns-file', '/nope'), [125, 'podway-init: open /nope: No such file or directory\n']);
    assert.deepEqual(bad('hold', '--hostname', 'x', '--bind', '/nope', '/mnt', 'ro'), [125, 'podway-init: open /nope: No such file or directory\n']);
    assert.deepEqual(bad('exec', '--target', '4194303', '-n', '--', 'true'), [125, 'podway-init: open process 4194303: No such process\n']);
    assert.deepEqual(bad('pause', '--node', String(node.pid), '--hostname', 'x', '--sysctl', 'net.ipv4.nope=1'), [125, 'podway-init: set sysctl net.ipv4.nope=1: No such file or directory\n']);
    assert.deepEqual(bad('run'), [125, 'podway-init: run --node: required\n']);
    assert.deepEqual(bad('fly'), [125, 'podway-init: run mode fly: expected hold, pause, run, exec, attach or unmount\n']);
  });
});
