/** Options of `network set bgp` as keys of a net-conf.json. Pure. */
import { usageError } from './errors.js';

export interface BgpOptions {
  readonly asn: number | undefined;
  readonly mesh: boolean;
  readonly noMesh: boolean;
  readonly reflectors: readonly string[];
  readonly peer: readonly string[];
  readonly noPeers: boolean;
}

/** What was given wins; what was not stays as it is. @throws USAGE */
export function bgpKeys(backend: string, o: BgpOptions, old: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> {
  const given = [o.asn !== undefined && '--asn', o.mesh && '--mesh', o.noMesh && '--no-mesh', o.reflectors.length && '--reflectors', o.peer.length && '--peer', o.noPeers && '--no-peers'].filter(Boolean);
  if (given.length && backend !== 'bgp') throw usageError(`${given.join(', ')}: only for bgp, and the backend asked for is ${backend}`, `Write: podway network set bgp ${given.join(' … ')} …`);
  if (o.mesh && (o.noMesh || o.reflectors.length)) throw usageError(`--mesh and ${o.noMesh ? '--no-mesh' : '--reflectors'} exclude each other`, 'With reflectors there is no mesh.');
  const before = o.noPeers ? [] : ((old['Peers'] as readonly { Address: string }[] | undefined) ?? []);
  const peers = o.peer.map(peerOf);
  const twice = peers.find((p, i) => peers.findIndex((q) => q['Address'] === p['Address']) !== i);
  if (twice) throw usageError(`--peer ${String(twice['Address'])} is there twice`);
  return {
    ...(o.asn === undefined ? {} : { ASN: o.asn }),
    ...(o.mesh ? { Mesh: true, Reflectors: [] } : {}),
    ...(o.noMesh ? { Mesh: false } : {}),
    ...(o.reflectors.length ? { Reflectors: [...o.reflectors] } : {}),
    ...(o.noPeers || peers.length ? { Peers: [...before.filter((p) => !peers.some((q) => q['Address'] === p.Address)), ...peers] } : {}),
  };
}

const KEYS: Readonly<Record<string, (value: string) => Readonly<Record<string, unknown>>>> = {
  asn: (v) => ({ ASN: number('asn', v) }),
  nodes: (v) => ({ NodeSelector: v }),
  password: (v) => ({ Password: v }),
  import: (v) => ({ Import: ['cluster', 'default', 'all', 'none'].includes(v) ? v : v.split('+') }),
  multihop: (v) => ({ Multihop: number('multihop', v) }),
};

/** `172.18.1.1,asn=65001,nodes=podway.io/rack=r1` */
function peerOf(word: string): Readonly<Record<string, unknown>> {
  const [address = '', ...rest] = word.split(',');
  if (!/^[\da-fA-F.:]+$/.test(address)) throw usageError(`--peer ${word}: "${address}" is no address`, 'Write: --peer 172.18.0.1,asn=65001');
  const keys = rest.map((part) => {
    const at = part.indexOf('=');
    const key = part.slice(0, Math.max(at, 0));
    const read = KEYS[key];
    if (!read) throw usageError(`--peer ${word}: "${part}" is not KEY=VALUE with a known key`, `Keys: ${Object.keys(KEYS).join(', ')}`);
    return read(part.slice(at + 1));
  });
  const peer = Object.assign({ Address: address }, ...keys) as Record<string, unknown>;
  if (peer['ASN'] === undefined) throw usageError(`--peer ${word}: its AS number is missing`, `Write: --peer ${address},asn=65001`);
  return peer;
}

function number(key: string, value: string): number {
  if (!/^\d+$/.test(value)) throw usageError(`--peer: ${key}="${value}" is no number`);
  return Number(value);
}
