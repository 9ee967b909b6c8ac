/** The style sheet: light and dark, nothing from outside. */

/** Colours that are told apart by most people; light, dark. After M. Okabe and K. Ito (2008). */
const PALETTE: readonly [string, string][] = [
  ['#0067a5', '#5cb3ee'],
  ['#c65200', '#ff9350'],
  ['#00845f', '#3fd0a4'],
  ['#a8428a', '#ee9bd2'],
  ['#8a6a00', '#e5c558'],
  ['#5b49c4', '#a99dfc'],
  ['#a51d36', '#ff8095'],
  ['#3c6b00', '#a8d35c'],
  ['#00737f', '#4fd2df'],
  ['#6b5344', '#cdb09c'],
]
export const HUES = PALETTE.length

const hues = (which: 0 | 1): string =>
  PALETTE.map((pair, i) => `.hue${i}{--c:${pair[which]}}`).join('')

export const STYLE = `
:root{color-scheme:light dark;--ink:#1c2126;--soft:#5c6670;--faint:#d9dee3;--fainter:#eef1f4;--paper:#fff;--band:#f6f8fa;--good:#1a7f47;--bad:#c22f2f}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:28px;margin:0 0 4px;letter-spacing:-.02em}
h2{font-size:21px;margin:48px 0 4px;padding-top:16px;border-top:1px solid var(--faint)}
h3{font-size:16px;margin:28px 0 8px}
p.facts,p.about{color:var(--soft);margin:0 0 8px}
p.warning{color:var(--bad);font-weight:600}
a{color:inherit}
nav a{margin-right:16px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:4px 14px 4px 0;text-align:right;border-bottom:1px solid var(--fainter);white-space:nowrap}
th{color:var(--soft);font-weight:600;border-bottom-color:var(--faint)}
th:first-child,td:first-child{text-align:left}
td.text{text-align:left;white-space:normal}
.scroll{overflow-x:auto}
.holds{color:var(--good);font-weight:600}
.missed{color:var(--bad);font-weight:600}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:20px}
.wide{max-width:900px;margin:20px 0 0}
svg{display:block;width:100%;height:auto;overflow:visible}
svg text{fill:var(--ink);font-size:12px}
svg text.title{font-size:13px;font-weight:600}
svg .unit{fill:var(--soft);font-weight:400}
svg text.tick{fill:var(--soft);font-size:11px}
svg line{stroke:var(--faint)}
svg line.minor{stroke:var(--fainter)}
svg line.limit{stroke:var(--bad);stroke-dasharray:5 3}
svg text.limit{fill:var(--bad);font-size:11px}
svg .band{fill:var(--band)}
svg line.whisker{stroke:var(--c);stroke-width:2;opacity:.55}
svg path.line{fill:none;stroke:var(--c);stroke-width:1.75;stroke-linejoin:round}
svg .mark{fill:var(--c);stroke:var(--paper);stroke-width:.75}
svg g:hover>path.line{stroke-width:3.5}
ul.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:12px 0;padding:0;font-size:13px}
ul.legend li{display:flex;align-items:center;gap:6px}
svg.swatch{width:28px;height:12px}
ul.notes{color:var(--soft);font-size:13px;padding-left:18px;white-space:pre-line}
details{margin:12px 0}
summary{cursor:pointer;color:var(--soft)}
${hues(0)}
@media (prefers-color-scheme:dark){
:root{--ink:#e7ebef;--soft:#98a3ad;--faint:#363e46;--fainter:#23292f;--paper:#14181c;--band:#1a1f24;--good:#4fc982;--bad:#ff7b72}
${hues(1)}
}
@media print{main{max-width:none}details{display:none}}
`
