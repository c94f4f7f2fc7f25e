/**
 * Where the page is, as the part of the address behind the #: it is never sent anywhere, can be kept as a link, and the browser's
 * way back works.
 *
 *   #/map   #/map?netns=m1&dev=eth0   #/node/m1?netns=…&dev=…   #/path?from=web-a&to=web-d&proto=icmp&trace=ID
 */
import { useSyncExternalStore } from 'react';

export interface Selection {
  readonly netns: string;
  readonly dev?: string;
}

export interface PathParameters {
  readonly from?: string;
  readonly to?: string;
  readonly proto?: string;
  readonly port?: string;
  readonly size?: string;
  readonly trace?: string;
}

export interface Route {
  readonly view: 'map' | 'node' | 'path';
  readonly node?: string;
  readonly selected?: Selection;
  readonly path: PathParameters;
}

const PATH_KEYS = ['from', 'to', 'proto', 'port', 'size', 'trace'] as const;

export function parseRoute(hash: string): Route {
  const [place = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const [view, node] = place.split('/').map(decodeURIComponent);
  const q = new URLSearchParams(query);
  const netns = q.get('netns');
  const dev = q.get('dev');
  const path = Object.fromEntries(PATH_KEYS.flatMap((k) => (q.get(k) ? [[k, q.get(k)!]] : [])));
  return {
    view: view === 'node' || view === 'path' ? view : 'map', ...(view === 'node' && node ? { node } : {}),
    ...(netns ? { selected: { netns, ...(dev ? { dev } : {}) } } : {}), path,
  };
}

export function hrefOf(r: { readonly view: Route['view']; readonly node?: string | undefined; readonly selected?: Selection | undefined; readonly path?: PathParameters }): string {
  const q = new URLSearchParams();
  if (r.selected) {
    q.set('netns', r.selected.netns);
    if (r.selected.dev) q.set('dev', r.selected.dev);
  }
  if (r.view === 'path') for (const k of PATH_KEYS) if (r.path?.[k]) q.set(k, r.path[k]);
  const query = q.toString();
  return `#/${r.view}${r.view === 'node' && r.node ? `/${encodeURIComponent(r.node)}` : ''}${query ? `?${query}` : ''}`;
}

const subscribe = (changed: () => void): (() => void) => {
  addEventListener('hashchange', changed);
  return () => removeEventListener('hashchange', changed);
};

export const useHash = (): string => useSyncExternalStore(subscribe, () => location.hash);

/** Takes the place of the present address: no step in the browser's way back. */
export function replaceHash(hash: string): void {
  history.replaceState(null, '', hash);
  dispatchEvent(new HashChangeEvent('hashchange'));
}
