import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DiskStore, Ipam, setsOfPodCidrs } from '../src/ipam/index.js';

const child = fileURLToPath(new URL('./ipam-crash-child.js', import.meta.url));
const ROUNDS = 12;

/** Let the child work until it has said `lines` lines, kill it in whatever it is doing, return all it said. */
function killAfter(dir: string, run: number, lines: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const p = spawn(process.execPath, [child, dir, String(run)], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    p.stdout.on('data', (d: Buffer) => {
      text += d.toString();
      if (text.split('\n').length > lines) p.kill('SIGKILL');
    });
    p.once('error', reject);
    p.once('close', (_code, signal) => (signal === 'SIGKILL' ? resolve(text.split('\n').filter(Boolean)) : reject(new Error('the child ended by itself'))));
  });
}

test(`killed ${ROUNDS} times while writing: nothing that was durable is lost, nothing removed comes back, no address is two's`, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'podway-crash-test-'));
  try {
    const alive = new Map<string, { address: string; ready: boolean }>();
    const removed = new Set<string>();
    for (let run = 0; run < ROUNDS; run++) {
      const unsure = new Set<string>(); // being removed when it was killed
      for (const line of await killAfter(dir, run, 1 + ((run * 37) % 160))) {
        const [what, id = '', address = ''] = line.split(' ');
        if (what === '+') alive.set(id, { address, ready: false });
        else if (what === '=') alive.set(id, { address: alive.get(id)?.address ?? '', ready: true });
        else if (what === '~') unsure.add(id);
        else if (what === '-') unsure.delete(id), alive.delete(id), removed.add(id);
      }
      const ipam = await Ipam.open({ store: new DiskStore(dir), sets: setsOfPodCidrs(['10.244.0.0/26']) });
      assert.deepEqual(ipam.problems, [], 'no damaged file');
      const records = new Map(ipam.list().map((r) => [r.containerId, r]));
      for (const [id, { address, ready }] of alive) {
        const r = records.get(id);
        if (!r && unsure.has(id)) {
          alive.delete(id);
          continue;
        }
        assert.equal(r?.ips[0]?.address, address, `${id} was durable`);
        if (ready) assert.equal(r?.phase, 'ready');
      }
      for (const id of records.keys()) assert.ok(!removed.has(id), `${id} was removed for good`);
      // what is on disk but was not said yet was being added when the kill came: it belongs to GC
      for (const [id, r] of records) if (!alive.has(id)) alive.set(id, { address: r.ips[0]?.address ?? '', ready: r.phase === 'ready' });
      const all = [...records.values()].flatMap((r) => r.ips.map((i) => i.address));
      assert.equal(new Set(all).size, all.length, 'no address twice');
      await ipam.close();
      assert.deepEqual((await readdir(dir)).filter((f) => f.startsWith('.tmp')), [], 'no half files stay');
    }
    assert.ok(alive.size > 0);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
});
