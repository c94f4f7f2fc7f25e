/** Lessons through the real program: in a sandbox, and on a lab with enough workers or too few. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LessonResult } from '@podway/lab/lessons';
import { good, labName, needsRoot, podway, start } from './lab-support.js';

const skip = needsRoot;

test('lesson list names them in the language of the environment', async () => {
  assert.match(await good('lesson', 'list', '-o', 'name'), /^one-cable\nvirtual-switch\nwhole-node\nacross-nodes\n$/);
  assert.match(await good('lesson', 'list', '--lang', 'zh'), /一根网线/);
  assert.match((await start(['lesson', 'list'], { env: { LANG: 'zh_CN.UTF-8' } }).done).stdout, /一根网线/);
});

test('a lesson shows each command with its answer; -o json tells every step', { skip }, async () => {
  const said = await good('lesson', 'run', 'one-cable');
  assert.match(said, /^\d+\/\d+ .*\n {2}\$ ip netns exec ns1 ping -c 2 -i 0\.2 10\.1\.1\.2\n[^]*? {2}✓ 0% packet loss\n/m);
  assert.match(said, /\none-cable: (\d+) of \1 steps as they should be\n$/);
  const result = JSON.parse(await good('lesson', 'run', 'virtual-switch', '-o', 'json', '--lang', 'zh')) as LessonResult;
  assert.deepEqual([result.ok, result.steps.length, result.steps.every((s) => s.ok)], [true, result.of, true]);
});

test('--step waits for Enter', { skip }, async () => {
  const slow = start(['lesson', 'run', 'one-cable', '--step', '--lang', 'en'], { keepOpen: true });
  while (!slow.said().includes('Enter goes on')) await new Promise((resolve) => setImmediate(resolve));
  assert.doesNotMatch(slow.said(), /2\/\d+ /);
  slow.child.stdin!.end('\n'.repeat(3));
  const { code, stdout } = await slow.done;
  assert.equal(code, 0);
  assert.match(stdout, /steps as they should be/);
});

test('wrong input is told: no such lesson, no lab, too few workers', { skip }, async () => {
  const unknown = await podway('lesson', 'run', 'two-cables');
  assert.deepEqual([unknown.code, /there is no lesson "two-cables"\n {2}hint: There are: one-cable/.test(unknown.stderr)], [2, true]);
  const lab = labName();
  assert.equal((await podway('lesson', 'run', 'across-nodes', '--lab', lab)).code, 2);
  await good('up', '--lab', lab, '--nodes', '1', '-q');
  const few = await podway('lesson', 'run', 'across-nodes', '--lab', lab);
  assert.deepEqual([few.code, few.stdout], [2, '']);
  assert.equal(few.stderr, `error: need 2 workers, have 1\n  lab ${lab}\n  hint: Workers that are ready: m1. Add one: podway node add NAME --lab ${lab}\n`);
  await good('node', 'add', 'm2', '--lab', lab, '-q');
  assert.match(await good('lesson', 'run', 'across-nodes', '--lab', lab), /\nacross-nodes: 6 of 6 steps as they should be\n$/);
  assert.doesNotMatch(await good('get', 'pods', '--lab', lab, '-o', 'name'), /lesson/);
  await good('down', '--lab', lab, '-q');
});
