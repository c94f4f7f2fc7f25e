/**
 * What the fields of a line mean, in a sentence, English and Chinese: the tools' own words are kept, and each is explained where
 * it stands. A table of patterns; `$1` is what the pattern caught. Pure.
 */
import type { ObjectKind } from './types.js';

export interface Explained {
  /** The words as they stand in the line. */
  readonly words: string;
  readonly en: string;
  readonly zh: string;
}

type Rule = readonly [pattern: RegExp, en: string, zh: string];

const LINK: readonly Rule[] = [
  [/^(\d+): /, 'Index of the device (ifindex): unique within its namespace, not beyond.', '设备的索引（ifindex）：只在本命名空间内唯一。'],
  [/(?<=^\d+: [^@\s]+)@if(\d+)(?=:)/, 'The other end of the veth pair has ifindex $1, in another namespace.', 'veth 对的另一端在别的命名空间里，其 ifindex 为 $1。'],
  [/(?<=^\d+: [^@\s]+)@(?!if\d)([^:\s]+)(?=:)/, 'It is tied to $1 of the same namespace.', '它与同一命名空间里的 $1 相连。'],
  [/(?<=^\d+: )([^@:\s]+)(?=[@:])/, 'Name of the device.', '设备名。'],
  [/<([^>]*)>/, 'Flags. UP: switched on; LOWER_UP: has a carrier; NO-CARRIER: has none; M-DOWN: the other end is down; PROMISC: takes all frames.', '标志。UP：已启用；LOWER_UP：有载波；NO-CARRIER：无载波；M-DOWN：对端已关闭；PROMISC：接收所有帧。'],
  [/\bmtu (\d+)/, 'The largest IP packet that the device sends: $1 bytes.', '设备能发送的最大 IP 包：$1 字节。'],
  [/\bqdisc (\S+)/, 'Queueing discipline: in which order packets wait to be sent ($1).', '排队规则：数据包以何种顺序等待发送（$1）。'],
  [/\bmaster (\S+)/, 'It is a port of the bridge $1.', '它是网桥 $1 的端口。'],
  [/(?<=mtu .*)\bstate (UP|DOWN|UNKNOWN|LOWERLAYERDOWN|DORMANT|NOTPRESENT|TESTING)\b/, 'Operational state. UNKNOWN is normal for devices without a carrier of their own.', '运行状态。没有自身载波的设备显示 UNKNOWN 属正常。'],
  [/\bmode (\S+)/, 'Link mode; DEFAULT: it is up as soon as it has a carrier.', '链路模式；DEFAULT：有载波即启用。'],
  [/\bgroup (\S+)/, 'Group of devices that can be set together.', '可一起设置的设备组。'],
  [/\bqlen (\d+)/, 'At most $1 packets wait to be sent.', '最多 $1 个包排队等待发送。'],
  [/\blink\/(\S+) ([0-9a-f:]{17})/, 'Link-layer address (MAC) of the device; link/$1 is its type.', '设备的链路层地址（MAC）；link/$1 是类型。'],
  [/\blink\/(\S+)(?= brd [\d.]| [\d.]+| *$)/m, 'Type of the link layer.', '链路层类型。'],
  [/\bbrd (\S+)/, 'Where broadcasts go.', '广播地址。'],
  [/\blink-netnsid (\d+)/, 'Number under which this namespace knows the one with the other end.', '本命名空间给对端所在命名空间的编号。'],
  [/\bvxlan id (\d+)/, 'A VTEP: it wraps frames into UDP. Only the same VXLAN network identifier (VNI $1) is unwrapped at the other side.', 'VTEP：把帧封装进 UDP。只有相同的 VXLAN 网络标识（VNI $1）才会被对端解开。'],
  [/\blocal (\S+)/, 'Source address of the outer packets.', '外层包的源地址。'],
  [/(?<=(?:vxlan|ipip).*)\bdev (\S+)/, 'The outer packets leave by $1.', '外层包从 $1 发出。'],
  [/\bdstport (\d+)/, 'UDP port of the outer packets; 8472 is what Linux uses, 4789 the standard.', '外层 UDP 端口；8472 是 Linux 的惯例，4789 是标准。'],
  [/\bnolearning\b/, 'It does not learn from packets: its FDB is written by the agent.', '不从数据包学习：FDB 由代理写入。'],
  [/\bttl (\S+)/, 'TTL of the outer packets; auto: the usual one.', '外层包的 TTL；auto：默认值。'],
  [/\bdf (\S+)/, 'Whether the outer packet forbids splitting (DF).', '外层包是否禁止分片（DF）。'],
  [/\bno?udpcsum\b|\budpcsum\b/, 'Whether the outer UDP checksum is filled in; the inner ones are in any case.', '是否填写外层 UDP 校验和；内层校验和总会填写。'],
  [/\bbridge (?=ageing_time|stp_state|vlan)/, 'A bridge: a switch in software. Its ports are the devices with this master.', '网桥：软件交换机。master 为它的设备就是其端口。'],
  [/\bageing_time (\d+)/, 'A learnt MAC address is forgotten after this time, in hundredths of a second.', '学到的 MAC 地址经过此时间（百分之一秒）后被遗忘。'],
  [/\bstp_state (\d)/, 'Spanning tree against loops: 0 is off.', '防环的生成树：0 为关闭。'],
  [/\bvlan_filtering (\d)/, 'Ports keep VLANs apart: 0 is no.', '端口按 VLAN 隔离：0 为否。'],
  [/\bmcast_snooping (\d)/, 'Multicast goes only where somebody listens: 1 is yes.', '组播只发给有接收者的端口：1 为是。'],
  [/\bnf_call_iptables (\d)/, 'Bridged packets also pass the firewall of this bridge: 1 is yes; 0: as the sysctl says.', '桥接的包也经过防火墙：1 为是；0：按 sysctl 设置。'],
  [/\bnf_call_ip6tables (\d)/, 'The same for IPv6: 1 is yes.', 'IPv6 同上：1 为是。'],
  [/\bbridge_slave\b/, 'What follows are its settings as a port of a bridge.', '以下是它作为网桥端口的设置。'],
  [/(?<=bridge_slave )state (\S+)/, 'State of the port; only a forwarding one passes frames.', '端口状态；只有 forwarding 才转发帧。'],
  [/\bhairpin (on|off)/, 'A frame may leave by the port it came in by.', '帧可以从进入的端口再出去。'],
  [/(?<!no)\blearning (on|off)/, 'The bridge notes which MAC addresses are behind this port.', '网桥记录此端口后有哪些 MAC 地址。'],
  [/\bflood (on|off)/, 'Frames to unknown MAC addresses are also sent here.', '发往未知 MAC 的帧也会送到这里。'],
  [/\bproxy_arp (on|off)/, 'The bridge answers ARP for others here.', '网桥在此代答 ARP。'],
  [/\bneigh_suppress (on|off)/, 'ARP requests that the bridge can answer are not passed on.', '网桥能回答的 ARP 请求不再转发。'],
  [/\bisolated (on|off)/, 'It cannot talk to other isolated ports.', '不能与其他隔离端口通信。'],
  [/\bipip\b|\bremote (\S+)/, 'A tunnel that carries IP packets in IP packets.', '把 IP 包装在 IP 包里的隧道。'],
  [/\balias (.+)/, 'A note left at the device: whose it is, and for what.', '设备上的备注：归谁所有、用来做什么。'],
  [/\baltname (\S+)/, 'Another name of the device.', '设备的另一个名字。'],
];

