/** kubectl exec, attach, run, cp, port-forward, debug: with WebSocket, and with SPDY as older ones speak it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { needsRoot, until } from './runtime-support.js';
import { cluster, noKubectl, result, type Cluster, type Ran } from './streaming-support.js';

const forever = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.05; done'];
const noScript = existsSync('/usr/bin/script') ? false : 'there is no script(1)';
const transports = [
  ['WebSocket', { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'true', KUBECTL_PORT_FORWARD_WEBSOCKETS: 'true' }],
  ['SPDY', { KUBECTL_REMOTE_COMMAND_WEBSOCKETS: 'false', KUBECTL_PORT_FORWARD_WEBSOCKETS: 'false' }],
] as const;

for (const [transport, env] of transports) {
  describe(`kubectl over ${transport}`, { skip: needsRoot || noKubectl }, () => {
    let c: Cluster;
    before(async () => {
      c = await cluster();
      await c.pod('web', { command: forever });
      await c.pod('two', { command: forever, name: 'first' }, {});
    });
    after(async () => {
      await c.close();
      assert.deepEqual(c.node.warnings, []);
    });
    const k = (...args: string[]): Promise<Ran> => result(c.kubectl(env, args), '');
    const fed = (input: string | Buffer, ...args: string[]): Promise<Ran> => result(c.kubectl(env, args), input);
    /** In a terminal of its own, of 33 lines and 101 columns. */
    const terminal = (...args: string[]) => {
      const line = ['kubectl', ...args].map((w) => `'${w}'`).join(' ');
      return spawn('/usr/bin/script', ['-qec', `stty rows 33 cols 101; exec ${line}`, '/dev/null'], {
        env: { PATH: process.env['PATH'], SHELL: '/bin/sh', TERM: 'vt100', HOME: c.r.dir, KUBECONFIG: c.r.kubeconfig, ...env },
      });
    };

    test('exec: both outputs apart, exit codes, signals, stdin to its end', async () => {
      assert.deepEqual(await k('exec', 'web', '--', 'sh', '-c', 'echo out; echo err >&2; exit 7'), { code: 7, out: 'out\n', err: 'err\ncommand terminated with exit code 7\n' });
      assert.deepEqual(await k('exec', 'web', '--', 'sh', '-c', 'kill -9 $$'), { code: 137, out: '', err: 'command terminated with exit code 137\n' });
      assert.deepEqual(await k('exec', 'web', '--', 'true'), { code: 0, out: '', err: '' });
      assert.deepEqual(await fed('one\ntwo\n', 'exec', '-i', 'web', '--', 'wc', '-l'), { code: 0, out: '2\n', err: '' });
      // Without -i there is nothing to read, and a command that stops reading is no error.
      assert.deepEqual(await k('exec', 'web', '--', 'cat'), { code: 0, out: '', err: '' });
      const early = await fed(Buffer.alloc(3_000_000), 'exec', '-i', 'web', '--', 'head', '-c', '1');
      // kubectl may be writing when the end comes, and says so itself.
      assert.deepEqual({ ...early, err: early.err.replace(/^E\d{4} .*websocket: close sent"\n/, '') }, { code: 0, out: '\0', err: '' });
      assert.equal((await k('exec', 'web', '--', 'sh', '-c', 'echo seen > /dev/stderr')).err, 'seen\n');
    });

    test('exec: what is wrong is said', async () => {
      const unknown = await k('exec', 'web', '--', 'nonesuch');
      assert.equal(unknown.code, 1);
      assert.match(unknown.err, /error executing command in container: failed to exec in container: exec nonesuch: executable file not found in \$PATH/);
      assert.match((await k('exec', 'web', '-c', 'zz', '--', 'ls')).err, /container zz is not valid for pod web/);
      assert.match((await k('exec', 'nobody', '--', 'ls')).err, /pods "nobody" not found/);
      const strangers = await result(c.kubectl(env, ['exec', 'web', '--token=wrong', '--', 'ls']), '');
      assert.equal(strangers.code, 1);
      assert.match(strangers.err, /Unauthorized|must be logged in/);
    });

    test('exec: a hundred megabytes arrive whole, both ways; cp as well', async () => {
      const file = path.join(c.r.dir, 'big');
      const hash = createHash('sha256');
      const out = createWriteStream(file);
      for (let i = 0; i < 100; i++) {
        const piece = randomBytes(1024 * 1024);
        hash.update(piece);
        if (!out.write(piece)) await once(out, 'drain');
      }
      out.end();
      await once(out, 'close');
      const digest = hash.digest('hex');
      const upload = c.kubectl(env, ['exec', '-i', 'web', '--', 'sh', '-c', 'cat > /tmp/big; sha256sum < /tmp/big']);
      if (upload.stdin) createReadStream(file).pipe(upload.stdin);
      assert.equal((await result(upload)).out, `${digest}  -\n`);
      const download = c.kubectl(env, ['exec', 'web', '--', 'cat', '/tmp/big']);
      const back = createHash('sha256');
      for await (const d of download.stdout as AsyncIterable<Buffer>) back.update(d);
      assert.equal(back.digest('hex'), digest);

      const small = path.join(c.r.dir, 'small');
      const bytes = randomBytes(5_000_000);
      await writeFile(small, bytes);
      assert.equal((await k('cp', small, 'web:/tmp/small')).code, 0);
      assert.equal((await k('cp', 'web:/tmp/small', `${small}.back`)).code, 0);
      assert.ok(bytes.equals(await readFile(`${small}.back`)));
    });

    test('exec in a terminal: its size, its name, Ctrl-C, exit code', { skip: noScript }, async () => {
      const sized = await result(terminal('exec', '-it', 'web', '--', 'sh', '-c', 'until [ "$(stty size)" = "33 101" ]; do sleep 0.05; done; tty; echo $TERM; exit 3'), '');
      assert.equal(sized.code, 3, sized.out);
      assert.match(sized.out, /\/dev\/pts\/0\r\nxterm\r\n/);
      const typed = terminal('exec', '-it', 'web', '--', 'sh', '-c', 'trap "echo caught; exit 9" INT; echo waiting; while :; do sleep 0.05; done');
      const ended = result(typed);
      let told = '';
      typed.stdout.on('data', (d: Buffer) => {
        if (!told.includes('waiting') && (told += d.toString()).includes('waiting')) typed.stdin.write('\x03');
      });
      const { code, out } = await ended;
      assert.deepEqual([code, /caught/.test(out)], [9, true], out);
    });

    test('exec: nothing is left when kubectl is killed, whatever it was doing', async () => {
      const busy = (): string[] => c.processes('web').filter((l) => l.includes('12345'));
      for (const [what, args] of [
        ['waiting', ['exec', 'web', '--', 'sleep', '12345']],
        ['fed more than it reads', ['exec', '-i', 'web', '--', 'sleep', '12345']],
        ['a family', ['exec', '-i', 'web', '--', 'sh', '-c', 'trap "" HUP; sleep 12345 | sleep 12345']],
      ] as const) {
        const child = c.kubectl(env, args);
        child.stdin?.on('error', () => undefined);
        if (what.startsWith('fed')) child.stdin?.write(Buffer.alloc(30_000_000));
        await until(`${what}: the command`, () => busy().length > 0);
        child.kill('SIGKILL');
        await until(`${what}: the end of ${busy().join()}`, () => busy().length === 0, 30_000);
      }
    });

    test('attach: sees what comes, feeds stdin once; run -i; several clients', async () => {
      await c.pod('reader', { stdin: true, stdinOnce: true, command: ['sh', '-c', 'while read l; do echo "got $l"; done; echo done; exec sleep 1000'] });
      const watcher = c.kubectl(env, ['attach', 'reader']);
      let seen = '';
      watcher.stdout?.on('data', (d: Buffer) => (seen += d.toString()));
      const feeder = c.kubectl(env, ['attach', '-i', 'reader']);
      let fedSeen = '';
      feeder.stdout?.on('data', (d: Buffer) => (fedSeen += d.toString()));
      // Who attaches sees what comes from then on: fed until both see it.
      await until('both are attached', () => {
        feeder.stdin?.write('one\n');
        return fedSeen.includes('got one') && seen.includes('got one');
      }, 20_000);
      feeder.stdin?.end('two\n');
      await until('the last', () => fedSeen.includes('got two') && fedSeen.includes('done'));
      await until('the watcher', () => seen.includes('done'));
      feeder.kill();
      watcher.kill();
      assert.deepEqual(c.processes('reader').filter((l) => l === 'sleep 1000'), ['sleep 1000']);

      assert.match((await fed('hello\n', 'run', '-i', '--rm', 'once', '--image=busybox', '--restart=Never', '--', 'cat')).out, /^hello\n/);
      const failing = await fed('', 'run', '-i', '--rm', 'failing', '--image=busybox', '--restart=Never', '--', 'sh', '-c', 'exit 7');
      assert.equal(failing.code, 7, failing.err);
    });

    test('run -it: a shell on a terminal of its own, which is gone with --rm', { skip: noScript }, async () => {
      const shell = terminal('run', 'shell', '--rm', '-it', '--image=busybox', '--restart=Never', '--', 'sh');
      const ended = result(shell);
      let text = '';
      shell.stdout.on('data', (d: Buffer) => (text += d.toString()));
      // The prompt may have come before anyone was attached: asked for until there is an answer.
      await until('the shell', () => {
        shell.stdin.write('echo $((40+2)) $(tty)\n');
        return /42 \/dev\/pts\/0/.test(text);
      }, 20_000);
      await until('the size', () => {
        shell.stdin.write('stty size\n');
        return /33 101/.test(text);
      });
      shell.stdin.write('exit 5\n');
      const { code, out } = await ended;
      assert.match(out, /pod "shell" deleted/);
      assert.equal(code, 5, out);
    });

    test('port-forward: several ports and connections, half-closed ones, refused ones', async () => {
      await c.pod('ports', { command: forever });
      const servers = [
        c.listen('ports', 7001, (s) => s.pipe(s)),
        c.listen('ports', 7002, (s) => s.resume().once('end', () => s.end('the end\n'))),
      ];
      const child = c.kubectl(env, ['port-forward', 'pod/ports', ':7001', ':7002', ':7003']);
      let text = '';
      let said = '';
      child.stdout?.on('data', (d: Buffer) => (text += d.toString()));
      child.stderr?.on('data', (d: Buffer) => (said += d.toString()));
      const local = (to: number): Promise<number> => until(`a port for ${to}`, () => Number(new RegExp(`127\\.0\\.0\\.1:(\\d+) -> ${to}`).exec(text)?.[1]) || undefined);
      const [echo, sink, none] = [await local(7001), await local(7002), await local(7003)];
      const ask = async (port: number, send: Buffer): Promise<Buffer> => {
        const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        socket.end(send);
        const got: Buffer[] = [];
        for await (const d of socket as AsyncIterable<Buffer>) got.push(d);
        return Buffer.concat(got);
      };
      const all = await Promise.all(Array.from({ length: 10 }, (_, i) => Buffer.from(`connection ${i} `.repeat(5000))).map(async (b) => b.equals(await ask(echo, b))));
      assert.deepEqual(all, Array.from({ length: 10 }, () => true));
      assert.equal((await ask(sink, Buffer.alloc(100_000))).toString(), 'the end\n');
      const refused = net.connect({ port: none, host: '127.0.0.1' });
      refused.on('error', () => undefined).resume();
      await once(refused, 'close');
      await until('the refusal', () => /error forwarding port 7003 to pod [0-9a-f]{64}, uid : failed to execute portforward in network namespace .*connection refused/.test(said));
      child.kill();
      for (const server of servers) server.close();
    });

    test('debug: an ephemeral container in the network of its pod, with the processes of its target', async () => {
      // They wait for a line: what was written before anyone was attached is in the log only.
      const alone = await fed('go\n', 'debug', 'web', '-i', '--image=busybox', '--', 'sh', '-c', 'read go; readlink /proc/self/ns/net; ps');
      assert.equal(alone.code, 0, alone.err);
      assert.match(alone.out, new RegExp(`net:\\[${c.record('web').sandbox.netnsInode}\\]`));
      assert.doesNotMatch(alone.out, /trap/);
      const target = await fed('go\n', 'debug', 'web', '-i', '--image=busybox', '--target=c', '-c', 'looker', '--', 'sh', '-c', 'read go; ps; exit 4');
      assert.match(target.out, /1 root .*trap/);
      // kubectl is done when the stream ends; the status follows.
      const { status, spec } = await until('the status of the ended container', async () => {
        const p = await c.get('web');
        return p.status?.ephemeralContainerStatuses?.some((x) => x.name === 'looker' && x.state?.terminated) && p;
      });
      const looker = status?.ephemeralContainerStatuses?.find((x) => x.name === 'looker');
      assert.deepEqual([looker?.state?.terminated?.exitCode, looker?.restartCount, status?.phase], [4, 0, 'Running']);
      assert.equal(spec?.ephemeralContainers?.at(-1)?.targetContainerName, 'c');
      assert.match((await k('logs', 'web', '-c', 'looker')).out, /1 root .*trap/);
      assert.match((await k('debug', 'web', '--image=busybox', '--target=zz')).err, /spec\.ephemeralContainers\[\d+\]\.targetContainerName: Not found: "zz"/);
      const list = (containers: object[]): string => JSON.stringify({ spec: { ephemeralContainers: containers } });
      const patch = (body: string): Promise<Ran> => k('patch', 'pod', 'web', '--subresource=ephemeralcontainers', '--type=merge', '-p', body);
      const refused = await c.r.request('PATCH', '/api/v1/namespaces/default/pods/web/ephemeralcontainers', { body: list([]), headers: { 'content-type': 'application/merge-patch+json' } });
      assert.equal(refused.status, 422);
      assert.match(refused.text, /existing ephemeral containers \\"looker\\" may not be removed/);
      assert.notEqual((await patch(list([]))).code, 0);
    });

    test('streams end with the pod, and with the server', async () => {
      await c.pod('short', { command: forever });
      const first = c.kubectl(env, ['exec', 'short', '--', 'sleep', '12345']);
      const ended = result(first, '');
      await until('the command', () => c.processes('short').some((l) => l.includes('12345')));
      assert.equal((await k('delete', 'pod', 'short', '--now')).code, 0);
      assert.equal((await ended).code, 137);
      const second = c.kubectl(env, ['exec', 'web', '--', 'sleep', '54321']);
      const cut = result(second, '');
      await until('the command', () => c.processes('web').some((l) => l.includes('54321')));
      c.r.api.disconnect();
      await cut; // what it makes of a connection without a last word is kubectl's
      await until('the end of the command', () => !c.processes('web').some((l) => l.includes('54321')));
    });
  });
}
