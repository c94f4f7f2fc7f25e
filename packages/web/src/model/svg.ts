/** A scene as a file of its own: SVG with its colours in it, no script, no font and no picture from elsewhere. Pure. */
import type { Drawing } from './drawing.js';
import type { Primitive } from './scene.js';

const STYLE = `
text{font:11px system-ui,'DejaVu Sans','Noto Sans CJK SC','WenQuanYi Micro Hei',sans-serif;fill:#1c2733}
.band{stroke:none}.band.app{fill:#eef2ff}.band.pod{fill:#e9f7ef}.band.node{fill:#fff6e6}.band.physical{fill:#f1f3f5}
.band-name{font-weight:600;fill:#4a5867}.frame{fill:none;stroke:#9aa7b4;stroke-dasharray:4 3}.frame-name{fill:#4a5867}
.terminal{fill:#fff;stroke:#3b5bdb}.stop{fill:#fff;stroke:#5c6b7a}.stop.differs,.stop.missing{stroke:#c92a2a;stroke-width:2}
.stop.missed{fill:#f8f9fa;stroke:#adb5bd;stroke-dasharray:3 3}.badge{fill:#3b5bdb}.badge-number{fill:#fff;font-weight:600}
.title{font-size:13px;font-weight:600}.sub,.note{fill:#4a5867}
.wire{fill:none;stroke:#5c6b7a;stroke-width:1.5}.wire.pair{stroke:#2b8a3e;stroke-width:3}.wire.missed{stroke:#adb5bd;stroke-dasharray:3 3}
.death{fill:#c92a2a}.death.unknown{fill:#868e96}.death-cross{stroke:#fff;stroke-width:3;fill:none}.death-label{fill:#c92a2a;font-size:13px;font-weight:700}.death-mark{fill:#fff;font-size:15px;font-weight:700}
`;

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
const escape = (s: string): string => s.replace(/[&<>"]/g, (c) => ESCAPES[c]!);

export interface Panel {
  readonly title: string;
  readonly drawing: Drawing;
  readonly scene: readonly Primitive[];
}

const HEAD = 30;

/** Several drawings below each other: the way there and the way back. */
export function svgText(panels: readonly Panel[], about: string): string {
  const width = Math.max(...panels.map((p) => p.drawing.width));
  let y = 0;
  const groups = panels.map((p) => {
    const at = y;
    y += HEAD + p.drawing.height;
    return `<g transform="translate(0 ${at})"><text class="title" x="10" y="20">${escape(p.title)}</text><g transform="translate(0 ${HEAD})">${p.scene.map(element).join('')}</g></g>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${y}" width="${width}" height="${y}" role="img"><title>${escape(about)}</title><style>${STYLE}</style>`
    + `<rect width="100%" height="100%" fill="#fff"/>${groups.join('')}</svg>\n`;
}

function element(p: Primitive): string {
  const attrs = Object.entries(p.attrs).map(([k, v]) => ` ${k}="${escape(String(v))}"`).join('');
  return p.text === undefined ? `<${p.tag} class="${p.cls}"${attrs}/>` : `<${p.tag} class="${p.cls}"${attrs}>${escape(p.text)}</${p.tag}>`;
}