const ADDRESS: readonly Rule[] = [
  [/^inet6? (\S+)\/(\d+)/, 'Address $1. The first $2 bits are the network that is reached directly.', '地址 $1，前 $2 位是可直达的网络。'],
  [/^inet6? (\S+) peer (\S+)/, 'Address $1; the other end of the link has $2.', '地址 $1；链路另一端为 $2。'],
  [/\bbrd (\S+)/, 'Broadcast address of the network.', '该网络的广播地址。'],
  [/\bscope (\S+)/, 'Where it is valid: global everywhere, link on this link only, host in this namespace only.', '有效范围：global 处处有效，link 仅本链路，host 仅本命名空间。'],
  [/\bnodad\b/, 'It is used without asking first whether somebody else has it.', '使用前不检查是否重复。'],
  [/\bnoprefixroute\b/, 'The kernel makes no route for its network.', '内核不为其网络添加路由。'],
  [/\b(dynamic|temporary|mngtmpaddr|secondary|tentative|deprecated|permanent)\b/, 'How the kernel treats it: $1.', '内核如何对待它：$1。'],
  [/(?<=scope \S+ (?:\S+ )*)(\S+)$/, 'Label: the device it is on.', '标签：所在设备。'],
];

const ROUTE: readonly Rule[] = [
  [/^default\b/, 'For every destination that no longer prefix fits.', '没有更长前缀匹配时的所有目的地。'],
  [/^local (\S+)/, 'An address of this namespace itself: such packets are taken, not sent on.', '本命名空间自己的地址：包被接收，不再转发。'],
  [/^broadcast (\S+)/, 'A broadcast address of a network of its own.', '自身网络的广播地址。'],
  [/^multicast (\S+)/, 'Multicast addresses.', '组播地址。'],
  [/^anycast (\S+)/, 'An address that several routers share (IPv6).', '多个路由器共享的地址（IPv6）。'],
  [/^(unreachable|blackhole|prohibit) (\S+)/, 'Packets there are thrown away ($1).', '发往此处的包被丢弃（$1）。'],
  [/^(\d[\d.]*\/\d+|[0-9a-f:]+:[0-9a-f:]*\/\d+)/, 'For destinations in this range; of several routes the one with the longest prefix wins.', '适用于此范围内的目的地；多条路由中前缀最长者胜出。'],
  [/^(\d+\.\d+\.\d+\.\d+|[0-9a-f:]+:[0-9a-f:]*)(?= |$)/, 'For this one address.', '仅适用于这一个地址。'],
  [/\bvia (\S+(?: \S+:\S*)?)/, 'Next hop: the packet is handed to it; its MAC address is looked up as a neighbour.', '下一跳：包交给它；其 MAC 从邻居表查得。'],
  [/\bdev (\S+)/, 'The packet leaves by $1.', '包从 $1 发出。'],
  [/\btable (\S+)/, 'Routing table; rules say when it is asked. local holds own addresses, main the usual routes.', '路由表；规则决定何时查询。local 存放自身地址，main 存放普通路由。'],
  [/\bproto (\S+)/, 'Who made it. kernel: from an address; 112: Podway; bird: BGP; without: somebody by hand.', '由谁添加。kernel：随地址而来；112：Podway；bird：BGP；无：手工添加。'],
  [/\bscope (\S+)/, 'How far away the destination is: link means directly, without a next hop.', '目的地多远：link 表示直达，无需下一跳。'],
  [/\bsrc (\S+)/, 'Source address of own packets that take this route.', '本机包走此路由时的源地址。'],
  [/\bmetric (\d+)/, 'Of equal prefixes the lowest metric wins.', '前缀相同则 metric 最小者胜出。'],
  [/\bonlink\b/, 'The next hop counts as directly reachable, though no network of ours holds it.', '下一跳视为可直达，即使不在任何本地网络内。'],
  [/\blinkdown\b/, 'The device has no carrier now.', '设备当前无载波。'],
  [/\bdead\b/, 'Not used: its device is down.', '未使用：其设备已关闭。'],
  [/\bmtu (\d+)/, 'Packets on this route are at most $1 bytes.', '此路由上的包最大 $1 字节。'],
  [/\bpref (\S+)/, 'Preference among routers (IPv6).', '路由器间的优先级（IPv6）。'],
  [/\bnexthop\b/, 'One of several next hops: a hash of the flow chooses.', '多个下一跳之一：由流的哈希选择。'],
  [/\bweight (\d+)/, 'Its share among the next hops.', '在多个下一跳中所占的份额。'],
];

