/**
 * Generic netlink: families found by name, requests and dumps with the same attribute tables.
 * Equivalent: `genl ctrl list`. Source: linux/genetlink.h, Documentation/userspace-api/netlink/intro.rst.
 */
import { isPodwayError } from '@podway/errors';
import type { Netns } from '../netns.js';
import { attr, nested, readAttributes, str, u16, u32, writeAttributes, type Attributes, type AttributeTable, type Writer } from '../netlink/codec.js';
import { kernelLacks } from '../netlink/kinds.js';
import { positions } from '../netlink/struct.js';
import { NetlinkSocket, type Answer, type Request } from '../netlink/socket.js';

export const NETLINK_GENERIC = 16;
const GENL_ID_CTRL = 16;
const CTRL_VERSION = 2;
const CTRL_CMD_NEWFAMILY = 1;
const CTRL_CMD_GETFAMILY = 3;
const GENL_HEADER = 4;

const OP = { id: attr(1, 'CTRL_ATTR_OP_ID', u32), flags: attr(2, 'CTRL_ATTR_OP_FLAGS', u32) } as const;
const GROUP = { name: attr(1, 'CTRL_ATTR_MCAST_GRP_NAME', str), id: attr(2, 'CTRL_ATTR_MCAST_GRP_ID', u32) } as const;
export const CTRL = {
  id: attr(1, 'CTRL_ATTR_FAMILY_ID', u16),
  name: attr(2, 'CTRL_ATTR_FAMILY_NAME', str),
  version: attr(3, 'CTRL_ATTR_VERSION', u32),
  headerSize: attr(4, 'CTRL_ATTR_HDRSIZE', u32),
  maxAttribute: attr(5, 'CTRL_ATTR_MAXATTR', u32),
  ops: attr(6, 'CTRL_ATTR_OPS', positions(nested(OP), 1)),
  groups: attr(7, 'CTRL_ATTR_MCAST_GROUPS', positions(nested(GROUP), 1)),
} as const;

export interface GenlFamily {
  readonly id: number;
  readonly name: string;
  readonly version: number;
  /** Multicast groups by name. */
  readonly groups: Readonly<Record<string, number>>;
}

/** A command of a family: what stands behind the netlink header. */
export interface GenlCommand<T extends AttributeTable> {
  readonly command: number;
  readonly table: T;
  readonly values: Attributes<T>;
  readonly doing: string;
  readonly flags?: number;
}

/** struct genlmsghdr: command, version, two bytes reserved. */
function header(w: Writer, command: number, version: number): void {
  const at = w.reserve(GENL_HEADER);
  w.buffer.writeUInt8(command, at);
  w.buffer.writeUInt8(version, at + 1);
}

export const genlRequest = <T extends AttributeTable>(family: Pick<GenlFamily, 'id' | 'version'>, c: GenlCommand<T>): Request => ({
  type: family.id,
  flags: c.flags ?? 0,
  doing: c.doing,
  body(w) {
    header(w, c.command, family.version);
    writeAttributes(w, c.table, c.values);
  },
});

/** The attributes of an answer of that family and command; undefined for anything else. */
export function readGenl<T extends AttributeTable>(a: Answer, family: Pick<GenlFamily, 'id'>, command: number, table: T): Attributes<T> | undefined {
  if (a.type !== family.id || a.end - a.start < GENL_HEADER || a.buffer[a.start] !== command) return undefined;
  return readAttributes(table, a.buffer, a.start + GENL_HEADER, a.end);
}

export function decodeFamily(a: Answer): GenlFamily | undefined {
  const v = readGenl(a, { id: GENL_ID_CTRL }, CTRL_CMD_NEWFAMILY, CTRL);
  if (v?.id === undefined || v.name === undefined) return undefined;
  const groups = (v.groups ?? []).flatMap((g) => (g.name === undefined || g.id === undefined ? [] : [[g.name, g.id] as const]));
  return { id: v.id, name: v.name, version: v.version ?? 1, groups: Object.fromEntries(groups) };
}

export class GenlSocket {
  private readonly families = new Map<string, GenlFamily>();

  private constructor(readonly socket: NetlinkSocket) {}

  static open(ns: Netns): GenlSocket {
    return new GenlSocket(NetlinkSocket.open(ns, NETLINK_GENERIC));
  }

  close(): void {
    this.socket.close();
  }

  /** The family as the kernel numbers it since boot. @throws KERNEL_LACKS when there is none of that name. */
  family(name: string): GenlFamily {
    const known = this.families.get(name);
    if (known) return known;
    try {
      const [answer] = this.socket.request(genlRequest({ id: GENL_ID_CTRL, version: CTRL_VERSION }, {
        command: CTRL_CMD_GETFAMILY, table: CTRL, values: { name }, doing: `look up the netlink family ${name}`,
      }));
      const family = answer && decodeFamily(answer);
      if (!family) throw kernelLacks('genl', name);
      this.families.set(name, family);
      return family;
    } catch (e) {
      throw isPodwayError(e, 'NETLINK_REFUSED') && e.errno === 'ENOENT' ? kernelLacks('genl', name, e) : e;
    }
  }

  /** All families that are loaded now. */
  list(): GenlFamily[] {
    return this.socket.dump(
      genlRequest({ id: GENL_ID_CTRL, version: CTRL_VERSION }, { command: CTRL_CMD_GETFAMILY, table: CTRL, values: {}, doing: 'list netlink families' }),
      decodeFamily,
    );
  }

  request<T extends AttributeTable>(family: string, c: GenlCommand<T>): Answer[] {
    return this.socket.request(genlRequest(this.family(family), c));
  }

  dump<T extends AttributeTable, V>(family: string, c: GenlCommand<T>, decode: (a: Answer) => V | undefined): V[] {
    return this.socket.dump(genlRequest(this.family(family), c), decode);
  }
}
