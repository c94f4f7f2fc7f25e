/** `podway down` leaves the machine as it was, whatever was killed before; so does Ctrl-C of `podway up`. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Netns, NETNS_DIR } from '@podway/kernel';
import { belongings, binary, LabLayout, readRecords } from '@podway/lab/client';
import { good, holding, kill, labName, machine, namespacesOf, naming, needsRoot, podway, quietly, scratch, smallLab, start, stateOf, until, upSmall } from './lab-support.js';

/** Nothing of the lab is left: not its names, not its namespaces, not a change of the machine's own. */
async function nothingLeft(lab: string, before: readonly string[], namespaces: ReadonlySet<string>): Promise<void> {
  assert.deepEqual(naming(lab), []);
  assert.deepEqual(holding(namespaces), []);
  // Tests of others may have something in the machine's namespace for a moment.
  let now = machine();
  await until('the machine to be as before', () => {
    now = machine();
    return now.length === before.length && now.every((l, i) => l === before[i]);
  }, 5_000).catch(() => assert.deepEqual(now, before));
}

async function down(lab: string): Promise<{ processes: number; namespaces: string[]; folder: boolean }> {
  return (JSON.parse(await good('down', '--lab', lab, '-o', 'json')) as { processes: number; namespaces: string[]; folder: boolean }[])[0]!;
}

const labPid = (lab: string): number => stateOf(lab).pid;
const agents = (lab: string): number[] => belongings(new LabLayout(lab)).processes.filter((pid) => {
  // A short-lived one of the lab may have ended since.
  const args = (quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8')) ?? '').split('\0');
  return args.includes('agent') && args.includes('--node') && !args[0]!.endsWith('podway-init');
});

test('an agent and the lab\'s own process killed with -9: down leaves the machine as it was', { skip: needsRoot }, async () => {
  const lab = labName();
  const before = machine();
  const tmp = join(scratch, 'tmp');
  mkdirSync(tmp);
  const up = await start(['up', '--lab', lab, '-o', 'json'], { env: { TMPDIR: tmp } }).done;
  assert.equal(up.code, 0, up.stderr);
  const namespaces = namespacesOf(lab);
  // Three nodes and four pods have a net namespace each, and there are the underlay and the outside.
  assert.equal([...namespaces].filter((n) => n.startsWith('net:')).length, 3 + 4 + 2);
  const found = agents(lab);
  assert.equal(found.length, 3);
  kill(found[1]!);
  kill(labPid(lab));
  await until('the lab to be broken', async () => (await podway('status', '--lab', lab)).stderr.includes('has ended'));
  const removed = await down(lab);
  assert.equal(removed.namespaces.length, 5);
  assert.ok(removed.processes >= 3 + 4 + 2, `${removed.processes} processes`);
  await nothingLeft(lab, before, namespaces);
  assert.deepEqual(readdirSync(tmp), []);
  const again = await down(lab);
  assert.deepEqual({ ...again }, { ...again, processes: 0, namespaces: [], folder: false });
});

test('killed while it starts, at each step of the way', { skip: needsRoot }, async (t) => {
  const steps: Readonly<Record<string, (l: LabLayout) => boolean>> = {
    'the folder is there': (l) => existsSync(l.dir),
    'the lab\'s process has begun': (l) => existsSync(l.state),
    'the underlay is there': (l) => existsSync(join(NETNS_DIR, l.netns('underlay'))),
    'a node is held': (l) => belongings(l).holders.length > 0,
    'the API answers': (l) => existsSync(l.kubeconfig),
    'an agent runs': (l) => existsSync(join(l.logs, 'agent-m1.log')),
    'a pod has a sandbox': (l) => existsSync(l.pods) && readdirSync(l.pods).length > 0,
  };
  for (const [step, reached] of Object.entries(steps)) {
    await t.test(step, async () => {
      const lab = labName();
      const layout = new LabLayout(lab);
      const before = machine();
      const up = start(['up', '-f', smallLab(lab)]);
      await until(step, () => reached(layout));
      up.child.kill('SIGKILL');
      const own = belongings(layout).processes.find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('__lab'));
      if (own !== undefined) kill(own);
      await up.done;
      const namespaces = namespacesOf(lab);
      await down(lab);
      await nothingLeft(lab, before, namespaces);
    });
  }
});

