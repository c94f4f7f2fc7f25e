/** Every hop of a packet: the way it should take, from kernel state alone, beside the way it really took. */
import { closeSync, existsSync, openSync, statSync, unlinkSync } from 'node:fs';
import type { Line, ReadWorld, Report, Tone } from '@podway/trace';
import { PodwayError } from '@podway/errors';
import { choice, defineCommand, duration, flag, integer, required, text } from '../command.js';
import { fileError, usageError } from '../errors.js';
import { labOption, openLab } from '../lab.js';
import { findService, lookUpService } from '../services.js';
import type { Style } from '../output.js';
import { findTarget, labWorld } from '../world.js';

interface Traced {
  readonly report: Report;
  readonly lines: readonly Line[];
  readonly file: { readonly path: string; readonly packets: number } | undefined;
}

const DEFAULT_PORT = 80;

function paint({ text, tone }: Line, { theme }: Style): string {
  const by: Readonly<Record<Tone, (t: string) => string>> = { title: theme.strong, head: theme.strong, good: theme.good, bad: theme.bad, plain: (t) => t, dim: theme.dim };
  return by[tone](text);
}

export const command = defineCommand({
  name: 'trace',
  summary: 'Show every hop of a packet, predicted and captured',
  details: 'SRC and DST are pods or node/NAME; DST may also be an address or a Service. A port goes behind it: web-d:80.\nThe way is first worked out from the state of the kernels alone; then marked packets are sent and found\nagain at every device. Where the two differ, it says where the packet was last seen.',
  arguments: { src: required('a pod, node/NAME, or outside', 'pods'), dst: required('a pod, node/NAME, a Service or an address, with :PORT for TCP and UDP', 'pods') },
  options: {
    ...labOption,
    ipv4: flag('by IPv4 (the default where the target has both)', { short: '-4' }),
    ipv6: flag('by IPv6', { short: '-6' }),
    proto: choice('PROTO', ['icmp', 'tcp', 'udp'], 'what is sent (default: icmp, or tcp when there is a port)', { short: '-p' }),
    size: integer('BYTES', 'IP length of the packet, which is then sent with DF', { min: 28, max: 65535 }),
    static: flag('only predict: no packet is sent'),
    steps: flag('the numbered look-ups as well'),
    pcap: text('FILE', 'save all hops in one pcapng file', { complete: 'files' }),
    count: integer('N', 'probes to send', { default: 3, min: 1, max: 100 }),
    timeout: duration('how long to wait for what does not come', { default: 1000 }),
  },
  examples: [
    ['podway trace web-a web-d', 'a ping across nodes'],
    ['podway trace web-a 10.244.2.5:80 --proto tcp', 'a TCP handshake with an address'],
    ['podway trace web-a svc/web', 'to a Service: the translation, and all endpoints it may lead to'],
    ['podway trace node/m1 web-d --pcap hops.pcapng', 'from a node; all hops into a file for Wireshark'],
    ['podway trace web-a web-d --size 1450', 'the largest packet that fits, with DF set'],
    ['podway trace web-a web-d -6', 'by IPv6, neighbour discovery included'],
    ['podway trace web-a web-d --static --steps', 'every look-up, without a packet'],
  ],
  needsRoot: true,
  view: {
    text: (t: Traced, style) => [
      ...t.lines.map((l) => paint(l, style)),
      ...(t.file === undefined ? [] : ['', `${t.file.packets} packets of all hops saved in ${t.file.path}`]),
    ].join('\n'),
    json: (t) => t.report,
  },
  async run({ args, options, signal, onExit, setExitCode, style }) {
    if (options.ipv4 && options.ipv6) throw usageError('-4 and -6 exclude each other');
    const wanted = options.ipv6 ? 'IPv6' : options.ipv4 ? 'IPv4' : undefined;
    if (options.static && options.pcap !== undefined) throw usageError('--static and --pcap exclude each other', 'Without packets there is nothing to save.');
    const { buildReport, observeFlow, renderReport, savePcapng, simulateRoundTrip } = await import('@podway/trace');
    const read = await labWorld(options.lab);
    onExit(() => read.live.close());
    const source = findTarget(read, args.src, { pod: 'eth0', node: 'any' });
    const service = await serviceAddress(options.lab, args.dst, wanted, read);
    const { address, port } = service ?? destination(args.dst, wanted, (word) => {
      const t = findTarget(read, word, { pod: 'eth0', node: 'any' });
      if (t.kind === 'pod') return t.pod.ips;
      if (t.kind === 'node') return read.world.nodes.find((n) => n.name === t.node)?.addresses ?? [];
      return read.world.namespaces.find((n) => n.key === t.key)?.state.addresses.filter((a) => a.scope === 'global' && a.dev !== 'lo').map((a) => a.address) ?? [];
    });
    const proto = options.proto ?? service?.proto ?? (port === undefined ? 'icmp' : 'tcp');
    if (proto === 'icmp' && port !== undefined) throw usageError('icmp has no ports', `Leave out :${port}, or choose --proto tcp.`);
    const flow = {
      from: source.key, dst: address, proto,
      ...(proto === 'icmp' ? {} : { dstPort: port ?? DEFAULT_PORT }), ...(options.size === undefined ? {} : { length: options.size, dontFragment: true }),
    };
    const file = options.pcap === undefined ? undefined : claim(options.pcap);
    onExit(() => file?.release());
    const observed = options.static ? undefined : await observeFlow(read.world, read.live, flow, { count: options.count, timeoutMs: options.timeout, signal });
    const trip = observed?.prediction ?? simulateRoundTrip(read.world, flow);
    const report = buildReport(read.world, trip, observed?.observation);
    if (report.verdict !== 'delivered' || report.request.asPredicted === false || report.reply?.asPredicted === false) setExitCode(1);
    const saved = file && observed ? { path: file.path, packets: file.write((path) => savePcapng(path, observed)) } : undefined;
    const lines = renderReport(report, { ...(style.width === undefined ? {} : { width: style.width }), ...(options.steps ? { steps: true } : {}) });
    return { report, lines, file: saved };
  },
});

