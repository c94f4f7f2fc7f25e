/* What podway-init.c (options, nodes, sandboxes, exec) and container.c (containers, logs) share. */
#ifndef PODWAY_INIT_H
#define PODWAY_INIT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_LIST 64

/* One `--bind SRC DST ro|rw`. fd is a detached clone of SRC (open_tree), so that the mount can be
 * placed in another mount namespace, where SRC may be hidden or have another meaning. */
struct bind {
  const char *src, *dst;
  bool ro, dir;
  int fd;
};

/* `--overlay TARGET DIR`: changes below TARGET go to DIR/upper. */
struct overlay {
  const char *target, *dir;
};

struct options {
  const char *hostname, *title, *netfile, *netns, *shm, *root, *cwd, *log, *exitfile, *groups;
  pid_t node, target, sandbox;
  struct bind binds[MAX_LIST], node_binds[MAX_LIST];
  struct overlay overlays[MAX_LIST];
  int nbinds, nnode_binds, noverlays;
  const char *tmpfs[MAX_LIST], *sysctls[MAX_LIST];
  int ntmpfs, nsysctls;
  long log_max, log_files;
  long uid, gid; /* -1: as they are */
  uint64_t caps;
  bool set_caps, privileged, host_net, share_pid, ro_root, no_new_privs;
  int ns; /* CLONE_NEW* to join (exec) */
  char **command;
};

/* A failed step tells "what object: strerror" and ends the process. In a child that has no
 * stderr of its own yet, the line goes through report_fd to the process that reports it. */
extern int report_fd;
void fail(int code, const char *what, const char *object) __attribute__((noreturn));
void fail_text(int code, const char *what, const char *object, const char *why) __attribute__((noreturn));

int open_pid(pid_t pid);
void join(int pidfd, int flags, pid_t pid);
void clone_sources(struct bind *list, int n);
void place(struct bind *list, int n);
void make_parents(const char *path);
void mount_or_fail(const char *src, const char *dst, const char *type, unsigned long flags, const char *data);
void write_sysctls(const struct options *o);
void become_user(const struct options *o);
void exec_command(const struct options *o) __attribute__((noreturn));

/* Reports: each child sends one packet, the kernel adds the sender's pid as the receiver sees it. */
void report_pair(int pair[2]);
void report_ready(void);
pid_t report_wait(int fd, int *status);
pid_t fork_beside(int extra_flags);

int run_container(struct options *o);
#endif
