/* What the files of podway-init share. */
#ifndef PODWAY_INIT_H
#define PODWAY_INIT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/wait.h>

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
  const char *hostname, *title, *netfile, *netns, *shm, *root, *cwd, *log, *exitfile, *groups, *attach;
  pid_t node, target, sandbox, pid_of;
  struct bind binds[MAX_LIST], node_binds[MAX_LIST];
  struct overlay overlays[MAX_LIST];
  int nbinds, nnode_binds, noverlays;
  const char *tmpfs[MAX_LIST], *sysctls[MAX_LIST];
  int ntmpfs, nsysctls;
  long log_max, log_files;
  long uid, gid; /* -1: as they are */
  uint64_t caps;
  bool set_caps, privileged, host_net, share_pid, ro_root, no_new_privs;
  bool tty, open_stdin, stdin_once, stream;
  int ns; /* CLONE_NEW* to join (exec) */
  char **command;
};

/* A failed step tells "what object: strerror" and ends the process. In a child that has no
 * stderr of its own yet, the line goes through report_fd to the process that reports it. */
extern int report_fd, complaint_fd, self_fd;
void fail(int code, const char *what, const char *object) __attribute__((noreturn));
void fail_text(int code, const char *what, const char *object, const char *why) __attribute__((noreturn));

int open_pid(pid_t pid);
void join(int pidfd, int flags, pid_t pid);
void clone_sources(struct bind *list, int n);
void place(struct bind *list, int n);
void make_dir(const char *path, mode_t mode);
void make_parents(const char *path);
void mount_or_fail(const char *src, const char *dst, const char *type, unsigned long flags, const char *data);
void write_sysctls(const struct options *o);
void become_user(const struct options *o);
void exec_command(const struct options *o) __attribute__((noreturn));

/* Reports: each child sends one packet, the kernel adds the sender's pid as the receiver sees it. */
void report_pair(int pair[2]);
void report_ready(int fd);
pid_t report_wait(int fd, int *status, int *passed);
pid_t fork_beside(int extra_flags);

/* node.c */
int hold(struct options *o);
int pause_sandbox(struct options *o);
int wait_for_ever(const char *name);
int unmount_all(struct options *o);

/* relay.c: bytes from one descriptor to another, at most one buffer of them waiting. */
struct flow {
  int from, to; /* -1: ended; nobody takes them any more */
  bool close_to;
  size_t start, end;
  char data[65536];
};
void flow_open(struct flow *f, int from, int to, bool close_to);
bool flow_full(const struct flow *f);
void flow_wants(const struct flow *f, struct pollfd *in, struct pollfd *out);
bool flow_move(struct flow *f);
void no_wait(int fd);
int block_signals(void);
int exit_code(int status);

/* A terminal of the devpts at /dev/pts; the slave belongs to that user. */
void open_terminal(int *master, int *slave, long uid);
void take_terminal(int slave);
/* 4 bytes: rows and columns, in network order. */
void resize_terminal(int master, const unsigned char *size);

int exec_in(struct options *o);
int attach(struct options *o);

/* container.c, monitor.c */
int run_container(struct options *o);
struct monitored {
  pid_t child;
  int sigfd, out, err; /* err: -1 with a terminal */
  int in;              /* what the container reads; -1: nothing */
  int terminal;        /* its master; -1 without */
  int listener;        /* where attach connects to; -1: nowhere */
};
void monitor_log(const struct options *o); /* first: a log that cannot be written is a failed start */
int monitor(struct options *o, const struct monitored *m);
int listen_for_attach(const char *path);
#endif
