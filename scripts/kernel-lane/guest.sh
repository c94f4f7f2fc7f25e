# The guest's side of the kernel lane: process 1 under the lane's kernel, run by busybox. It makes the root
# ready, runs the jobs that the host wrote into the shared folder, and switches the machine off.
#
# In the shared folder: `settings` (shell variables), `jobs` (one index a line), `job-N` (a script each).
# Each job writes N.jsonl (its reporter), N.out (what it printed), and, last, N.end: exit code and milliseconds.

share=/.podway-lane
b=$share/busybox
. $share/settings

mount() { $b mount "$@"; }
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
$b mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
[ -e /dev/fd ] || $b ln -s /proc/self/fd /dev/fd
# The host's namespaces and running labs are under /run: here it starts empty.
mount -t tmpfs -o mode=755 run /run
$b mkdir -p /run/lock /run/netns
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
# What the modules are on the host, as /lib/modules/RELEASE: modprobe and the kernel's own calls find them.
$b mkdir -p "/lib/modules/$($b uname -r)"
mount --bind "$modules" "/lib/modules/$($b uname -r)"
$b hostname podway-lane
$b ip link set lo up

# Should the host die, this machine must not run on.
($b sleep "$limit"; echo "podway-lane: over the time limit of $limit s"; $b poweroff -f) &

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root share b timeout
cd "$directory" || echo "podway-lane: $directory is not there"
PODWAY_KERNEL_LANE=$($b uname -r)
export PODWAY_KERNEL_LANE
echo "$PODWAY_KERNEL_LANE" >$share/ready.new && $b mv $share/ready.new $share/ready

ms() { $b awk '{ print int($1 * 1000) }' /proc/uptime; }
if [ "$measure" ]; then
  start=$(ms)
  "$node" -e '' && first=$(($(ms) - start))
  start=$(ms)
  "$node" -e '' && echo "node_first_ms=$first node_ms=$(($(ms) - start))" >$share/measured
fi

$b xargs -P "$jobs" -n 1 $b sh -c '
  now() { $b awk "{ print int(\$1 * 1000) }" /proc/uptime; }
  start=$(now)
  $b timeout -s KILL "$timeout" $b sh $share/job-$0 >$share/$0.out 2>&1
  echo "$? $(($(now) - start))" >$share/$0.new
  $b mv $share/$0.new $share/$0.end
' <$share/jobs
echo done >$share/status
$b sync
$b poweroff -f
