/** All hops of a trace in one pcapng file, one interface per capture point. Equivalent: tcpdump at every hop, then mergecap. */
import { createPcapngFile, PcapngWriter } from '@podway/packet';
import type { Observed } from '../observe/index.js';

const commentOf = ({ observation: { flow } }: Observed): string => `podway trace ${flow.from} → ${flow.dst} ${flow.proto}`;

function write(writer: PcapngWriter, { observation, packets }: Observed): void {
  const ids = new Map(observation.points.map((p) => [
    p.label, writer.addInterface({ name: p.label, description: p.text, linkType: packets.find((x) => x.point === p.label)?.linkType ?? 1 }),
  ]));
  for (const p of packets) {
    const interfaceId = ids.get(p.point);
    if (interfaceId !== undefined) writer.packet({ interfaceId, timeNs: p.tsNs, bytes: p.bytes, originalLength: p.length });
  }
}

/** Writes the file (0600) and returns how many packets it holds. Throws the file system's error. */
export function savePcapng(path: string, observed: Observed): number {
  const file = createPcapngFile(path, { comment: commentOf(observed) });
  try {
    write(file.writer, observed);
  } finally {
    file.close();
  }
  return observed.packets.length;
}

/** The same file's bytes, for who sends them elsewhere. */
export function pcapngBytes(observed: Observed): Buffer {
  const parts: Uint8Array[] = [];
  write(new PcapngWriter((bytes) => void parts.push(bytes), { comment: commentOf(observed) }), observed);
  return Buffer.concat(parts);
}
