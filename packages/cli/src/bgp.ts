/** What the bgp verbs have in common. */
import { join } from 'node:path';
import { PodwayError } from '@podway/errors';
import type { NetnsSource } from '@podway/kernel';
import { openLab } from './lab.js';
import { readNetwork } from './network.js';

/** A node of a lab, or a router of its underlay: where BIRD takes questions, and the namespace it speaks in. */
export interface SpeakerPlace {
  readonly name: string;
  readonly socket: string;
  readonly netns: NetnsSource;
}

export interface SpeakerPlaces {
  readonly places: readonly SpeakerPlace[];
  /** Routers of racks, by the address that nodes know them by. */
  readonly routers: ReadonlyMap<string, string>;
}

/** One speaker of a running lab, or all. @throws LAB_NOT_RUNNING, NODE_NOT_FOUND, BGP_NOT_USED */
export async function bgpSpeakers(lab: string, name: string | undefined): Promise<SpeakerPlaces> {
  const [{ nodeSocket, birdPaths }, { routerName, speakingRouters }] = await Promise.all([import('@podway/agent'), import('@podway/lab/client')]);
  const { state, layout, client } = await openLab(lab);
  try {
    const { backend, nodes } = await readNetwork(client);
    if (backend !== 'bgp' && nodes.every((n) => n.uses !== 'bgp')) {
      throw new PodwayError('BGP_NOT_USED', `the backend of lab ${lab} is ${backend}, which has no BGP sessions`, { hint: `To change it: podway network set${lab === 'default' ? '' : ` --lab ${lab}`} bgp` });
    }
  } finally {
    client.close();
  }
  const all: SpeakerPlace[] = [
    ...state.nodes.map((n) => ({ name: n.name, socket: nodeSocket(n.holderPid), netns: { pid: n.holderPid } })),
    ...speakingRouters(state.config).map((r) => ({ name: r, socket: birdPaths(join(layout.routers, r)).socket, netns: { name: layout.netns(r) } })),
  ];
  const places = all.filter((p) => name === undefined || p.name === name);
  if (places.length === 0) {
    throw new PodwayError('NODE_NOT_FOUND', `lab ${lab} has no node or router ${name ?? ''}`.trim(), { object: `node ${name ?? ''}`, hint: `There are: ${all.map((p) => p.name).join(', ')}` });
  }
  return { places, routers: new Map(state.config.underlay.racks.map((r) => [r.gateway, routerName(r.name)])) };
}

/** `2026-11-21 01:41:59.123` (UTC) → `01:41:59`, with the day when it was another one. */
export function sinceText(since: string, now = new Date()): string {
  const m = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)/.exec(since);
  if (!m) return since;
  return m[1] === now.toISOString().slice(0, 10) ? m[2]! : `${m[1]} ${m[2]}`;
}
