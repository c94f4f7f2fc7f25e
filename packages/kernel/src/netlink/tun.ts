/**
 * TUN devices that stay when the program behind them ends: its addresses and routes stay too, so packets wait or are
 * dropped there and take no other way. rtnetlink cannot make them. Equivalent: `ip tuntap add dev NAME mode tun vnet_hdr`.
 * Source: linux/if_tun.h; Documentation/networking/tuntap.rst.
 */
import { PodwayError } from '@podway/errors';
import { c, check } from '../libc.js';
import type { Netns } from '../netns.js';
import { checkIfname } from './link.js';

const O_RDWR_CLOEXEC = 2 | 0o2000000;
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
/** Refuse one that is there. */
const IFF_TUN_EXCL = 0x8000;
const IFREQ = 40;
const NAME_BYTES = 16;
const TUN_FILE = '/dev/net/tun';

/** Does this machine let programs make TUN devices? */
export function hasTun(): boolean {
  const fd = c.open(TUN_FILE, O_RDWR_CLOEXEC, 0);
  if (fd >= 0) c.close(fd);
  return fd >= 0;
}

/** @throws TUN_MISSING, SYSCALL_FAILED (EBUSY: the name is taken) */
export function createTun(ns: Netns, name: string): void {
  const ifreq = Buffer.alloc(IFREQ);
  ifreq.write(checkIfname(name), 0, NAME_BYTES - 1, 'latin1');
  ifreq.writeUInt16LE(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL, NAME_BYTES);
  const object = `link ${name} in ${ns.label}`;
  ns.run(() => {
    const fd = c.open(TUN_FILE, O_RDWR_CLOEXEC, 0);
    if (fd < 0) {
      throw new PodwayError('TUN_MISSING', `${TUN_FILE} cannot be opened`, { object, hint: 'Load the module with: modprobe tun - and let this container have /dev/net/tun.' });
    }
    try {
      check(c.ioctl(fd, TUNSETIFF, ifreq), `make TUN device ${name}`, object);
      check(c.ioctlValue(fd, TUNSETPERSIST, 1), `keep TUN device ${name}`, object);
    } finally {
      c.close(fd);
    }
  });
}
