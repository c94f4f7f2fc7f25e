/** Horizontal bars in groups, as SVG text: for the tables of the benches. Readable on light and dark pages. */
const COLOURS = ['#2f6fde', '#e08a1e', '#7a8699'];
const escape = (s) => String(s).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);

/**
 * @param {{ title: string, unit: string, series: string[], groups: { label: string, values: (number | undefined)[], notes?: string[] }[] }} chart
 * @returns {string} an SVG document, 860 wide
 */
export function barChart({ title, unit, series, groups }) {
  const [left, width, bar, gap, top] = [190, 860, 16, 14, 70];
  const most = Math.max(...groups.flatMap((g) => g.values.filter((v) => v !== undefined)));
  const scale = (width - left - 90) / most;
  let y = top;
  const body = groups.map((g) => {
    const shown = g.values.map((v, i) => ({ v, i })).filter(({ v }) => v !== undefined);
    const height = shown.length * bar;
    const text = [`<text x="${left - 10}" y="${y + height / 2 + 5}" text-anchor="end">${escape(g.label)}</text>`];
    for (const [row, { v, i }] of shown.entries()) {
      const at = y + row * bar;
      text.push(
        `<rect x="${left}" y="${at}" width="${(v * scale).toFixed(1)}" height="${bar - 3}" fill="${COLOURS[i % COLOURS.length]}"><title>${escape(`${series[i]}: ${v.toFixed(2)} ${unit}. ${g.notes?.[i] ?? ''}`)}</title></rect>`,
        `<text x="${(left + v * scale + 6).toFixed(1)}" y="${at + bar - 5}" font-size="11">${v.toFixed(v < 10 ? 2 : 1)}</text>`,
      );
    }
    y += height + gap;
    return text.join('\n');
  }).join('\n');
  const legend = series.map((s, i) => `<rect x="${left + i * 130}" y="38" width="12" height="12" fill="${COLOURS[i % COLOURS.length]}"/><text x="${left + 18 + i * 130}" y="49">${escape(s)}</text>`).join('\n');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}" role="img" aria-label="${escape(title)}" font-family="system-ui, sans-serif" font-size="13">
<style>text { fill: #222 } @media (prefers-color-scheme: dark) { text { fill: #ddd } }</style>
<text x="${left}" y="22" font-size="16" font-weight="600">${escape(title)} (${escape(unit)})</text>
${legend}
${body}
</svg>
`;
}