test('Ctrl-C of podway up, at each step of the way, leaves nothing', { skip: needsRoot }, async (t) => {
  const steps: Readonly<Record<string, (l: LabLayout) => boolean>> = {
    'the folder is there': (l) => existsSync(l.dir),
    'a node is held': (l) => belongings(l).holders.length > 0,
    'an agent runs': (l) => existsSync(join(l.logs, 'agent-m1.log')),
    'a pod has a sandbox': (l) => existsSync(l.pods) && readdirSync(l.pods).length > 0,
  };
  for (const [step, reached] of Object.entries(steps)) {
    await t.test(step, async () => {
      const lab = labName();
      const before = machine();
      const up = start(['up', '-f', smallLab(lab)]);
      await until(step, () => reached(new LabLayout(lab)));
      const namespaces = namespacesOf(lab);
      up.child.kill('SIGINT');
      const { code, stdout, stderr } = await up.done;
      assert.equal(code, 130);
      assert.equal(stdout, '');
      assert.match(stderr, /^error: interrupted$/m);
      await nothingLeft(lab, before, namespaces);
    });
  }
});

test('holders, pause processes and containers killed first; somebody works in a pod from outside', { skip: needsRoot }, async () => {
  const lab = labName();
  const before = machine();
  await upSmall(lab);
  const namespaces = namespacesOf(lab);
  const layout = new LabLayout(lab);
  const [record] = await readRecords(layout.pods);
  // A process of the machine in the pod's network namespace: as `podway exec --tools` and tcpdump are.
  const guest = spawn(binary('podway-init'), ['exec', '--target', String(record!.sandbox.pid), '-n', '--', 'sleep', '1000'], { stdio: 'ignore' });
  const guestGone = new Promise((resolve) => guest.once('exit', resolve));
  await until('the guest', () => readFileSync(`/proc/${guest.pid}/task/${guest.pid}/children`, 'utf8').trim() !== '');
  kill(labPid(lab));
  kill(record!.sandbox.pid);
  kill(record!.containers[0]!.pid);
  kill(stateOf(lab).nodes[0]!.holderPid);
  await down(lab);
  await guestGone;
  await nothingLeft(lab, before, namespaces);
});

test('half of a lab: only a folder, only namespaces, only a configuration, a process of it alone', { skip: needsRoot }, async () => {
  const before = machine();
  const halves: Readonly<Record<string, (l: LabLayout) => void>> = {
    folder: (l) => mkdirSync(join(l.dir, 'nodes/m1/state'), { recursive: true }),
    namespaces: (l) => [l.netns('underlay'), l.netns('m1')].forEach((n) => Netns.create(n).close()),
    'a name without a namespace': (l) => writeFileSync(join(NETNS_DIR, l.netns('m1')), ''),
    configuration: (l) => (mkdirSync(l.dir, { recursive: true }), writeFileSync(l.config, '{"nodes":')),
    lock: (l) => (mkdirSync(join(l.dir, '..'), { recursive: true, mode: 0o700 }), writeFileSync(l.lock, '')),
  };
  for (const [half, make] of Object.entries(halves)) {
    const lab = labName();
    mkdirSync(NETNS_DIR, { recursive: true });
    make(new LabLayout(lab));
    const namespaces = namespacesOf(lab);
    await down(lab);
    assert.equal(existsSync(new LabLayout(lab).lock), false, half);
    await nothingLeft(lab, before, namespaces);
  }
});

test('down killed in the middle and run again; two at the same time; up takes remnants away first', { skip: needsRoot }, async () => {
  const lab = labName();
  const before = machine();
  await upSmall(lab);
  const namespaces = namespacesOf(lab);
  const first = start(['down', '--lab', lab]);
  const { holderPid } = stateOf(lab).nodes[0]!;
  await until('the node to be killed', () => !existsSync(`/proc/${holderPid}/ns/net`) || !belongings(new LabLayout(lab)).processes.includes(holderPid));
  first.child.kill('SIGKILL');
  await first.done;
  await Promise.all([down(lab), down(lab)]);
  await nothingLeft(lab, before, namespaces);

  await upSmall(lab);
  kill(labPid(lab));
  await until('the lab to be broken', async () => (await podway('status', '--lab', lab)).stderr.includes('has ended'));
  const again = await podway('up', '-f', smallLab(lab));
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stderr, /was taken away first/);
  const later = namespacesOf(lab);
  await down(lab);
  await nothingLeft(lab, before, later);
});

test('down of a lab that never was', { skip: needsRoot }, async () => {
  const lab = labName();
  assert.equal(await good('down', '--lab', lab), `There is no lab ${lab}; nothing was done.\n`);
});
