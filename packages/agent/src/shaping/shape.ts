/** Puts a pod's bandwidth into the kernel: two batches of netlink requests, whatever is asked. The undo is `unshape`. */
import { createRequests, deleteQdiscRequest, addQdiscRequest, addRedirectRequest, replaceQdiscRequest, setRequest, type Request, type RtNetlink } from '@podway/kernel';
import { SHAPER_HANDLE } from '@podway/netstate';
import type { AttachmentRecord } from '../ipam/index.js';
import { ifbAlias, ifbName } from './bandwidth.js';

/** @throws NETLINK_REFUSED, KERNEL_LACKS. What was made until then is for `unshape` and the removal of the devices. */
export function shape(netlink: RtNetlink, r: AttachmentRecord): void {
  const { ingress, egress } = r.shaping ?? {};
  if (!ingress && !egress) return;
  const name = ifbName(r);
  if (egress) must(netlink, [...createRequests({ kind: 'ifb', name, alias: ifbAlias(r) }), setRequest(name, { up: true })]);
  const host = netlink.mustLink(r.hostIfname).index;
  const requests: Request[] = [];
  if (ingress) requests.push(replaceQdiscRequest({ index: host, kind: 'tbf', handle: SHAPER_HANDLE, tbf: ingress }));
  if (egress) {
    const ifb = netlink.mustLink(name).index;
    requests.push(
      replaceQdiscRequest({ index: ifb, kind: 'tbf', handle: SHAPER_HANDLE, tbf: egress }),
      addQdiscRequest({ index: host, kind: 'ingress' }),
      addRedirectRequest({ index: host, to: ifb }),
    );
  }
  must(netlink, requests);
}

/**
 * Takes our qdiscs from a host end that another plugin made and keeps. On a host end of ours they go
 * with it. What is not there, or is somebody else's, is left.
 */
export function unshape(netlink: RtNetlink, r: AttachmentRecord): void {
  const host = netlink.link(r.hostIfname);
  if (!host || !r.shaping) return;
  const ifb = netlink.link(ifbName(r))?.index;
  const requests = netlink.qdiscs().filter((q) => q.index === host.index).flatMap((q): Request[] => {
    if (q.parent === 'root' && q.handle === SHAPER_HANDLE) return [deleteQdiscRequest({ index: host.index })];
    const ours = q.kind === 'ingress' && netlink.filters(host.index).some((f) => f.actions.some((a) => a.mirred !== undefined && (a.mirred.to === ifb || a.mirred.to === 0)));
    return ours ? [deleteQdiscRequest({ index: host.index, parent: 'ingress' })] : [];
  });
  const real = netlink.batch(requests).find((x) => x.error.errno !== 'ENOENT' && x.error.errno !== 'EINVAL' && x.error.errno !== 'ENODEV');
  if (real) throw real.error;
}

function must(netlink: RtNetlink, requests: readonly Request[]): void {
  const [first] = netlink.batch(requests);
  if (first) throw first.error;
}
