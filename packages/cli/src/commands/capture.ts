/** Capture in pods and on nodes by name, several places at once, in one order of time. */
import { PodwayError } from '@podway/errors';
import { defineCommand, duration, flag, integer, text, variadic } from '../command.js';
import { fileError, usageError } from '../errors.js';
import { labOption } from '../lab.js';
import { findTarget, labWorld } from '../world.js';

export const command = defineCommand({
  name: 'capture',
  summary: 'Capture packets in pods and on nodes, in several places at once',
  details: 'PLACE is a pod (its eth0) or node/NAME (all its devices), with :DEVICE behind it if one is meant.\nThe filter is in tcpdump\'s language. Nothing is needed inside the pod.',
  arguments: { places: variadic('where', 'pods') },
  options: {
    ...labOption,
    filter: text('EXPRESSION', 'which packets, as for tcpdump', { short: '-f' }),
    count: integer('N', 'end after so many packets', { short: '-c', min: 1 }),
    time: duration('end after this time'),
    write: text('FILE', 'save as pcapng, one interface a place', { short: '-w', complete: 'files' }),
    verbose: flag('every header of every packet', { short: '-v' }),
  },
  examples: [
    ['podway capture web-a -c 30', 'thirty packets of a pod'],
    ['podway capture node/m1:eth0 node/m2:eth0 -f "udp port 8472"', 'the overlay at both ends'],
    ['podway capture web-a node/m1:cni0 node/m1:flannel.1 -f icmp -w ping.pcapng', 'into one file for Wireshark'],
  ],
  needsRoot: true,
  view: {
    text: (r: { readonly packets: number; readonly lost: number; readonly file: string | undefined }) =>
      `${r.packets} packets captured, ${r.lost} lost${r.file === undefined ? '' : `, saved in ${r.file}`}`,
  },
  async run({ args, options, signal, write, onExit, format }) {
    if (args.places.length === 0) throw usageError('no place was given', 'podway capture web-a -c 10');
    const [{ CaptureSet }, { decode, summary, describeHeaders, createPcapngFile }] = await Promise.all([import('@podway/kernel'), import('@podway/packet')]);
    const read = await labWorld(options.lab);
    onExit(() => read.live.close());
    const set = new CaptureSet<number>();
    const places = args.places.map((word) => findTarget(read, word, { pod: 'eth0', node: 'any' }));
    const filter = options.filter === undefined ? {} : { filter: options.filter };
    const captures = places.map((p, i) => set.add(i, read.live.netns(p.key), { device: p.dev, immediate: true, ...filter }));
    // Only now, when every place and the filter were found good: an older file of this name is emptied.
    const file = toFile(options.write, (path) => createPcapngFile(path, { comment: 'podway capture' }));
    const interfaces = places.map((p, i) => file?.writer.addInterface({ name: `${p.key}/${p.dev}`, description: p.kind, linkType: captures[i]!.linkType, ...filter }));
    const enough = new AbortController();
    const timer = options.time === undefined ? undefined : setTimeout(() => enough.abort(), options.time);
    signal.addEventListener('abort', () => enough.abort(), { once: true });
    const width = Math.max(...places.map((p) => `${p.key} ${p.dev}`.length));
    let first: bigint | undefined;
    let packets = 0;
    for await (const p of set.stream(enough.signal)) {
      first ??= p.tsNs;
      packets++;
      const place = places[p.tag]!;
      if (format === undefined) {
        const decoded = decode(p.bytes, p.linkType, { originalLength: p.length });
        write(`${(Number(p.tsNs - first) / 1e6).toFixed(3).padStart(10)} ms  ${`${place.key} ${p.device}`.padEnd(width)}  ${summary(decoded)}\n`);
        if (options.verbose) {
          const sizes = describeHeaders(decoded);
          for (const [i, layer] of decoded.layers.entries()) write(`${' '.repeat(15)}${String(sizes[i]?.bytes ?? '').padStart(5)} B  ${layer.type}: ${fieldsOf(layer)}\n`);
        }
      }
      const id = interfaces[p.tag];
      if (file && id !== undefined) toFile(options.write, () => file.writer.packet({ interfaceId: id, timeNs: p.tsNs, bytes: p.bytes, originalLength: p.length }));
      if (packets === options.count) enough.abort();
      if (options.count !== undefined && packets >= options.count) break;
    }
    clearTimeout(timer);
    const stats = set.stats();
    toFile(options.write, () => file?.close());
    const ended = stats.find((s) => s.problem !== undefined);
    if (ended) throw new PodwayError('CAPTURE_ENDED', `the capture on ${ended.device} ended early`, { said: ended.problem ?? '' });
    return { packets, lost: stats.reduce((n, s) => n + s.stats.dropped, 0), file: options.write, places: stats.map((s) => ({ place: args.places[s.tag], ...s.stats })) };
  },
});

/** Does something with the file that was asked for, if one was. @throws FILE_NOT_WRITABLE */
function toFile<T>(path: string | undefined, act: (path: string) => T): T | undefined {
  if (path === undefined) return undefined;
  try {
    return act(path);
  } catch (e) {
    throw fileError(path, e);
  }
}

/** The fields of a header, one after the other; what it consists of inside (options, messages) as JSON. */
function fieldsOf(layer: object): string {
  return Object.entries(layer)
    .filter(([k, v]) => !['type', 'offset', 'headerLength', 'problems'].includes(k) && v !== undefined)
    .map(([k, v]) => `${k} ${typeof v === 'object' ? JSON.stringify(v) : String(v)}`)
    .join(', ');
}