/**
 * Makes sure that a file can be written before packets are sent for it. What it held stays until it is written;
 * `release` removes it again when it was made here and nothing came. @throws FILE_NOT_WRITABLE
 */
function claim(path: string): { readonly path: string; write<T>(act: (path: string) => T): T; release(): void } {
  const trying = <T>(act: () => T): T => {
    try {
      return act();
    } catch (e) {
      throw fileError(path, e);
    }
  };
  const made = !existsSync(path);
  trying(() => closeSync(openSync(path, 'a', 0o600)));
  return { path, write: (act) => trying(() => act(path)), release: () => { if (made && existsSync(path) && statSync(path).size === 0) unlinkSync(path); } };
}

/**
 * A Service's address and port, when the word means one: `svc/web`, or `web` where no pod, node or part of the lab has that name.
 * @throws SERVICE_NO_ADDRESS, SERVICE_NO_PORT
 */
async function serviceAddress(lab: string, word: string, wanted: 'IPv4' | 'IPv6' | undefined, read: ReadWorld): Promise<{ address: string; port: number; proto: 'tcp' | 'udp' } | undefined> {
  const m = /^((?:svc|service|services)\/)?([^:/]+(?:\/[^:/]+)?)(?::([^:/]+))?$/.exec(word);
  if (!m || /^\d+\.\d+\.\d+\.\d+$/.test(m[2]!) || m[2]!.startsWith('node/')) return undefined;
  const [, prefix, name, portWord] = m;
  if (prefix === undefined && isTarget(read, name!)) return undefined;
  const open = await openLab(lab);
  try {
    const found = prefix === undefined ? await lookUpService(open.client, name!) : await findService(open.client, name!);
    if (!found) return undefined;
    const { spec } = found.service;
    const object = `Service ${name!}`;
    const all = (spec?.clusterIPs ?? [spec?.clusterIP ?? '']).filter((a) => a !== '' && a !== 'None');
    const address = all.find((a) => wanted === undefined || a.includes(':') === (wanted === 'IPv6'));
    if (address === undefined) {
      if (all.length) throw new PodwayError('SERVICE_NO_ADDRESS', `Service ${name!} has no ${wanted ?? ''} address`, { object, hint: `It has ${all.join(', ')}.` });
      throw new PodwayError('SERVICE_NO_ADDRESS', `Service ${name!} has no address of its own`, { object, hint: spec?.type === 'ExternalName' ? `It is a name for ${spec.externalName ?? ''}.` : 'It is headless: its name leads to the pods themselves. See: podway service ' + name! });
    }
    const ports = spec?.ports ?? [];
    const port = portWord === undefined ? ports[0] : ports.find((p) => String(p.port) === portWord || p.name === portWord);
    if (port === undefined && portWord !== undefined && /^\d+$/.test(portWord)) return { address, port: Number(portWord), proto: 'tcp' };
    if (port === undefined) throw new PodwayError('SERVICE_NO_PORT', `Service ${name!} has no port ${portWord ?? ''}`, { object, hint: `Ports: ${ports.map((p) => `${p.port}${p.name ? ` (${p.name})` : ''}`).join(', ') || 'none'}` });
    if (port.protocol === 'SCTP') throw new PodwayError('TRACE_UNSUPPORTED', 'SCTP cannot be traced', { object });
    return { address, port: port.port, proto: port.protocol === 'UDP' ? 'udp' : 'tcp' };
  } finally {
    open.client.close();
  }
}

function isTarget(read: ReadWorld, word: string): boolean {
  try {
    findTarget(read, word, { pod: 'eth0', node: 'any' });
    return true;
  } catch {
    return false;
  }
}

/** `web-d`, `web-d:80`, `10.244.2.5`, `10.244.2.5:80`, `fd00::5`, `[fd00::5]:80`. */
function destination(word: string, wanted: 'IPv4' | 'IPv6' | undefined, addressesOf: (name: string) => readonly string[]): { address: string; port: number | undefined } {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(word);
  const plain = /^([^:]+)(?::(\d+))?$/.exec(word);
  const [, name = word, portText] = bracketed ?? plain ?? [];
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65535)) throw usageError(`${port} is not a port`, 'Ports go from 1 to 65535.');
  const is = (a: string): boolean => wanted === undefined || a.includes(':') === (wanted === 'IPv6');
  if (/^\d+\.\d+\.\d+\.\d+$/.test(name) || name.includes(':')) {
    if (!is(name)) throw usageError(`${name} is no ${wanted} address`);
    return { address: name.toLowerCase(), port };
  }
  const all = addressesOf(name);
  const address = all.find(is);
  if (address === undefined) {
    throw new PodwayError('TARGET_NO_ADDRESS', `${name} has no ${wanted === undefined ? '' : `${wanted} `}address`, {
      object: name, ...(all.length ? { hint: `It has ${all.join(', ')}.` } : {}),
    });
  }
  return { address, port };
}
