/** Two network namespaces and one veth pair: the smallest pod network. */
import { allLost, noLoss, shows, succeeds, type Lesson, type Step } from './lesson.js';

const configure = (ns: string, dev: string, address: string): Step[] => [
  { say: { en: `Raise its end and give it ${address}.`, zh: `启用这一端并配置地址 ${address}。` }, run: `ip netns exec ${ns} ip link set ${dev} up` },
  { say: { en: 'The address comes with a mask: whoever is inside it is asked for by ARP, without a router.', zh: '地址带掩码：同网段的对方直接用 ARP 询问，不经过路由器。' }, run: `ip netns exec ${ns} ip addr add ${address} dev ${dev}` },
];

export const oneCable: Lesson = {
  id: 'one-cable',
  title: { en: 'One cable: two namespaces and a veth pair', zh: '一根网线：两个 netns 和一对 veth' },
  about: { en: 'A pod is a network namespace. Two of them and one cable are the smallest pod network.', zh: 'Pod 就是一个网络命名空间。两个命名空间加一根“网线”，就是最小的 Pod 网络。' },
  place: 'sandbox',
  steps: [
    { say: { en: 'Two namespaces: two machines without a single cable.', zh: '两个命名空间：两台没有任何网线的“机器”。' }, run: 'ip netns add ns1' },
    { say: { en: 'The second.', zh: '第二个。' }, run: 'ip netns add ns2' },
    {
      say: { en: 'What is in a new namespace? Only lo, and lo is down.', zh: '新命名空间里有什么？只有 lo，而且是 DOWN 的。' },
      run: 'ip netns exec ns1 ip addr', expect: shows(/^1: lo: <LOOPBACK> .*state DOWN/m, { en: 'only lo, and its state is DOWN', zh: '只有 lo，状态是 DOWN' }),
    },
    { say: { en: 'So not even 127.0.0.1 answers.', zh: '所以连 127.0.0.1 都不通。' }, run: 'ip netns exec ns1 ping -c 1 -W 1 127.0.0.1', expect: allLost },
    { say: { en: 'Raise lo.', zh: '启用 lo。' }, run: 'ip netns exec ns1 ip link set lo up' },
    { say: { en: 'Now it does.', zh: '现在通了。' }, run: 'ip netns exec ns1 ping -c 1 127.0.0.1', expect: noLoss },
    {
      say: { en: 'The cable: a veth pair. What goes in at one end comes out at the other.', zh: '网线：一对 veth。从一头进去的包，从另一头出来。' },
      run: 'ip link add veth-a type veth peer name veth-b', expect: succeeds({ en: 'no output: it is made', zh: '没有输出：已创建' }),
    },
    { say: { en: 'Both ends are still here.', zh: '此时两头都还在这里。' }, run: 'ip link show veth-a', expect: shows(/veth-a@veth-b:/, { en: 'veth-a@veth-b: the name behind @ is the other end', zh: 'veth-a@veth-b：@ 后面是另一头' }) },
    { say: { en: 'One end into ns1,', zh: '一头放进 ns1，' }, run: 'ip link set veth-a netns ns1' },
    { say: { en: 'the other into ns2.', zh: '另一头放进 ns2。' }, run: 'ip link set veth-b netns ns2' },
    ...configure('ns1', 'veth-a', '10.1.1.1/24'),
    ...configure('ns2', 'veth-b', '10.1.1.2/24'),
    { say: { en: 'Through the cable.', zh: '穿过这根网线。' }, run: 'ip netns exec ns1 ping -c 2 -i 0.2 10.1.1.2', expect: noLoss },
    {
      say: { en: 'Nobody added this route: the address with its mask did.', zh: '这条路由不是谁加的，是带掩码的地址自动带来的。' },
      run: 'ip netns exec ns1 ip route', expect: shows(/^10\.1\.1\.0\/24 dev veth-a proto kernel scope link src 10\.1\.1\.1/m, { en: '10.1.1.0/24 dev veth-a proto kernel scope link', zh: '10.1.1.0/24 dev veth-a proto kernel scope link' }),
    },
    { say: { en: 'Clean up: a namespace takes its end of the cable with it, and the cable its other end.', zh: '清理：命名空间消失时带走网线的一头，另一头随之消失。' }, run: 'ip netns del ns1' },
    {
      say: { en: 'The cable is gone from ns2 as well.', zh: 'ns2 里的那一头也没了。' },
      run: 'ip netns exec ns2 ip -br link', expect: { withinMs: 5000, see: { en: 'only lo', zh: '只剩 lo' }, holds: (r) => r.code === 0 && !r.output.includes('veth') },
    },
    { say: { en: 'And the other namespace.', zh: '再删另一个。' }, run: 'ip netns del ns2' },
  ],
};
