/** A bridge instead of a cable for every pair: what a node does for its pods. */
import { noLoss, shows, type Language, type Lesson, type Step } from './lesson.js';

const PODS = [['nsA', '10.1.1.10'], ['nsB', '10.1.1.20'], ['nsC', '10.1.1.30']] as const;

/** Cables when every pair has its own, and ports when all are at one switch. Pure. */
export const cables = (pods: number): { readonly pairs: number; readonly ports: number } => ({ pairs: (pods * (pods - 1)) / 2, ports: pods });

function countTable(language: Language): string {
  const head = language === 'zh' ? ['Pod 数', '两两连线（对）', '接到一个交换机（端口）'] : ['pods', 'a cable for each pair', 'ports at one switch'];
  const rows = [2, 3, 10, 110].map((n) => [n, cables(n).pairs, cables(n).ports]);
  return [head, ...rows].map((r) => r.join('\t')).join('\n');
}

const plug = (ns: string, address: string, first: boolean): Step[] => [
  { say: { en: `${ns}: a namespace with lo up.`, zh: `${ns}：一个启用了 lo 的命名空间。` }, run: `ip netns add ${ns}` },
  { say: { en: 'lo up.', zh: '启用 lo。' }, run: `ip netns exec ${ns} ip link set lo up` },
  {
    say: { en: first ? 'A cable. Its ends get different names here; in a pod the inner one is called eth0.' : 'Its cable.', zh: first ? '一根网线。这里两头名字不同；在真实 Pod 里，里面那头叫 eth0。' : '它的网线。' },
    run: `ip link add veth-${ns}-host type veth peer name veth-${ns}-ns`,
  },
  { say: { en: 'One end inside,', zh: '一头放进去，' }, run: `ip link set veth-${ns}-ns netns ${ns}` },
  { say: { en: 'up,', zh: '启用，' }, run: `ip netns exec ${ns} ip link set veth-${ns}-ns up` },
  { say: { en: 'with its address,', zh: '配地址，' }, run: `ip netns exec ${ns} ip addr add ${address}/24 dev veth-${ns}-ns` },
  { say: { en: 'and the bridge as its way out.', zh: '把网桥作为默认网关。' }, run: `ip netns exec ${ns} ip route add default via 10.1.1.1` },
  { say: { en: 'The other end up,', zh: '另一头启用，' }, run: `ip link set veth-${ns}-host up` },
  { say: { en: 'and into the switch.', zh: '并接到交换机上。' }, run: `ip link set veth-${ns}-host master br0` },
];

export const virtualSwitch: Lesson = {
  id: 'virtual-switch',
  title: { en: 'The virtual switch: a bridge and three namespaces', zh: '虚拟交换机：一个 bridge 和三个 netns' },
  about: { en: 'Why nodes have a bridge, and the network of a node with three pods, by hand.', zh: '为什么节点上有网桥；徒手搭出一个有三个 Pod 的单节点网络。' },
  place: 'sandbox',
  steps: [
    { say: { en: 'A cable for every pair of pods grows with the square of their number; a switch has one port for each.', zh: '两两拉线的数量按平方增长；接到交换机，每个 Pod 只占一个端口。' }, show: countTable },
    { say: { en: 'So: a switch.', zh: '所以需要交换机。' }, run: 'ip link add br0 type bridge' },
    { say: { en: 'Up,', zh: '启用，' }, run: 'ip link set br0 up' },
    { say: { en: 'and with an address of its own: that makes it the gateway.', zh: '配上自己的地址：它就成了网关。' }, run: 'ip addr add 10.1.1.1/24 dev br0' },
    ...PODS.flatMap(([ns, address], i) => plug(ns, address, i === 0)),
    { say: { en: 'A asks B,', zh: 'A 到 B，' }, run: 'ip netns exec nsA ping -c 1 10.1.1.20', expect: noLoss },
    { say: { en: 'B asks C,', zh: 'B 到 C，' }, run: 'ip netns exec nsB ping -c 1 10.1.1.30', expect: noLoss },
    { say: { en: 'C asks A,', zh: 'C 到 A，' }, run: 'ip netns exec nsC ping -c 1 10.1.1.10', expect: noLoss },
    { say: { en: 'and A the gateway.', zh: 'A 到网关。' }, run: 'ip netns exec nsA ping -c 1 10.1.1.1', expect: noLoss },
    {
      say: { en: 'The ports of the switch.', zh: '交换机的端口。' },
      run: 'ip link show master br0', expect: { see: { en: 'three ports: veth-nsA-host, veth-nsB-host, veth-nsC-host', zh: '三个端口：veth-nsA-host、veth-nsB-host、veth-nsC-host' }, holds: (r) => PODS.every(([ns]) => r.output.includes(`veth-${ns}-host`)) },
    },
    {
      say: { en: 'What the switch has learned: behind which port which MAC address is. A packet between two pods is not routed at all.', zh: '交换机学到的表：哪个 MAC 在哪个端口后面。同节点 Pod 之间的包根本不经过路由。' },
      run: 'bridge fdb show br br0', expect: shows(/dev veth-nsA-host master br0/, { en: 'a MAC address behind each port', zh: '每个端口后面的 MAC 地址' }),
    },
  ],
};
