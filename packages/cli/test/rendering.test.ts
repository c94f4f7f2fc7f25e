import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { test } from 'node:test';
import fc from 'fast-check';
import { PodwayError } from '@podway/errors';
import { errorJson, renderError } from '../src/errors.js';
import { EXIT_CODES, exitCodeOf } from '../src/exit-codes.js';
import { Interrupts } from '../src/interrupts.js';
import { formatDuration, plainReporter, Progress, terminalReporter, type ProgressEvent } from '../src/progress.js';
import { renderTable } from '../src/table.js';
import { pad, textWidth, truncate } from '../src/text-width.js';
import { makeTheme, wantsColour } from '../src/theme.js';

test('widths: ASCII, Chinese, combining marks, emoji, colour', () => {
  for (const [text, width] of [['abc', 3], ['节点', 4], ['é', 1], ['e\u0301', 1], ['한국', 4], ['🚀', 2], ['\u001b[31mred\u001b[39m', 3], ['ｆｕｌｌ', 8], ['', 0], ['│─', 2]] as const) {
    assert.equal(textWidth(text), width, text);
  }
});

test('pad and truncate never go over the width', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', '节', 'é', '-', '🚀') }), fc.integer({ min: 1, max: 20 }), (text, width) => {
    const cut = truncate(text, width);
    assert.ok(textWidth(cut) <= width, `${cut} in ${width}`);
    assert.equal(textWidth(pad(cut, width)), width);
    if (textWidth(text) <= width) assert.equal(cut, text);
  }));
});

test('a table lines up, also in Chinese', () => {
  assert.equal(
    renderTable({ columns: ['NAME', { title: 'N', align: 'right' }, 'WORDS'], rows: [['web-a', 1, '节点一'], ['节点', 22, undefined]] }),
    'NAME    N  WORDS\nweb-a   1  节点一\n节点   22',
  );
  assert.equal(renderTable({ columns: ['A'], rows: [], empty: 'none' }), 'none');
});

test('only columns that may be cut are cut, and only in a terminal', () => {
  const table = { columns: ['NAME', { title: 'WHERE', shrink: true }], rows: [['web-a', 'a-rather-long-place']] };
  assert.equal(renderTable(table, 16), 'NAME   WHERE\nweb-a  a-rather…');
  assert.equal(renderTable(table), 'NAME   WHERE\nweb-a  a-rather-long-place');
});

test('errors: message, object, hint; bugs with their stack', () => {
  const e = new PodwayError('NETLINK_REFUSED', 'cannot add route', { said: 'No', errno: 'EPERM', object: 'netns m1', hint: 'Do this.' });
  assert.equal(renderError(e), 'error: cannot add route: No (EPERM)\n  netns m1\n  hint: Do this.');
  assert.deepEqual(errorJson(e), { error: { code: 'NETLINK_REFUSED', message: 'cannot add route: No (EPERM)', object: 'netns m1', errno: 'EPERM', hint: 'Do this.' } });
  const bug = renderError(new TypeError('x is undefined'));
  assert.match(bug, /^error: this is a bug in podway\n  TypeError: x is undefined\n    {2,}at .*rendering\.test/);
  assert.match(bug, /Please report it/);
  assert.equal(errorJson('text').error['code'], 'INTERNAL');
});

test('exit codes are decided by code and errno', () => {
  assert.equal(exitCodeOf(new PodwayError('USAGE', 'x')), 2);
  assert.equal(exitCodeOf(new PodwayError('NEEDS_ROOT', 'x')), 77);
  assert.equal(exitCodeOf(new PodwayError('INTERRUPTED', 'x')), 130);
  assert.equal(exitCodeOf(new PodwayError('X', 'x', { errno: 'EPERM' }), false), 77);
  assert.equal(exitCodeOf(new PodwayError('X', 'x', { errno: 'EPERM' }), true), 1);
  assert.equal(exitCodeOf(new Error('x')), 1);
  assert.equal(new Set(EXIT_CODES.map((c) => c.code)).size, EXIT_CODES.length);
});

test('colour: NO_COLOR over FORCE_COLOR over the terminal', () => {
  assert.equal(wantsColour({}, true), true);
  assert.equal(wantsColour({}, false), false);
  assert.equal(wantsColour({ NO_COLOR: '1', FORCE_COLOR: '1' }, true), false);
  assert.equal(wantsColour({ NO_COLOR: '' }, true), true, 'empty does not count');
  assert.equal(wantsColour({ FORCE_COLOR: '1' }, false), true);
  assert.equal(wantsColour({ FORCE_COLOR: '0' }, true), false);
  assert.equal(wantsColour({ TERM: 'dumb' }, true), false);
});

test('progress: events in order, times from the clock, failures too', async () => {
  const events: ProgressEvent[] = [];
  let clock = 0;
  const progress = new Progress((e) => events.push(e), () => clock);
  assert.equal(await progress.phase('start', (status) => { status('m1'); clock = 1500; return 'three nodes'; }), 'three nodes');
  await assert.rejects(progress.phase('break', () => Promise.reject(new Error('no'))), /no/);
  assert.deepEqual(events, [
    { kind: 'phase-started', id: 1, title: 'start' }, { kind: 'phase-status', id: 1, text: 'm1' },
    { kind: 'phase-ended', id: 1, title: 'start', ms: 1500, result: 'done', detail: 'three nodes' },
    { kind: 'phase-started', id: 2, title: 'break' }, { kind: 'phase-ended', id: 2, title: 'break', ms: 0, result: 'failed' },
  ]);
  let text = '';
  const plain = plainReporter({ write: (s) => (text += s) }, makeTheme(false));
  events.forEach(plain.listener);
  assert.equal(text, '✓ start  1.5 s  three nodes\n✗ break  0.00 s\n');
  text = '';
  const terminal = terminalReporter({ write: (s) => (text += s), columns: 40 }, makeTheme(false));
  events.forEach(terminal.listener);
  terminal.close();
  assert.ok(text.endsWith('\r\u001b[K✗ break  0.00 s\n'), JSON.stringify(text));
  assert.equal(formatDuration(125_000), '2 min 5 s');
});

test('clean-ups run once, last begun first, and a failing one stops none', async () => {
  const done: string[] = [];
  const i = new Interrupts();
  i.onExit(() => void done.push('first'));
  i.onExit(() => Promise.reject(new Error('no')));
  const takeBack = i.onExit(() => void done.push('taken back'));
  i.onExit(() => void done.push('last'));
  takeBack();
  const [a, b] = await Promise.all([i.finish(), i.finish()]);
  assert.deepEqual(done, ['last', 'first']);
  assert.equal(a, b);
  assert.deepEqual(a.map((e) => (e as Error).message), ['no']);
});

test('the first signal aborts, the second quits', async () => {
  const source = new EventEmitter();
  const quits: number[] = [];
  const i = new Interrupts(source, (code) => quits.push(code));
  const work = i.race(new Promise(() => undefined));
  source.emit('SIGINT');
  assert.equal(i.signal.aborted, true);
  await assert.rejects(work, { code: 'INTERRUPTED' });
  assert.deepEqual(quits, []);
  source.emit('SIGINT');
  assert.deepEqual(quits, [130]);
  await i.finish();
  assert.equal(source.listenerCount('SIGINT'), 0);
});
