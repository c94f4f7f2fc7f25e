/** Every verb of a lab through the real program: what it answers, and what it says about wrong input. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { LabLayout } from '@podway/lab/client';
import { good, labName, needsRoot, podway, PROGRAM, quietly, scratch, start, startProgram, stateOf, until } from './lab-support.js';

const lab = labName();
const at = ['--lab', lab];
const skip = needsRoot;

before(async () => {
  if (!skip) await good('up', ...at, '-q');
});
after(async () => {
  if (!skip) await good('down', ...at, '-q');
});

const json = async <T>(...words: string[]): Promise<T> => JSON.parse(await good(...words, ...at, '-o', 'json')) as T;

test('up on a running lab says so and changes nothing', { skip }, async () => {
  const layout = new LabLayout(lab);
  const look = (): string => [
    readFileSync(layout.state, 'utf8'), readFileSync(layout.kubeconfig, 'utf8'),
    ...['ip -o link', 'ip route', 'ip neigh show nud permanent', 'bridge fdb show dev flannel.1', 'nft list ruleset'].map((c) =>
      execFileSync('ip', ['netns', 'exec', layout.netns('m1'), ...c.split(' ')], { encoding: 'utf8' })),
  ].join('\n');
  const before = look();
  const pods = await json<{ items: { metadata: { uid: string } }[] }>('get', 'pods');
  assert.match(await good('up', ...at), new RegExp(`^Lab ${lab} is already running; nothing was changed\\.`));
  const again = await json<{ outcome: string; lab: string }>('up');
  assert.deepEqual([again.outcome, again.lab], ['running', lab]);
  assert.equal(look(), before);
  assert.deepEqual((await json<typeof pods>('get', 'pods')).items.map((p) => p.metadata.uid), pods.items.map((p) => p.metadata.uid));
});

test('status and get, in every form', { skip }, async () => {
  const status = await json<{ phase: string; agents: { ready: boolean }[]; map: { nodes: { name: string; pods: { address: string }[] }[] } }>('status');
  assert.equal(status.phase, 'ready');
  assert.deepEqual(status.agents.map((a) => a.ready), [true, true, true]);
  assert.deepEqual(status.map.nodes.map((n) => [n.name, n.pods.map((p) => p.address)]), [['m1', ['10.244.0.2', '10.244.0.3']], ['m2', ['10.244.1.2']], ['m3', ['10.244.2.2']]]);
  assert.match(await good('status', ...at), /is ready/);

  assert.equal(await good('get', 'pods', ...at, '-o', 'name'), 'pod/web-a\npod/web-b\npod/web-c\npod/web-d\n');
  assert.match(await good('get', 'pods', ...at), /^NAME +READY +STATUS +RESTARTS +AGE\nweb-a +1\/1 +Running +0 /);
  const wide = await good('get', 'po', ...at, '-o', 'wide');
  assert.match(wide, /^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE/);
  assert.match(wide, /^web-d +1\/1 +Running +0 +\S+ +10\.244\.2\.2 +m3/m);
  assert.match(await good('get', 'pods', '-A', ...at), /^NAMESPACE +NAME/);
  assert.match(await good('get', 'pod', 'web-a', ...at, '-o', 'yaml'), /^apiVersion: v1\nkind: Pod\n/);
  assert.match(await good('get', 'nodes', ...at), /^m1 +Ready/m);
  assert.equal((await json<{ status: { podIP: string } }>('get', 'pod', 'web-c')).status.podIP, '10.244.1.2');
  assert.equal(await good('get', 'pods', '-l', 'app=none', ...at), 'No pods found in this namespace.\n');
});

test('the nodes and their ranges as the tutorials ask for them', { skip: skip || (quietly(() => execFileSync('kubectl', ['version', '--client'])) ? false : 'there is no kubectl') }, () => {
  const asked = execFileSync('kubectl', ['get', 'nodes', '-o', 'jsonpath={range .items[*]}{.metadata.name}{"\\t"}{.spec.podCIDR}{"\\n"}{end}'], {
    encoding: 'utf8', env: { ...process.env, KUBECONFIG: new LabLayout(lab).kubeconfig },
  });
  assert.equal(asked, 'm1\t10.244.0.0/24\nm2\t10.244.1.0/24\nm3\t10.244.2.0/24\n');
});

test('exec: exit codes, stdin, files of the container, tools of the machine', { skip }, async () => {
  assert.equal((await podway('exec', 'web-a', ...at, '--', 'sh', '-c', 'exit 7')).code, 7);
  assert.equal((await podway('exec', 'web-a', ...at, '--', 'sh', '-c', 'kill -9 $$')).code, 137);
  assert.equal((await start(['exec', '-i', 'web-a', ...at, '--', 'cat'], { input: 'through the pipe\n' }).done).stdout, 'through the pipe\n');
  assert.equal(await good('exec', ...at, 'web-a', '--', 'hostname'), 'web-a\n');
  const both = await podway('exec', ...at, 'web-a', '--', 'sh', '-c', 'echo out; echo err >&2');
  assert.deepEqual([both.stdout, both.stderr], ['out\n', 'err\n']);
  // Answers who and where it is, and that the client's address was not translated.
  const answer = JSON.parse(await good('exec', ...at, 'web-a', '--', 'wget', '-qO-', 'http://10.244.2.2/json/')) as { client: { address: string } };
  assert.equal(answer.client.address, '10.244.0.2');
  assert.match(await good('exec', '--tools', ...at, 'web-a', '--', 'ip', '-br', 'addr', 'show', 'eth0'), /10\.244\.0\.2\/24/);
  assert.equal((await podway('exec', ...at, 'web-a', '--', 'no-such-program')).code, 127);
});

test('exec in a terminal: the terminal is the command\'s, and Ctrl-C ends the command alone', { skip: skip || (existsSync('/usr/bin/script') ? false : 'there is no script(1)') }, async () => {
  // `exec`: script(1) runs the line in $SHELL, and a shell that stays in between (dash does) dies of Ctrl-C itself.
  const line = (...words: string[]): string => `exec ${[process.execPath, PROGRAM, 'exec', '-it', 'web-a', ...at, '--', ...words].map((w) => `'${w}'`).join(' ')}`;
  const tty = await startProgram('/usr/bin/script', ['-qec', line('tty'), '/dev/null']).done;
  assert.match(tty.stdout, /\/dev\/(pts|console|tty)|not a tty/);
  assert.equal((await startProgram('/usr/bin/script', ['-qec', line('sh', '-c', 'test -t 0 && test -t 1 && exit 5'), '/dev/null']).done).code, 5);
  const typed = startProgram('/usr/bin/script', ['-qec', line('sh', '-c', 'trap "echo caught; exit 9" INT; echo waiting; while :; do sleep 0.05; done'), '/dev/null'], { keepOpen: true });
  await until('the command to wait', () => typed.said().includes('waiting'));
  typed.child.stdin!.write('\u0003');
  const { code, stdout } = await typed.done;
  assert.match(stdout, /caught/);
  assert.equal(code, 9);
});

test('node exec: all namespaces of the node, and its own files', { skip }, async () => {
  assert.equal(await good('node', 'exec', 'm2', ...at, '--', 'hostname'), 'm2\n');
  const ps = await good('node', 'exec', 'm2', ...at, '--', 'ps', '-eo', 'pid,args');
  assert.match(ps, /^ +1 podway-node/m);
  assert.match(ps, / agent --node m2 /);
  assert.doesNotMatch(ps, /--node m1 |lab-verbs/);
  assert.equal(await good('node', 'exec', 'm2', ...at, '--', 'ls', '/etc/cni/net.d'), '10-podway.conflist\n');
  assert.match(await good('node', 'exec', 'm2', ...at, '--', 'ip', 'route'), /^10\.244\.1\.0\/24 dev cni0 proto kernel scope link src 10\.244\.1\.1 $/m);
  assert.equal((await podway('node', 'exec', 'm2', ...at, '--', 'sh', '-c', 'exit 3')).code, 3);
});

test('run, logs and delete', { skip }, async () => {
  assert.match(await good('run', 'talker', '--node', 'm2', '--image', 'busybox', ...at, '--', 'sh', '-c', 'echo one; echo two; while :; do sleep 0.1; echo more; done'), /^pod\/talker is ready at 10\.244\.1\.\d+ on m2\n$/);
  assert.match(await good('logs', 'talker', ...at), /^one\ntwo\n/);
  assert.equal(await good('logs', 'talker', ...at, '--tail', '1'), 'more\n');
  const following = start(['logs', '-f', 'talker', ...at, '--tail', '1'], { keepOpen: true });
  await until('lines to follow', () => following.said().split('more').length > 4);
  following.child.kill('SIGINT');
  assert.equal((await following.done).code, 130);
  assert.equal(await good('delete', 'pod', 'talker', '--now', ...at), 'pod "talker" deleted\n');
  assert.equal((await podway('logs', 'talker', ...at)).code, 2);
});

test('run of a command that fails says why, with the last lines of its log; its runs before are kept', { skip }, async () => {
  const r = await podway('run', 'sad', '--image', 'busybox', ...at, '--', 'sh', '-c', 'echo cannot find my config >&2; exit 3');
  assert.equal(r.code, 1);
  assert.equal(r.stdout, '');
  assert.match(r.stderr, /error: pod sad does not start: its container ended with exit code 3; the last lines of its log:\n {4}cannot find my config$/m);
  await until('a second run', async () => (await podway('logs', 'sad', '--previous', ...at)).code === 0);
  assert.match(await good('logs', 'sad', '--previous', ...at), /cannot find my config/);
  await good('delete', 'pod', 'sad', '--now', ...at);
  const image = await podway('run', 'odd', '--image', 'nosuch:1', ...at);
  assert.match(image.stderr, /a lab has no registry/);
  await good('delete', 'pod', 'odd', '--now', ...at);
});

test('wrong input: one sentence that says what, exit code 2, nothing on stdout', { skip }, async (t) => {
  const cases: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['no such lab', ['get', 'pods', '--lab', 'tnosuch'], /^error: lab tnosuch is not running\n {2}hint: Running labs: .*/m],
    ['a bad name of a lab', ['up', '--lab', 'Not_Good'], /^error: "Not_Good" cannot be the name of a lab/],
    ['no such pod', ['exec', 'web-x', ...at, '--', 'ls'], /^error: no pod web-x runs in namespace default\n {2}hint: Running: web-a, web-b, web-c, web-d/m],
    ['no such pod', ['logs', 'web-x', ...at], /^error: there is no pod web-x in namespace default\n {2}hint: See: podway get pods -A/],
    ['no such pod', ['delete', 'pod', 'web-x', ...at], /^error: there is no pod web-x in namespace default\n/],
    ['a name that cannot be', ['run', 'Not_Good', ...at], /Not_Good/],
    ['no such container', ['exec', '-c', 'side', 'web-a', ...at, '--', 'ls'], /^error: container side is not running\n.*\n {2}hint: running: web-a/m],
    ['no such node', ['node', 'exec', 'm9', ...at, '--', 'ls'], /^error: lab \S+ has no node m9\n {2}hint: Nodes: m1, m2, m3/m],
    ['a pod for no such node', ['run', 'p', '--node', 'm9', ...at], /has no node m9/],
    ['no such kind', ['get', 'pots', ...at], /"pots" is not a kind/],
    ['no command', ['exec', 'web-a', ...at], /^error: no command was given/],
    ['no such file', ['up', '-f', join(scratch, 'none.yaml')], /^error: cannot read .*none\.yaml/],
    ['file and nodes', ['up', '-f', 'x', '--nodes', '2'], /exclude each other/],
    ['a bad label', ['run', 'p', '-l', 'x', ...at], /"x" is not a label/],
  ];
  for (const [name, words, says] of cases) {
    await t.test(`${name}: podway ${words.join(' ')}`, async () => {
      const r = await podway(...words);
      assert.match(r.stderr.replace(/^✗.*\n/gm, ''), says);
      assert.equal(r.code, 2, r.stderr);
      assert.equal(r.stdout, '');
    });
  }
  const file = join(scratch, 'wrong.yaml');
  writeFileSync(file, 'apiVersion: podway.io/v1alpha1\nkind: Lab\nnodes:\n- name: m1\n- name: m1\n  address: 10.0.0.1\npods:\n- name: p\n  node: m7\n');
  const r = await podway('up', '-f', file);
  assert.equal(r.code, 2);
  assert.deepEqual(r.stderr.split('\n').filter((l) => l.includes('wrong.yaml:')).map((l) => l.trim().replace(scratch, '')), [
    '/wrong.yaml:5:9: nodes[1].name: "m1" is there twice',
    '/wrong.yaml:6:12: nodes[1].address: is not in the underlay\'s subnet 172.18.0.0/16',
    '/wrong.yaml:9:9: pods[0].node: there is no node m7; nodes: m1',
  ]);
});

