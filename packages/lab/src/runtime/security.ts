/**
 * securityContext -> user, groups and capability bits.
 * Source: capabilities(7), linux/capability.h; the default set is that of Docker and containerd.
 */
import { PodwayError } from '@podway/errors';
import type { Pod } from '@podway/kube';
import type { Container } from './env.js';
import type { Identity } from './init.js';

/** In the order of linux/capability.h: the index is the bit. */
const names = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT',
  'SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE',
  'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ',
  'PERFMON', 'BPF', 'CHECKPOINT_RESTORE',
];
const bit = (name: string): bigint => {
  const i = names.indexOf(name.toUpperCase().replace(/^CAP_/, ''));
  if (i < 0) throw new PodwayError('CAPABILITY_UNKNOWN', `unknown capability ${name}`, { hint: 'names are those of capabilities(7) without CAP_' });
  return 1n << BigInt(i);
};
const all = (1n << BigInt(names.length)) - 1n;

export const defaultCapabilities = [
  'CHOWN', 'DAC_OVERRIDE', 'FSETID', 'FOWNER', 'MKNOD', 'NET_RAW', 'SETGID', 'SETUID', 'SETFCAP', 'SETPCAP', 'NET_BIND_SERVICE',
  'SYS_CHROOT', 'KILL', 'AUDIT_WRITE',
].reduce((mask, n) => mask | bit(n), 0n);

/** Errors: PodwayError CAPABILITY_UNKNOWN, RUN_AS_NON_ROOT. */
export function identityOf(pod: Pod, container: Container): Identity & { readonly privileged: boolean; readonly readOnlyRoot: boolean } {
  const own = container.securityContext ?? {};
  const shared = pod.spec?.securityContext ?? {};
  const privileged = own.privileged === true;
  let caps = privileged ? all : defaultCapabilities;
  if (!privileged) {
    for (const c of own.capabilities?.drop ?? []) caps = c.toUpperCase() === 'ALL' ? 0n : caps & ~bit(c);
    for (const c of own.capabilities?.add ?? []) caps = c.toUpperCase() === 'ALL' ? all : caps | bit(c);
  }
  const uid = own.runAsUser ?? shared.runAsUser;
  if ((own.runAsNonRoot ?? shared.runAsNonRoot) && (uid ?? 0) === 0) {
    throw new PodwayError('RUN_AS_NON_ROOT', "container has runAsNonRoot and image will run as root", { object: `container ${container.name}` });
  }
  const gid = own.runAsGroup ?? shared.runAsGroup ?? (uid === undefined ? undefined : 0);
  const groups = [...(shared.supplementalGroups ?? []), ...(shared.fsGroup === undefined ? [] : [shared.fsGroup])];
  return {
    privileged,
    readOnlyRoot: own.readOnlyRootFilesystem === true,
    caps,
    ...(uid === undefined ? {} : { uid }),
    ...(gid === undefined ? {} : { gid }),
    ...(groups.length ? { groups } : {}),
    ...(own.allowPrivilegeEscalation === false && !privileged ? { noNewPrivileges: true } : {}),
  };
}
