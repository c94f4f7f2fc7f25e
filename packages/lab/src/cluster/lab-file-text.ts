/** The lab file with every key and what it means, as text: valid as it stands, and what `podway lab-file` prints. */
export const LAB_FILE_TEXT = `# A lab file. Only apiVersion and kind are required; the values below are the defaults, or examples where it says so.
apiVersion: podway.io/v1alpha1
kind: Lab
name: example                    # default: default; --lab wins over it

underlay:                        # the network between nodes
  subnet: 172.18.0.0/16          # flat: its range, the router has the first address; with racks: each takes a /24 of it
  mtu: 1500                      # of uplinks; pods get what the backend leaves of it
  # switchMTU: 1300              # example: what the switch really passes; larger frames vanish in it
  racks:                         # example; none: one flat subnet
  - name: r1                     # at most 8 characters; nodes get the label podway.io/rack=r1
    subnet: 172.18.1.0/24        # default: the next /24
    mtu: 1500                    # default: the underlay's
    switchMTU: 1500              # default: its mtu
    link: {mtu: 1500}            # the cable between its router and the core
    bgp: true                    # default false: the router speaks BGP, AS number 65001, 65002 …
  - name: r2
    asn: 65100                   # the same, with an AS number of its own
  tunnels:                       # example; two racks joined as two sites by a VPN
  - between: [r1, r2]
    mtu: 1400                    # default: what 50 bytes of headers leave

network:                         # the pod network
  ipFamily: ipv4                 # or ipv6, or dual: both (not with racks)
  clusterCIDR: 10.244.0.0/16     # range of all pods; dual: [10.244.0.0/16, fd00:10:244::/56]
  nodeMask: 24                   # prefix length of a node's share of the IPv4 range
  nodeMask6: 64                  # the same of the IPv6 range
  serviceCIDR: 10.96.0.0/12      # addresses of Services; dual: 10.96.0.0/12,fd00:10:96::/112
  proxy: podway                  # or none: Services are somebody else's
  masquerade: true               # what leaves the cluster takes the node's address
  mtu: 1350                      # example; default: derived
  wiring: bridge                 # or ptp: no bridge, a route to each pod
  gateway: host                  # with ptp: an address of the range on the node, or link-local: 169.254.1.1
  ipam: podCIDR                  # one range a node, or pools: blocks of IP pools, as many as the pods need
  blockSize: 26                  # with pools: prefix length of an IPv4 block (IPv6: 122)
  cni: podway                    # or none: nodes stay NotReady until podway network install
  backend:
    type: vxlan                  # vxlan, host-gw, bgp, ipip or none
    vni: 1                       # vxlan
    port: 8472                   # vxlan
    crossSubnet: false           # vxlan, ipip: encapsulate only between subnets
    df: unset                    # vxlan: DF of the outer header; or set, inherit
    asn: 64512                   # bgp: AS number of the nodes
    mesh: true                   # bgp: every node with every other of its subnet
    reflectors: [m1, role=rr]    # bgp, example: nodes that reflect, by name or label selector; then there is no mesh
    clusterId: 10.0.0.1          # bgp, example: of the reflectors
    peers:                       # bgp, example: routers besides those of the racks
    - {address: 172.18.1.9, asn: 65200, password: secret, nodeSelector: podway.io/rack=r1, import: cluster, multihop: 2}
    password: secret             # bgp, example: MD5 key of the sessions between nodes
    holdTime: 90                 # bgp: seconds

api: {port: 0}                   # of 127.0.0.1; 0: any that is free

nodes:                           # default: m1, m2, m3
- name: m1
  rack: r1                       # default: in turn
  address: 172.18.1.10           # default: the next free one
  podCIDR: 10.244.7.0/24         # default: the next free one
  labels: {role: rr}
  taints: [{key: dedicated, value: test, effect: NoSchedule}]
- name: m2

pods:                            # default: none
- name: web-a
  namespace: default
  node: m1                       # default: the scheduler's choice
  image: podway/web
  address: 10.244.7.9            # default: the next free one
  labels: {app: web}
- name: box
  image: busybox
  command: [sleep, "86400"]

images: {example.com/app: podway/web}   # example: names of images, and the built-in image or folder of this machine for each
`;
