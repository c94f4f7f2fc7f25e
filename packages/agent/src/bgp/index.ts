export {
  bgpProblems, checkBgpSettings, isReflector, timersOf, type BgpExternalPeer, type BgpNode, type BgpSettings, type BgpTimers, type ImportRule,
} from './settings.js';
export { birdConfig, protocolName, type Session, type SessionType, type Speaker } from './bird-config.js';
export { bgpRefuses, externalPeers, nodeSpeaker, onSubnet, routerId, routerSpeaker, type NodeSpeakerInput, type RouterInput } from './topology.js';
export { BirdControl, type BirdControlOptions } from './bird-control.js';
export { parseRoutes, parseSessions, parseStatus, ReplyReader, type BgpPeerStatus, type BgpRoute, type BirdStatus, type Reply } from './bird-parse.js';
export { BIRD_RUN_DIR, birdDaemon, birdDaemonControl, birdPaths } from './daemon.js';
export { explainSession, type PeerProbe, type SessionCause, type SessionExplanation } from './explain.js';
export { bgpRoutes, bgpStatus, nodeSocket, type BgpSession, type BgpStatus, type BgpStatusOptions } from './status.js';