const RULE: readonly Rule[] = [
  [/^(\d+):/, 'Priority: rules are asked from the lowest number on.', '优先级：从最小的数字开始询问。'],
  [/\bfrom (\S+)/, 'For packets from there; all: from anywhere.', '来自该处的包；all：任意来源。'],
  [/\bto (\S+)/, 'For packets to there.', '发往该处的包。'],
  [/\bfwmark (\S+)/, 'For packets with this mark.', '带有此标记的包。'],
  [/\b[io]if (\S+)/, 'For packets of this device.', '此设备的包。'],
  [/\blookup (\S+)/, 'The table $1 is asked; without a match the next rule follows.', '查询路由表 $1；不匹配则继续下一条规则。'],
];

const NEIGHBOUR: readonly Rule[] = [
  [/^(\S+)/, 'Whom we want to reach on this link.', '要在本链路上到达的地址。'],
  [/\bdev (\S+)/, 'On which device.', '在哪个设备上。'],
  [/\blladdr (\S+)/, 'The MAC address that frames to it are sent to.', '发往它的帧所用的 MAC 地址。'],
  [/\bPERMANENT\b/, 'Written by hand or by an agent: never asked for, never forgotten.', '由人或代理写入：从不询问，也不遗忘。'],
  [/\bREACHABLE\b/, 'Confirmed a short while ago.', '刚刚确认过。'],
  [/\bSTALE\b/, 'Known, and confirmed again when it is used.', '已知，使用时会再确认。'],
  [/\bDELAY\b|\bPROBE\b/, 'Being confirmed just now.', '正在确认。'],
  [/\bFAILED\b/, 'Nobody answered: packets to it are thrown away.', '无人应答：发往它的包被丢弃。'],
  [/\bINCOMPLETE\b/, 'Asked, no answer yet: packets wait.', '已询问，尚无应答：包在等待。'],
  [/\bNOARP\b/, 'Needs no asking (loopback, multicast).', '无需询问（环回、组播）。'],
  [/\brouter\b/, 'It is a router (IPv6).', '它是路由器（IPv6）。'],
  [/\bproxy\b/, 'We answer for it.', '由我们代答。'],
  [/\bextern_learn\b/, 'Learnt by another program.', '由其他程序学到。'],
];

