/**
 * The victim of ipam-crash.test.ts: adds and removes attachments as fast as it can and says on
 * stdout, one line each, what has become durable: `+ id address`, `= id` (ready), `- id`.
 * A line is written (synchronously) only after the promise of that step has resolved.
 */
import { writeSync } from 'node:fs';
import { formatIp } from '@podway/cni';
import { DiskStore, Ipam, setsOfPodCidrs } from '../src/ipam/index.js';

const [dir = '', run = ''] = process.argv.slice(2);
const say = (line: string): void => void writeSync(1, `${line}\n`);
const ipam = await Ipam.open({ store: new DiskStore(dir), sets: setsOfPodCidrs(['10.244.0.0/26']), reuseDelayMs: 0 });
const mine: string[] = ipam.list().map((r) => r.containerId);
for (let n = 0; ; n++) {
  const batch = Array.from({ length: 4 }, (_, i) => `r${run}-${n}-${i}`);
  await Promise.all(
    batch.map(async (containerId) => {
      const key = { containerId, ifname: 'eth0' };
      const { record } = await ipam.reserve({ ...key, network: 'n', netns: '/x', name: (ips) => ({ mac: ips.map(formatIp).join(), hostIfname: 'v' }) });
      say(`+ ${containerId} ${record.ips[0]?.address ?? ''}`);
      await ipam.markReady(key, { ips: record.ips });
      say(`= ${containerId}`);
      mine.push(containerId);
    }),
  );
  while (mine.length > 40) {
    const containerId = mine.shift() ?? '';
    say(`~ ${containerId}`);
    await ipam.release({ containerId, ifname: 'eth0' });
    say(`- ${containerId}`);
  }
}
