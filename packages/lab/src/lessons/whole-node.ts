/** A node by hand: bridge, two pods, the way out with masquerade; and the same commands a second time. */
import { allLost, noLoss, shows, type Lesson, type Step } from './lesson.js';

/** A machine of the outside that answers as 8.8.8.8, and the node's uplink to it. */
const OUTSIDE: readonly Step[] = [
  { say: { en: 'Something to be outside: a namespace that answers as 8.8.8.8, so that nothing leaves this machine.', zh: '先造一个“外网”：一个以 8.8.8.8 应答的命名空间，任何包都不会离开本机。' }, run: 'ip netns add internet' },
  { say: { en: 'The uplink of the node.', zh: '节点的上联网卡。' }, run: 'ip link add eth0 type veth peer name up0 netns internet' },
  { say: { en: 'Up,', zh: '启用，' }, run: 'ip link set eth0 up' },
  { say: { en: 'with the address of the node,', zh: '配节点地址，' }, run: 'ip addr add 192.168.1.10/24 dev eth0' },
  { say: { en: 'and a router.', zh: '和路由器。' }, run: 'ip route add default via 192.168.1.1' },
  { say: { en: 'The other end,', zh: '另一头，' }, run: 'ip -n internet link set up0 up' },
  { say: { en: 'the router itself,', zh: '即路由器本身，' }, run: 'ip -n internet addr add 192.168.1.1/24 dev up0' },
  { say: { en: 'and 8.8.8.8. It knows the way to 192.168.1.10, and none to any pod.', zh: '以及 8.8.8.8。它认识 192.168.1.10，但不认识任何 Pod 网段。' }, run: 'ip -n internet addr add 8.8.8.8/32 dev up0' },
];

const pod = (ns: string, veth: string, address: string): Step[] => [
  { say: { en: `${ns}: its namespace,`, zh: `${ns}：命名空间，` }, run: `ip netns add ${ns}` },
  { say: { en: 'its lo,', zh: 'lo，' }, run: `ip -n ${ns} link set lo up` },
  { say: { en: 'its cable, one end born inside,', zh: '网线，一头直接生在里面，' }, run: `ip link add ${veth}-host type veth peer name ${veth} netns ${ns}` },
  { say: { en: 'the other at the bridge,', zh: '另一头接网桥，' }, run: `ip link set ${veth}-host master br-demo up` },
  { say: { en: 'up,', zh: '启用，' }, run: `ip -n ${ns} link set ${veth} up` },
  { say: { en: 'address,', zh: '地址，' }, run: `ip -n ${ns} addr add ${address}/24 dev ${veth}` },
  { say: { en: 'and gateway.', zh: '网关。' }, run: `ip -n ${ns} route add default via 10.99.0.1` },
];

/** The clean-up finds nothing in the first round: that is no error. The cables first: a deleted namespace gives its end back in the kernel's own time, and the name would still be taken. */
const CLEAN: readonly Step[] = ['ip link del veth-a-host', 'ip link del veth-b-host', 'ip netns del nsA', 'ip netns del nsB', 'ip link del br-demo', 'nft delete table ip demo'].map((run) => ({
  say: { en: 'Away with what an earlier run left, if it left anything.', zh: '清掉上一次留下的东西（如果有）。' }, run, expect: { see: { en: 'done, or there was none', zh: '已删除，或本来就没有' }, holds: (r) => r.code === 0 || /No such file|Cannot find device|does not exist/i.test(r.output) },
}));

const ROUND: readonly Step[] = [
  ...CLEAN,
  { say: { en: 'The bridge,', zh: '网桥，' }, run: 'ip link add br-demo type bridge' },
  { say: { en: 'up,', zh: '启用，' }, run: 'ip link set br-demo up' },
  { say: { en: 'and the gateway of the pods on it.', zh: '配上 Pod 的网关地址。' }, run: 'ip addr add 10.99.0.1/24 dev br-demo' },
  ...pod('nsA', 'veth-a', '10.99.0.10'),
  ...pod('nsB', 'veth-b', '10.99.0.20'),
  { say: { en: 'Pod to pod.', zh: 'Pod 到 Pod。' }, run: 'ip netns exec nsA ping -c 2 -i 0.2 10.99.0.20', expect: noLoss },
  { say: { en: 'And back.', zh: '反过来。' }, run: 'ip netns exec nsB ping -c 2 -i 0.2 10.99.0.10', expect: noLoss },
];

const OUT: readonly Step[] = [
  { say: { en: 'A machine forwards for others only when it is told to.', zh: '机器只有打开转发，才会替别人转发包。' }, run: 'sysctl -w net.ipv4.ip_forward=1', expect: shows(/= 1/, { en: 'net.ipv4.ip_forward = 1', zh: 'net.ipv4.ip_forward = 1' }) },
];

const MASQUERADE: readonly Step[] = [
  { say: { en: 'Masquerade: what leaves the node gets the address of the node. With iptables: -t nat -A POSTROUTING -s 10.99.0.0/24 ! -o br-demo -j MASQUERADE', zh: '伪装：离开节点的包换成节点地址。iptables 写法：-t nat -A POSTROUTING -s 10.99.0.0/24 ! -o br-demo -j MASQUERADE' }, run: 'nft add table ip demo' },
  { say: { en: 'Its chain, where packets are about to leave,', zh: '挂在包即将离开的地方，' }, run: "nft add chain ip demo postrouting '{ type nat hook postrouting priority srcnat; }'" },
  { say: { en: 'and the rule.', zh: '加规则。' }, run: "nft add rule ip demo postrouting ip saddr 10.99.0.0/24 oifname != 'br-demo' counter masquerade" },
  { say: { en: 'Now the answer finds its way.', zh: '现在应答能回来了。' }, run: 'ip netns exec nsA ping -c 2 -i 0.2 8.8.8.8', expect: noLoss },
  {
    say: { en: 'Only what left was translated: between the pods nothing was.', zh: '只有出节点的包被转换：Pod 之间的包没有。' },
    run: 'nft list chain ip demo postrouting', expect: shows(/counter packets 1 /, { en: 'counter packets 1: the first packet of one flow', zh: 'counter packets 1：一条流的第一个包' }),
  },
];

export const wholeNode: Lesson = {
  id: 'whole-node',
  title: { en: 'A whole node by hand, twice', zh: '徒手搭一个完整节点，搭两遍' },
  about: { en: 'Bridge, two pods, the way out of the node; then the same commands again: a good script can be run twice.', zh: '网桥、两个 Pod、出节点的路；然后原样再来一遍：好脚本可以重复运行。' },
  place: 'sandbox',
  steps: [
    ...OUTSIDE, ...ROUND, ...OUT,
    { say: { en: 'Out of the node: the question arrives, the answer does not, since nobody out there knows 10.99.0.0/24.', zh: '出节点：问到了，答不回来，因为外面没人认识 10.99.0.0/24。' }, run: 'ip netns exec nsA ping -c 1 -W 1 8.8.8.8', expect: allLost },
    ...MASQUERADE,
    ...ROUND, ...OUT, ...MASQUERADE,
    { say: { en: 'After two rounds everything is there once.', zh: '两遍之后，一切都只有一份。' }, run: 'ip -br link show type bridge', expect: { see: { en: 'one bridge', zh: '只有一个网桥' }, holds: (r) => r.output.trim().split('\n').length === 1 && r.output.startsWith('br-demo') } },
  ],
};
