/**
 * Namespace ids: the small numbers by which one namespace calls another, as in `link-netnsid 3`.
 * Equivalent: `ip netns list-id`. Source: linux/net_namespace.h.
 */
import { attr, i32, readAttributes, u32, writeAttributes } from './codec.js';
import type { NetlinkSocket } from './socket.js';
import type { Netns } from '../netns.js';

const RTM_NEWNSID = 88;
const RTM_GETNSID = 90;

const NSID = { nsid: attr(1, 'NETNSA_NSID', i32), fd: attr(3, 'NETNSA_FD', u32) } as const;
/** struct rtgenmsg is one byte; attributes start at the next multiple of four. */
const HEADER = 4;

/** The id that the socket's namespace gives to `other`; undefined when it has none for it. */
export function netnsIdOf(socket: NetlinkSocket, other: Netns): number | undefined {
  const [answer] = socket.request({
    type: RTM_GETNSID, flags: 0, doing: `look up the id of ${other.label}`,
    body(w) {
      w.reserve(HEADER);
      writeAttributes(w, NSID, { fd: other.fd });
    },
  });
  if (!answer || answer.type !== RTM_NEWNSID) return undefined;
  const id = readAttributes(NSID, answer.buffer, answer.start + HEADER, answer.end).nsid;
  return id === undefined || id < 0 ? undefined : id;
}