test('a file that cannot be written is said before a packet is sent; one that was there keeps what it held', { skip }, async () => {
  for (const words of [['trace', 'web-a', 'web-d', '--pcap'], ['capture', 'web-a', '-c', '1', '-w']]) {
    const r = await podway(...words, join(scratch, 'no-folder/x.pcapng'), ...at);
    assert.equal(r.code, 2);
    assert.equal(r.stderr, `error: cannot write ${join(scratch, 'no-folder/x.pcapng')}: no such file or directory (ENOENT)\n  hint: Its folder does not exist: make it first, or choose another place.\n`);
    assert.equal(r.stdout, '');
  }
  const older = join(scratch, 'older.pcapng');
  writeFileSync(older, 'an older capture');
  assert.equal((await podway('capture', 'web-a', ...at, '-f', 'no filter (', '-w', older)).code, 2);
  assert.equal((await podway('trace', 'nobody', 'web-a', ...at, '--pcap', older)).code, 2);
  assert.equal(readFileSync(older, 'utf8'), 'an older capture');
  const saved = /^(\d+) packets of all hops saved in /m.exec(await good('trace', 'web-a', 'web-d', ...at, '--pcap', older))?.[1];
  assert.ok(Number(saved) > 20, saved);
  assert.ok(readFileSync(older).length > 20 * 98);
});

test('without root: one line before anything is done', { skip: skip || (existsSync('/usr/bin/setpriv') ? false : 'there is no setpriv(1)') }, async (t) => {
  const as = (...words: string[]) => startProgram('/usr/bin/setpriv', ['--reuid', '65534', '--regid', '65534', '--clear-groups', process.execPath, PROGRAM, ...words]).done;
  if ((await as('--version')).code !== 0) return t.skip('the user nobody may not read this folder');
  const other = labName();
  for (const words of [['up', '--lab', other], ['down', ...at], ['exec', 'web-a', ...at, '--', 'ls'], ['get', 'pods', ...at]]) {
    const r = await as(...words);
    assert.equal(r.code, 77, r.stderr);
    assert.equal(r.stdout, '');
    assert.equal(r.stderr.split('\n')[0], `error: podway ${words[0]} needs root`);
  }
  assert.equal(existsSync(new LabLayout(other).dir), false);
  assert.equal(stateOf(lab).phase, 'ready');
});
