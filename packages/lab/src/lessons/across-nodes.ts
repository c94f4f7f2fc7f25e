/** A packet from a pod of one node to a pod of another, on a running lab. */
import { noLoss, shows, succeeds, type Lesson } from './lesson.js';

const need = (value: string | undefined, name: string): string => {
  if (value === undefined) throw new Error(`the lesson has not seen ${name}`);
  return value;
};
const ADDRESS = (name: string): RegExp => new RegExp(`is ready at (?<${name}>\\S+) on`);

export const acrossNodes: Lesson = {
  id: 'across-nodes',
  title: { en: 'Across nodes: one packet, every hop', zh: '跨节点：一个包，每一跳' },
  about: { en: 'Two pods on two nodes of a running lab: the route, the tunnel, and one packet found at every device.', zh: '运行中的实验集群里，两个节点上的两个 Pod：路由、隧道，以及在每个设备上抓到的同一个包。' },
  place: { workers: 2 },
  steps: [
    { say: { en: 'A pod on the first node.', zh: '第一个节点上的 Pod。' }, run: (s) => `podway run lesson-a --image busybox --node ${need(s['node1'], 'a node')} -q -- sleep 3600`, expect: shows(/is ready at/, { en: 'its address', zh: '它的地址' }, ADDRESS('a')) },
    { say: { en: 'A pod on the second.', zh: '第二个节点上的 Pod。' }, run: (s) => `podway run lesson-b --image busybox --node ${need(s['node2'], 'a node')} -q -- sleep 3600`, expect: shows(/is ready at/, { en: 'an address of another range: every node has its own', zh: '另一个网段的地址：每个节点一个网段' }, ADDRESS('b')) },
    { say: { en: 'They reach each other.', zh: '它们互通。' }, run: (s) => `podway exec lesson-a -- ping -c 2 ${need(s['b'], 'an address')}`, expect: noLoss },
    {
      say: { en: 'By which route does the first node send it?', zh: '第一个节点走哪条路由？' },
      run: (s) => `podway node exec ${need(s['node1'], 'a node')} -- ip route get ${need(s['b'], 'an address')}`,
      expect: shows(/ dev \S+/, { en: 'dev: the tunnel device, or eth0 where there is none', zh: 'dev：隧道设备；没有隧道时是 eth0' }, / dev (?<dev>\S+)/),
    },
    {
      say: { en: 'What is that device?', zh: '这是什么设备？' },
      run: (s) => `podway node exec ${need(s['node1'], 'a node')} -- ip -d link show ${need(s['dev'], 'a device')}`,
      expect: succeeds({ en: 'vxlan id, dstport and local tell where the outer header comes from; a veth is a plain cable', zh: 'vxlan id、dstport、local 决定外层头；若是 veth 则只是普通网线' }),
    },
    {
      say: { en: 'Now the whole way: worked out from the state of the kernels, then one packet found again at every device.', zh: '整条路：先由内核状态推导，再在每个设备上找到同一个包。' },
      run: 'podway trace lesson-a lesson-b', expect: succeeds({ en: 'predicted and captured agree at every hop; TTL drops by one at each node', zh: '每一跳的预测与抓包一致；每过一个节点 TTL 减一' }),
    },
  ],
  cleanup: ['podway delete pods lesson-a lesson-b --now -q'],
};
