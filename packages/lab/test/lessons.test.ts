/** Lessons are run for real here, as a learner would; what they are made of is judged apart. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import type { Node } from '@podway/kube';
import { LESSONS, openSandbox, packetLoss, runLesson, shows, splitWords, workers, type Lesson, type Place } from '../src/lessons/index.js';
import { cables } from '../src/lessons/virtual-switch.js';

const skip = process.getuid?.() === 0 ? false : 'needs root: makes namespaces';
const forever = new AbortController().signal;

/** Named namespaces of the machine, and every network namespace that a process is in. */
function netnsOfTheMachine(): string[] {
  const found = new Set(readdirSync('/run/netns', { withFileTypes: true }).map((e) => e.name));
  return [...found].sort();
}

describe('what a lesson is made of', () => {
  test('words are split at blanks, quotes keep them', () => {
    assert.deepEqual(splitWords("nft add chain ip demo p '{ type nat hook postrouting priority srcnat; }'"), ['nft', 'add', 'chain', 'ip', 'demo', 'p', '{ type nat hook postrouting priority srcnat; }']);
    assert.deepEqual(splitWords("  a  ''  b "), ['a', '', 'b']);
  });

  test('every lesson says everything in both languages, and its names are its own', () => {
    assert.equal(new Set(LESSONS.map((l) => l.id)).size, LESSONS.length);
    for (const l of LESSONS) {
      for (const words of [l.title, l.about, ...l.steps.flatMap((s) => [s.say, ...(s.expect ? [s.expect.see] : [])])]) {
        assert.ok(words.en.length > 0, l.id);
        assert.match(words.zh, /[\u4e00-\u9fff\uff00-\uffef]|^[\x20-\x7e]+$/, l.id);
      }
      assert.ok(l.steps.some((s) => s.expect), `${l.id} checks something`);
    }
  });

  test('cables: N pods by pairs, and at one switch', () => {
    assert.deepEqual([2, 3, 10].map(cables), [{ pairs: 1, ports: 2 }, { pairs: 3, ports: 3 }, { pairs: 45, ports: 10 }]);
  });

  test('loss is read from what ping says', () => {
    assert.equal(packetLoss('2 packets transmitted, 2 received, 0% packet loss, time 204ms'), 0);
    assert.equal(packetLoss('3 packets transmitted, 1 packets received, 66% packet loss'), 66);
    assert.equal(packetLoss('ping: connect: Network is unreachable'), undefined);
  });

  test('workers are ready, not cordoned, and not of the control plane', () => {
    const node = (name: string, ready: boolean, more: { labels?: Record<string, string>; unschedulable?: boolean } = {}): Node => ({
      apiVersion: 'v1', kind: 'Node', metadata: { name, ...(more.labels ? { labels: more.labels } : {}) }, spec: more.unschedulable ? { unschedulable: true } : {},
      status: { conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
    });
    assert.deepEqual(workers([
      node('m10', true), node('m2', true), node('m3', false), node('m4', true, { unschedulable: true }), node('cp', true, { labels: { 'node-role.kubernetes.io/control-plane': '' } }),
    ]), ['m2', 'm10']);
  });

  test('a lesson ends at the first step that is not as it should be; what earlier steps saw is there for later ones; cleaned up is always', async () => {
    const ran: string[] = [];
    const place: Place = {
      seen: { node1: 'm1' }, close: () => Promise.resolve(),
      run: (argv) => (ran.push(argv.join(' ')), Promise.resolve(argv[0] === 'bad' ? { code: 1, output: 'no' } : { code: 0, output: 'address 10.0.0.7\n' })),
    };
    const say = { en: 's', zh: '步' };
    const lesson: Lesson = {
      id: 'x', title: say, about: say, place: { workers: 1 }, cleanup: ['away'],
      steps: [{ say, run: (s) => `first ${s['node1']}`, expect: shows(/address/, say, /address (?<a>\S+)/) }, { say, run: (s) => `second ${s['a']}` }, { say, run: 'bad' }, { say, run: 'never' }],
    };
    const result = await runLesson(lesson, place, { language: 'zh', signal: forever });
    assert.deepEqual(ran, ['first m1', 'second 10.0.0.7', 'bad', 'away']);
    assert.deepEqual([result.ok, result.of, result.steps.map((s) => [s.say, s.ok])], [false, 4, [['步', true], ['步', true], ['步', false]]]);
  });
});

describe('lessons by hand', { skip }, () => {
  let names: string[];
  before(() => (names = netnsOfTheMachine().filter((n) => ['ns1', 'ns2', 'nsA', 'nsB', 'nsC', 'internet'].includes(n))));

  for (const lesson of LESSONS.filter((l) => l.place === 'sandbox')) {
    test(`${lesson.id}: every step is as it should be`, async () => {
      const place = await openSandbox();
      try {
        const result = await runLesson(lesson, place, { language: 'en', signal: forever });
        assert.deepEqual(result.steps.filter((s) => !s.ok), []);
        assert.equal(result.ok, true);
      } finally {
        await place.close();
      }
      assert.deepEqual(netnsOfTheMachine().filter((n) => ['ns1', 'ns2', 'nsA', 'nsB', 'nsC', 'internet'].includes(n)), names);
    });
  }

  test('a step that is not as it should be is told: the same lesson where a name is taken', async () => {
    const place = await openSandbox();
    try {
      assert.equal((await place.run(['ip', 'netns', 'add', 'ns2'], forever)).code, 0);
      const result = await runLesson(LESSONS[0]!, place, { language: 'en', signal: forever });
      assert.deepEqual([result.ok, result.steps.length, result.steps.at(-1)?.command], [false, 2, 'ip netns add ns2']);
      assert.match(result.steps.at(-1)?.output ?? '', /File exists/);
    } finally {
      await place.close();
    }
  });

  test('who runs a lesson may be killed with -9: nothing of it stays', async (t) => {
    const code = `const { openSandbox } = await import(${JSON.stringify(new URL('../src/lessons/index.js', import.meta.url).href)});
      const p = await openSandbox(); await p.run(['ip', 'netns', 'add', 'ns1'], new AbortController().signal);
      const r = await p.run(['readlink', '/proc/self/ns/net'], new AbortController().signal); process.stdout.write(r.output); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['ignore', 'pipe', 'inherit'] });
    t.after(() => child.kill('SIGKILL'));
    const netns = await new Promise<string>((resolve) => child.stdout.once('data', (d: Buffer) => resolve(d.toString().trim())));
    const inside = (): string[] => readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/ns/net`) === netns;
      } catch {
        return false; // it ended
      }
    });
    assert.equal(inside().length, 2); // unshare, and what it started
    child.kill('SIGKILL');
    while (inside().length > 0) await new Promise((resolve) => setImmediate(resolve));
  });
});