const FDB: readonly Rule[] = [
  [/^([0-9a-f:]{17})/, 'Frames to this MAC address …', '发往此 MAC 地址的帧……'],
  [/\bdev (\S+)/, '… leave by $1.', '……从 $1 发出。'],
  [/\bdst (\S+)/, 'The VTEP behind which it is: the outer packet goes to $1.', '它所在的 VTEP：外层包发往 $1。'],
  [/\bvlan (\d+)/, 'In this VLAN.', '属于此 VLAN。'],
  [/\bself\b/, 'An entry of the device itself, not of a bridge.', '属于设备自身的条目，而非网桥的。'],
  [/\bmaster (\S+)/, 'An entry of the bridge $1.', '网桥 $1 的条目。'],
  [/\bpermanent\b/, 'Fixed: an own address, or written by an agent.', '固定：自身地址，或由代理写入。'],
  [/\bstatic\b/, 'Fixed by somebody; it does not age.', '由人设定；不老化。'],
  [/\bstale\b/, 'Not used lately.', '近期未使用。'],
  [/\bvia (\S+)/, 'The outer packet must leave by $1.', '外层包必须从 $1 发出。'],
  [/\bport (\d+)|\bvni (\d+)/, 'Another UDP port or VNI for this entry.', '此条目使用另外的 UDP 端口或 VNI。'],
  [/\bextern_learn\b/, 'Learnt by another program.', '由其他程序学到。'],
];

const RULES: Readonly<Record<ObjectKind, readonly Rule[]>> = { link: LINK, address: ADDRESS, route: ROUTE, rule: RULE, neighbour: NEIGHBOUR, fdb: FDB };

/** In the order in which the words stand in the line. */
export function explain(kind: ObjectKind, text: string): Explained[] {
  return RULES[kind].flatMap(([pattern, en, zh]) => {
    const m = pattern.exec(text);
    if (!m) return [];
    const fill = (s: string): string => s.replace(/\$(\d)/g, (_, i: string) => m[Number(i)] ?? '');
    return [{ at: m.index, words: m[0].trim(), en: fill(en), zh: fill(zh) }];
  }).sort((a, b) => a.at - b.at).map(({ at: _, ...e }) => e);
}

/** Words of a line that no rule speaks of. */
export function unexplained(kind: ObjectKind, text: string): string[] {
  const left = explain(kind, text).reduce((s, e) => s.replace(e.words, ' '), text);
  return left.split(/\s+/).filter((w) => /[A-Za-z0-9]/.test(w));
}
