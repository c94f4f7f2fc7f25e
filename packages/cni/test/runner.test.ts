import assert from 'node:assert/strict';
import { chmod, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { messageOf } from '@podway/errors';
import { ConflistRunner, CniError, type Exec, type PluginOutput, isCniError, parseNetworkList, podArgs, spawnExec } from '@podway/cni';
import { scratch } from './shim-helpers.js';

interface Call {
  readonly plugin: string;
  readonly command: string;
  readonly conf: Record<string, unknown>;
  readonly env: Readonly<Record<string, string>>;
}

type Answer = (call: Call) => Partial<PluginOutput> | Promise<Partial<PluginOutput>>;

/** A runner whose plugins are functions; what they were asked is kept. */
async function withRunner(answer: Answer, use: (r: ConflistRunner, calls: Call[], dir: string) => Promise<void>, more: { timeoutMs?: number } = {}): Promise<void> {
  const { dir, remove } = await scratch();
  const calls: Call[] = [];
  const exec: Exec = async (path, env, stdin) => {
    const call = { plugin: path, command: env['CNI_COMMAND'] ?? '', conf: JSON.parse(stdin) as Record<string, unknown>, env };
    calls.push(call);
    return { code: 0, stdout: '', stderr: '', ...(await answer(call)) };
  };
  try {
    await use(new ConflistRunner({ path: ['/opt/cni/bin', '/x'], cacheDir: dir, exec, find: (type) => Promise.resolve(type), ...more }), calls, dir);
  } finally {
    await remove();
  }
}

const conf = (cniVersion: string, more: object = {}) =>
  parseNetworkList(JSON.stringify({ cniVersion, name: 'net', plugins: [{ type: 'one' }, { type: 'two', capabilities: { portMappings: true } }], ...more }));
const result = (cniVersion: string, n: number): string => JSON.stringify({ cniVersion, ips: [{ ...(cniVersion < '1' ? { version: '4' } : {}), address: `10.0.0.${n}/24` }] });
const ok: Answer = (c) => (c.command === 'ADD' ? { stdout: result(String(c.conf['cniVersion']), c.plugin === 'one' ? 1 : 2) } : {});
const pod = { containerId: 'c1', netns: '/var/run/netns/x', ifname: 'eth0', args: podArgs({ namespace: 'default', name: 'web-a', uid: 'u', sandboxId: 'c1' }), capabilityArgs: { portMappings: [{ hostPort: 80, containerPort: 80 }] } };

for (const version of ['0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
  test(`${version}: ADD in order, DEL in reverse, prevResult handed on`, () =>
    withRunner(ok, async (r, calls, dir) => {
      const list = conf(version);
      assert.deepEqual(await r.add(list, pod), JSON.parse(result(version, 2)));
      assert.deepEqual(calls.map((c) => [c.command, c.plugin, c.conf['prevResult'], c.conf['runtimeConfig']]), [
        ['ADD', 'one', undefined, undefined],
        ['ADD', 'two', JSON.parse(result(version, 1)), { portMappings: [{ hostPort: 80, containerPort: 80 }] }],
      ]);
      assert.deepEqual(Object.fromEntries(Object.entries(calls[0]?.env ?? {}).filter(([k]) => k.startsWith('CNI_'))), {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: 'c1',
        CNI_NETNS: '/var/run/netns/x',
        CNI_IFNAME: 'eth0',
        CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u',
        CNI_PATH: '/opt/cni/bin:/x',
      });
      const file = JSON.parse(await readFile(join(dir, 'results', 'net-c1-eth0'), 'utf8')) as Record<string, unknown>;
      assert.deepEqual([file['kind'], file['networkName'], file['ifName'], file['result']], ['cniCacheV1', 'net', 'eth0', JSON.parse(result(version, 2))]);
      calls.length = 0;
      // args, netns and capabilities of ADD are remembered
      await r.del(list, { containerId: 'c1', ifname: 'eth0' });
      const prev = version === '0.3.1' ? undefined : (JSON.parse(result(version, 2)) as unknown);
      assert.deepEqual(calls.map((c) => [c.command, c.plugin, c.conf['prevResult'], c.env['CNI_NETNS']]), [
        ['DEL', 'two', prev, '/var/run/netns/x'],
        ['DEL', 'one', prev, '/var/run/netns/x'],
      ]);
      assert.deepEqual(calls[0]?.conf['runtimeConfig'], { portMappings: [{ hostPort: 80, containerPort: 80 }] });
      assert.deepEqual(await readdir(join(dir, 'results')), []);
      await r.del(list, { containerId: 'c1', ifname: 'eth0' });
      assert.equal(calls.length, 4, 'a second DEL asks the plugins again');
    }));
}

test('a plugin that answers in another version is converted', () =>
  withRunner(
    () => ({ stdout: result('0.4.0', 1) }),
    async (r) => assert.deepEqual(await r.add(conf('1.0.0'), pod), { cniVersion: '1.0.0', ips: [{ address: '10.0.0.1/24' }] }),
  ));

test('a result without a version is of the version asked for, and what else it carries is handed on', () =>
  withRunner(
    () => ({ stdout: '{"ips":[{"address":"10.0.0.1/24"}],"x":1}' }),
    async (r, calls) => {
      await r.add(conf('1.0.0'), pod);
      assert.deepEqual(calls[1]?.conf['prevResult'], { cniVersion: '1.0.0', ips: [{ address: '10.0.0.1/24' }], x: 1 });
    },
  ));

test('a failing plugin: chain stops, nothing is cached, its words, code and stderr are kept', () =>
  withRunner(
    (c) => (c.plugin === 'two' ? { code: 1, stdout: '{"code":11,"msg":"busy","details":"later"}', stderr: 'log line\n' } : { stdout: result('1.0.0', 1) }),
    async (r, _calls, dir) => {
      await assert.rejects(r.add(conf('1.0.0'), pod), (e) => isCniError(e, 'TRY_AGAIN_LATER') && e.message === 'plugin type="two" failed (add): busy: later; stderr: log line');
      assert.deepEqual(await readdir(dir), []);
    },
  ));

test('a plugin that fails without a document, or prints none', async () => {
  const says = async (out: Partial<PluginOutput>, pattern: RegExp): Promise<void> =>
    withRunner(
      () => out,
      async (r) => void (await assert.rejects(r.add(conf('1.0.0'), pod), (e) => e instanceof CniError && pattern.test(e.message))),
    );
  await says({ code: 2, stderr: 'panic: x' }, /exit code 2, no error document: panic: x/);
  await says({ code: 1 }, /netplugin failed with no error message/);
  await says({ stdout: 'log\n{}' }, /the result of plugin one is not JSON/);
  await says({ stdout: '{"ips":[{"address":"x"}]}' }, /the result of plugin one is not a CNI result: ips\[0\]\.address/);
});

test('CHECK: cached result to all; needs 0.4.0 and an ADD; disableCheck', () =>
  withRunner(ok, async (r, calls) => {
    await assert.rejects(r.check(conf('0.3.1'), pod), (e) => isCniError(e, 'INCOMPATIBLE_VERSION'));
    await assert.rejects(r.check(conf('1.0.0'), pod), (e) => isCniError(e, 'UNKNOWN_CONTAINER'));
    await r.add(conf('1.0.0'), pod);
    calls.length = 0;
    await r.check(conf('1.0.0', { disableCheck: true }), pod);
    assert.equal(calls.length, 0);
    await r.check(conf('1.0.0'), pod);
    assert.deepEqual(calls.map((c) => [c.command, c.plugin, c.conf['prevResult']]), ['one', 'two'].map((p) => ['CHECK', p, JSON.parse(result('1.0.0', 2)) as unknown]));
  }));

test('GC: DEL for what is cached and not valid, then GC to all, all errors together', () =>
  withRunner(
    (c) => (c.command === 'GC' && c.plugin === 'one' ? { code: 1, stdout: '{"code":100,"msg":"no"}' } : ok(c)),
    async (r, calls) => {
      const list = conf('1.1.0');
      for (const containerId of ['c1', 'c2']) await r.add(list, { ...pod, containerId });
      calls.length = 0;
      await assert.rejects(r.gc(list, [{ containerId: 'c2', ifname: 'eth0' }]), (e) => e instanceof AggregateError && e.errors.length === 1 && /plugin type="one" failed \(gc\): no/.test(messageOf(e)));
      const valid = [{ containerID: 'c2', ifname: 'eth0' }];
      assert.deepEqual(calls.map((c) => [c.command, c.plugin, c.env['CNI_CONTAINERID'], c.conf['cni.dev/valid-attachments']]), [
        ['DEL', 'two', 'c1', undefined],
        ['DEL', 'one', 'c1', undefined],
        ['GC', 'one', '', valid],
        ['GC', 'two', '', valid],
      ]);
      assert.deepEqual((await r.cache.list()).map((a) => a.containerId), ['c2']);
      calls.length = 0;
      await r.gc(conf('1.0.0'), []);
      assert.deepEqual(calls.map((c) => c.command), ['DEL', 'DEL'], '1.0.0 has no GC, but what is cached is still removed');
      await r.gc(conf('1.1.0', { disableGC: true }), []);
      assert.equal(calls.length, 2);
    },
  ));

test('STATUS: the first plugin that is not ready; nothing below 1.1.0', () =>
  withRunner(
    () => ({ code: 1, stdout: '{"code":50,"msg":"no agent"}' }),
    async (r, calls) => {
      await r.status(conf('1.0.0'));
      assert.equal(calls.length, 0);
      await assert.rejects(r.status(conf('1.1.0')), (e) => isCniError(e, 'NOT_AVAILABLE'));
    },
  ));

test('one container at a time; others in parallel; GC alone', () => {
  const running = new Set<string>();
  let most = 0;
  return withRunner(
    async (c) => {
      const id = c.env['CNI_CONTAINERID'] || 'gc';
      assert.ok(!running.has(id), `${id} twice at once`);
      if (c.command === 'GC') assert.equal(running.size, 0, 'GC runs alone');
      running.add(id);
      most = Math.max(most, running.size);
      await new Promise((resolve) => setImmediate(resolve));
      running.delete(id);
      return ok(c);
    },
    async (r) => {
      const list = conf('1.1.0');
      const all: Promise<unknown>[] = ['a', 'b', 'c'].flatMap<Promise<unknown>>((containerId) => [r.add(list, { ...pod, containerId }), r.del(list, { ...pod, containerId }), r.add(list, { ...pod, containerId })]);
      all.push(r.gc(list, []), r.add(list, { ...pod, containerId: 'd' }));
      await Promise.all(all);
      assert.ok(most > 1, 'different containers ran in parallel');
      assert.deepEqual((await r.cache.list()).map((a) => a.containerId), ['d']);
    },
  );
});

test('delCached uses the configuration of ADD', () =>
  withRunner(ok, async (r, calls) => {
    await r.add(conf('1.0.0', { plugins: [{ type: 'old', key: 1 }] }), pod);
    calls.length = 0;
    assert.equal(await r.delCached({ network: 'net', containerId: 'c1', ifname: 'eth0' }), true);
    assert.deepEqual(calls.map((c) => [c.plugin, c.conf['key']]), [['old', 1]]);
    assert.equal(await r.delCached({ network: 'net', containerId: 'c1', ifname: 'eth0' }), false);
  }));

test('names that share a cache file name are not taken for each other', () =>
  withRunner(ok, async (r) => {
    await r.add(conf('1.0.0'), { ...pod, containerId: 'a-b', ifname: 'c' });
    assert.equal(await r.cache.get({ network: 'net', containerId: 'a', ifname: 'b-c' }), undefined);
    assert.ok(await r.cache.get({ network: 'net', containerId: 'a-b', ifname: 'c' }));
  }));

test('a damaged cache file does not stop DEL', () =>
  withRunner(ok, async (r, calls, dir) => {
    await r.add(conf('1.0.0'), pod);
    await writeFile(join(dir, 'results', 'net-c1-eth0'), '{"kind":"cniCac');
    calls.length = 0;
    await r.del(conf('1.0.0'), pod);
    assert.deepEqual(calls.map((c) => c.conf['prevResult']), [undefined, undefined]);
    assert.deepEqual(await readdir(join(dir, 'results')), []);
  }));

const script = async (dir: string, body: string): Promise<string> => {
  const path = join(dir, 'plugin');
  await writeFile(path, `#!/bin/sh\n${body}\n`);
  await chmod(path, 0o755);
  return path;
};

test('real processes: environment as given, output, exit code', async () => {
  const { dir, remove } = await scratch();
  try {
    const path = await script(dir, 'cat; echo "$CNI_COMMAND $HOME" >&2; exit 3');
    assert.deepEqual(await spawnExec()(path, { CNI_COMMAND: 'ADD' }, '{"a":1}', new AbortController().signal), { code: 3, stdout: '{"a":1}', stderr: 'ADD \n' });
    await assert.rejects(spawnExec()(join(dir, 'none'), {}, '', new AbortController().signal), /ENOENT/);
  } finally {
    await remove();
  }
});

test('a plugin that hangs is ended with all it started; Ctrl-C ends it too; a missing one is named', async () => {
  const { dir, remove } = await scratch();
  try {
    // the grandchild ignores nothing but holds stdout open; its pid tells whether it lives
    await script(dir, 'sleep 1000 & echo $! > "$0.pid"; wait');
    const r = new ConflistRunner({ path: [dir], cacheDir: dir, timeoutMs: 300 });
    const list = parseNetworkList('{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"plugin"}]}');
    await assert.rejects(r.add(list, pod), (e) => isCniError(e, 'TRY_AGAIN_LATER') && /no answer within 0\.3 s/.test(e.message));
    const pid = Number(await readFile(join(dir, 'plugin.pid'), 'utf8'));
    const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => 'gone Z');
    assert.match(state, / Z|gone/, 'what the plugin started is gone');
    const abort = new AbortController();
    const patient = new ConflistRunner({ path: [dir], cacheDir: dir });
    const adding = patient.add(list, pod, abort.signal);
    abort.abort(new Error('interrupted'));
    await assert.rejects(adding, /interrupted/);
    await assert.rejects(patient.add(parseNetworkList('{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"nope"}]}'), pod), (e) => messageOf(e).includes(`failed to find plugin "nope" in path [${dir}]`));
  } finally {
    await remove();
  }
});
