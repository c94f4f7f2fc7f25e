/** The CNI server, asked by the real shim. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { PodwayError, isPodwayError } from '@podway/errors';
import { CNI_VERSIONS, CniError, type CniRequest, type CniResult, buildShim, encodeRequest } from '@podway/cni';
import { type CniEvent, type CniHandler, CniServer } from '../src/server/index.js';

let dir = '';
let shim = '';
before(async () => {
  dir = await mkdtemp(join(tmpdir(), 'podway-server-test-'));
  shim = await buildShim(dir);
});
after(() => rm(dir, { recursive: true, force: true }));

let counter = 0;
const newSocket = (): string => join(dir, `run${counter++}`, 'agent.sock');

const RESULT: CniResult = { interfaces: [{ name: 'eth0', mac: '0a:58:0a:f4:00:02', mtu: 1450, sandbox: '/var/run/netns/x' }], ips: [{ address: '10.244.0.2/24', gateway: '10.244.0.1', interface: 0 }], routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1', priority: 1 }] };
const quiet: CniHandler = {
  add: () => Promise.resolve(RESULT),
  del: () => Promise.resolve(),
  check: () => Promise.resolve(),
  gc: () => Promise.resolve(),
  status: () => Promise.resolve(),
};

interface Asked {
  readonly code: number | null;
  readonly stdout: string;
}

class Asking {
  readonly child: ChildProcess;
  readonly done: Promise<Asked>;
  constructor(socket: string, env: Record<string, string>, stdin: string) {
    this.child = spawn(shim, [], { env: { PODWAY_AGENT_SOCKET: socket, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
    let stdout = '';
    this.child.stdout?.on('data', (d: Buffer) => (stdout += d.toString()));
    this.child.stdin?.on('error', () => undefined);
    this.child.stdin?.end(stdin);
    this.done = new Promise((resolve) => this.child.once('close', (code) => resolve({ code, stdout })));
  }
}

const conf = (cniVersion = '1.1.0', more: object = {}): string => JSON.stringify({ cniVersion, name: 'podway', type: 'podway-cni', ...more });
const pod = (command: string, more: Record<string, string> = {}): Record<string, string> => ({
  CNI_COMMAND: command,
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/var/run/netns/x',
  CNI_IFNAME: 'eth0',
  CNI_ARGS: 'IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=u1',
  ...more,
});

async function serving(handler: Partial<CniHandler>, use: (ask: (env: Record<string, string>, stdin?: string) => Promise<Asked>, f: { socket: string; events: CniEvent[]; server: CniServer; start: (env: Record<string, string>, stdin?: string) => Asking }) => Promise<void>): Promise<void> {
  const socket = newSocket();
  const events: CniEvent[] = [];
  const server = new CniServer({ socketPath: socket, handler: { ...quiet, ...handler }, onEvent: (e) => events.push(e) });
  await server.listen();
  try {
    const start = (env: Record<string, string>, stdin = conf()): Asking => new Asking(socket, env, stdin);
    await use((env, stdin) => start(env, stdin).done, { socket, events, server, start });
  } finally {
    await server.close(1000);
  }
}

const until = async (what: string, is: () => boolean): Promise<void> => {
  const end = Date.now() + 5000;
  while (!is()) {
    if (Date.now() > end) assert.fail(`never: ${what}`);
    await new Promise((r) => setImmediate(r));
  }
};

for (const version of CNI_VERSIONS) {
  test(`ADD at ${version}: the result of that version, whole`, () =>
    serving({}, async (ask, { events }) => {
      const { code, stdout } = await ask(pod('ADD'), conf(version));
      assert.equal(code, 0);
      const rich = version === '1.1.0';
      assert.deepEqual(JSON.parse(stdout), {
        cniVersion: version,
        interfaces: [{ name: 'eth0', mac: '0a:58:0a:f4:00:02', ...(rich ? { mtu: 1450 } : {}), sandbox: '/var/run/netns/x' }],
        ips: [{ ...(version < '1' ? { version: '4' } : {}), interface: 0, address: '10.244.0.2/24', gateway: '10.244.0.1' }],
        routes: [{ dst: '0.0.0.0/0', gw: '10.244.0.1', ...(rich ? { priority: 1 } : {}) }],
      });
      assert.deepEqual(events.map((e) => [e.command, e.containerId, e.ifname, e.pod, e.error, e.gone]), [['ADD', 'c1', 'eth0', 'default/web-a', undefined, false]]);
    }));
}

test('the handler gets the request in our words', async () => {
  let got: CniRequest | undefined;
  await serving({ add: (req) => ((got = req), Promise.resolve(RESULT)) }, async (ask) => {
    await ask(pod('ADD', { CNI_PATH: '/opt/cni/bin' }), conf('0.4.0', { prevResult: { cniVersion: '0.4.0', ips: [{ version: '4', address: '10.0.0.1/24' }] }, runtimeConfig: { bandwidth: { ingressRate: 1000 } }, bridge: 'cni0' }));
  });
  assert.ok(got);
  const { signal, config, ...rest } = got;
  assert.deepEqual(rest, { command: 'ADD', version: '0.4.0', path: ['/opt/cni/bin'], containerId: 'c1', ifname: 'eth0', netns: '/var/run/netns/x', args: { IgnoreUnknown: true, K8S_POD_NAMESPACE: 'default', K8S_POD_NAME: 'web-a', K8S_POD_INFRA_CONTAINER_ID: 'c1', K8S_POD_UID: 'u1', unknown: {} } });
  assert.ok(signal instanceof AbortSignal);
  assert.deepEqual([config.prevResult, config.runtimeConfig, config.raw['bridge']], [{ ips: [{ address: '10.0.0.1/24' }] }, { bandwidth: { ingressRate: 1000 } }, 'cni0']);
});

test('verbs without a result print nothing; GC has its list; VERSION of the server itself', async () => {
  let valid: unknown;
  await serving({ gc: (req) => ((valid = req.validAttachments), Promise.resolve()) }, async (ask, { socket }) => {
    for (const [env, stdin] of [[pod('DEL'), conf()], [pod('CHECK'), conf()], [{ CNI_COMMAND: 'STATUS' }, conf()], [{ CNI_COMMAND: 'GC' }, conf('1.1.0', { 'cni.dev/valid-attachments': [{ containerID: 'c9', ifname: 'eth0' }] })]] as const) {
      assert.deepEqual(await ask(env, stdin), { code: 0, stdout: '' }, env.CNI_COMMAND);
    }
    assert.deepEqual(valid, [{ containerId: 'c9', ifname: 'eth0' }]);
    const answer = await new Promise<string>((resolve) => {
      const s = connect(socket);
      let text = '';
      s.on('data', (d: Buffer) => (text += d.subarray(text ? 0 : 12).toString()));
      s.on('close', () => resolve(text));
      s.write(encodeRequest({ env: { CNI_COMMAND: 'VERSION' }, stdin: Buffer.from('{"cniVersion":"1.0.0"}') }));
    });
    assert.deepEqual(JSON.parse(answer), { cniVersion: '1.0.0', supportedVersions: CNI_VERSIONS });
  });
});

const errors: { what: string; env?: Record<string, string>; stdin?: string; add?: () => never; expect: object }[] = [
  { what: 'unknown command', env: pod('HUH'), expect: { cniVersion: '1.1.0', code: 4, msg: 'unknown CNI_COMMAND: HUH', details: 'known are ADD, DEL, CHECK, GC, STATUS, VERSION' } },
  { what: 'missing variable', env: { ...pod('ADD'), CNI_NETNS: '' }, expect: { cniVersion: '1.1.0', code: 4, msg: 'required env variables [CNI_NETNS] missing' } },
  { what: 'not JSON', stdin: 'hello', expect: { cniVersion: '1.1.0', code: 6, msg: 'the network configuration is not JSON', details: `Unexpected token 'h', "hello" is not valid JSON` } },
  { what: 'bad name', stdin: conf('0.4.0', { name: '../etc' }), expect: { cniVersion: '0.4.0', code: 7, msg: 'invalid network configuration', details: 'name: must start with a letter or digit and have only letters, digits, "_", "." and "-"' } },
  { what: 'version', stdin: conf('3.0.0'), expect: { cniVersion: '3.0.0', code: 1, msg: 'incompatible CNI versions', details: `config is "3.0.0", plugin supports ${JSON.stringify(CNI_VERSIONS)}; Set cniVersion in the network configuration to one of these.` } },
  { what: 'a CniError of the handler', add: () => { throw new CniError('RANGE_EXHAUSTED', 'range exhausted', { details: '10.0.0.0/24', hint: 'Delete pods.' }); }, expect: { cniVersion: '1.1.0', code: 101, msg: 'range exhausted', details: '10.0.0.0/24; Delete pods.' } },
  { what: 'a PodwayError of the handler', add: () => { throw new PodwayError('NETLINK_REFUSED', 'creating link', { object: 'link veth1', errno: 'EEXIST' }); }, expect: { cniVersion: '1.1.0', code: 999, msg: 'creating link: EEXIST', details: 'NETLINK_REFUSED link veth1' } },
  { what: 'any exception', add: () => { throw new TypeError('x is not a function'); }, expect: { cniVersion: '1.1.0', code: 999, msg: 'x is not a function' } },
];

for (const e of errors) {
  test(`error, whole: ${e.what}`, () =>
    serving({ add: () => (e.add ? e.add() : Promise.resolve(RESULT)) }, async (ask, { events }) => {
      const { code, stdout } = await ask(e.env ?? pod('ADD'), e.stdin ?? conf());
      assert.equal(code, 1);
      assert.deepEqual(JSON.parse(stdout), e.expect);
      assert.equal(events[0]?.error?.cniCode, (e.expect as { code: number }).code);
    }));
}

test('the same attachment one after the other, others in parallel, GC alone', () => {
  const running = new Set<string>();
  let most = 0;
  const work = async (key: string): Promise<void> => {
    assert.ok(!running.has(key), `${key} twice at once`);
    assert.ok(!running.has('gc'), 'nothing runs beside GC');
    running.add(key);
    most = Math.max(most, running.size);
    for (let i = 0; i < 20; i++) await new Promise((r) => setImmediate(r));
    running.delete(key);
  };
  return serving(
    {
      add: async (r) => (await work(r.containerId + r.ifname), RESULT),
      del: (r) => work(r.containerId + r.ifname),
      gc: async () => {
        assert.equal(running.size, 0, 'GC waits for all');
        await work('gc');
      },
    },
    async (ask) => {
      const gc = conf('1.1.0', { 'cni.dev/valid-attachments': [] });
      const all = ['a', 'b', 'c'].flatMap((id) => [pod('ADD', { CNI_CONTAINERID: id }), pod('DEL', { CNI_CONTAINERID: id }), pod('ADD', { CNI_CONTAINERID: id, CNI_IFNAME: 'net1' })]);
      const answers = await Promise.all([...all.map((env) => ask(env)), ask({ CNI_COMMAND: 'GC' }, gc), ...all.map((env) => ask(env))]);
      assert.deepEqual(answers.filter((a) => a.code !== 0), []);
      assert.ok(most > 1, 'different attachments ran in parallel');
    },
  );
});

test('a client that goes away: the signal tells the handler; what still waited is never begun', async () => {
  const begun: string[] = [];
  let reason: unknown;
  let finish = (): void => undefined;
  await serving(
    {
      add: (req) =>
        new Promise((resolve) => {
          begun.push('ADD');
          req.signal.addEventListener('abort', () => {
            reason = req.signal.reason;
            finish = () => resolve(RESULT);
          });
        }),
      del: () => (begun.push('DEL'), Promise.resolve()),
    },
    async (ask, { start, events, socket }) => {
      const first = start(pod('ADD'));
      await until('ADD has begun', () => begun.length === 1);
      const second = connect(socket);
      await new Promise<void>((resolve) => second.write(encodeRequest({ env: pod('DEL'), stdin: Buffer.from(conf()) }), () => resolve()));
      second.destroy();
      first.child.kill('SIGKILL');
      await first.done;
      await until('the abort', () => reason !== undefined);
      assert.ok(isPodwayError(reason, 'CNI_CLIENT_GONE'));
      finish();
      await until('the end of both', () => events.length === 2);
      assert.deepEqual(events.map((e) => [e.command, e.gone]), [['ADD', true], ['DEL', true]]);
      assert.deepEqual(await ask(pod('DEL')), { code: 0, stdout: '' }, 'the attachment is not locked for ever');
      assert.deepEqual(begun, ['ADD', 'DEL']);
    },
  );
});

test('garbage, halves and silence on the socket harm nobody', () =>
  serving({}, async (ask, { socket }) => {
    const send = (bytes: Buffer, end: boolean): Promise<Buffer> =>
      new Promise((resolve) => {
        const s = connect(socket);
        const out: Buffer[] = [];
        s.on('data', (d: Buffer) => out.push(d));
        s.on('error', () => undefined);
        s.on('close', () => resolve(Buffer.concat(out)));
        if (end) s.end(bytes);
        else s.write(bytes);
      });
    const refused = await send(Buffer.from('GET / HTTP/1.1\r\n\r\n'), false);
    assert.equal((JSON.parse(refused.subarray(12).toString()) as { code: number }).code, 6);
    const whole = encodeRequest({ env: pod('ADD'), stdin: Buffer.from(conf()) });
    for (const n of [0, 3, 12, whole.length - 1]) assert.equal((await send(whole.subarray(0, n), true)).length, 0);
    const piecewise = await new Promise<Buffer>((resolve) => {
      const s = connect(socket);
      const out: Buffer[] = [];
      s.on('data', (d: Buffer) => out.push(d));
      s.on('close', () => resolve(Buffer.concat(out)));
      s.setNoDelay();
      let at = 0;
      const next = (): void => {
        if (at < whole.length) s.write(whole.subarray(at, ++at), () => setImmediate(next));
      };
      next();
    });
    assert.equal((JSON.parse(piecewise.subarray(12).toString()) as { cniVersion: string }).cniVersion, '1.1.0');
    assert.equal((await ask(pod('DEL'))).code, 0);
  }));

test('a connection that sends nothing is closed after its time', async () => {
  const socket = newSocket();
  const server = new CniServer({ socketPath: socket, handler: quiet, requestTimeoutMs: 50 });
  await server.listen();
  await new Promise<void>((resolve) => connect(socket).on('close', () => resolve()).resume());
  await server.close();
});

test('the socket: modes, a live agent refused, a dead one replaced, other things left alone', async () => {
  const socket = newSocket();
  const first = new CniServer({ socketPath: socket, handler: quiet });
  await first.listen();
  assert.deepEqual([(await stat(socket)).mode & 0o777, (await stat(join(socket, '..'))).mode & 0o777], [0o600, 0o700]);
  await assert.rejects(new CniServer({ socketPath: socket, handler: quiet }).listen(), (e) => isPodwayError(e, 'CNI_SOCKET_BUSY') && e.object === socket);
  assert.equal((await new Asking(socket, pod('DEL'), conf()).done).code, 0, 'the live one is unharmed');
  await first.close();
  await assert.rejects(stat(socket), /ENOENT/);

  const code = `require('net').createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', code]);
  assert.ok((await stat(socket)).isSocket(), 'a dead agent left its socket');
  const second = new CniServer({ socketPath: socket, handler: quiet });
  await second.listen();
  assert.equal((await new Asking(socket, pod('DEL'), conf()).done).code, 0);
  await second.close();

  await writeFile(socket, 'precious');
  await assert.rejects(second.listen(), (e) => isPodwayError(e, 'CNI_SOCKET') && /no socket is in the way/.test(e.message));
  await rm(socket);
  const shared = join(dir, 'shared');
  await mkdir(shared);
  await chmod(shared, 0o755);
  const third = new CniServer({ socketPath: join(shared, 'agent.sock'), handler: quiet });
  await third.listen();
  assert.equal((await stat(shared)).mode & 0o777, 0o755, 'a directory that was there keeps its mode');
  await third.close();
  await assert.rejects(new CniServer({ socketPath: `/${'x'.repeat(120)}`, handler: quiet }).listen(), (e) => isPodwayError(e, 'CNI_SOCKET'));
});

test('close lets work end, then aborts it; the shim hears error 11', async () => {
  const socket = newSocket();
  let begun = 0;
  const server = new CniServer({
    socketPath: socket,
    handler: { ...quiet, add: (req) => new Promise((_resolve, reject) => (begun++, req.signal.addEventListener('abort', () => reject(req.signal.reason as Error)))) },
  });
  await server.listen();
  const asking = new Asking(socket, pod('ADD'), conf());
  await until('ADD has begun', () => begun === 1);
  await server.close(20);
  const { code, stdout } = await asking.done;
  assert.deepEqual([code, (JSON.parse(stdout) as { code: number }).code], [1, 11]);
});
