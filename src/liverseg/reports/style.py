"""How pages look: light and dark, from 390 pixels of width up, and on paper."""

STYLE = """
:root {
  --paper: #fff; --ink: #1c2330; --quiet: #566072; --line: #d7dce4; --band: #f4f6f9;
  --link: #0b5cad;
  --error: #b3261e; --warning: #8a5300; --note: #3c5a80; --good: #1d6b3a;
  --first: #0072b2; --second: #c2500a; --third: #00805d; --fourth: #8f4a78; --guide: #8b93a1;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181f; --ink: #e4e8ee; --quiet: #a3adbb; --line: #333b48; --band: #1d232c;
    --link: #7db8f5;
    --error: #ff8a80; --warning: #f2b84b; --note: #9bbce0; --good: #7fd19b;
    --first: #5ab4e8; --second: #f08a4b; --third: #4fc9a4; --fourth: #d99ac3; --guide: #7b8494;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1.25rem 1rem 4rem; background: var(--paper);
  color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif;
}
h1 { font-size: 1.65rem; line-height: 1.2; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 {
  font-size: 1.2rem; margin: 2.25rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line);
}
p { margin: .4rem 0 .8rem; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--link); }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav ul {
  display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; list-style: none; margin: .8rem 0 0;
  padding: 0;
}
nav a { display: inline-block; padding: .2rem 0; }
.wide { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .35rem; }
th, td {
  padding: .32rem .9rem .32rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 600; }
thead th { color: var(--quiet); white-space: nowrap; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 10rem; }
tbody th.whole { white-space: nowrap; min-width: 0; }
td:not(.number) { overflow-wrap: anywhere; min-width: 4.5rem; }
.number { text-align: right; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
dl { margin: .6rem 0 1rem; }
dl div {
  display: grid; grid-template-columns: minmax(7rem, 13rem) 1fr; gap: 0 1rem; padding: .25rem 0;
  border-bottom: 1px solid var(--line);
}
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
pre {
  background: var(--band); border: 1px solid var(--line); border-radius: 6px;
  padding: .7rem .9rem; overflow-x: auto; font-size: .88rem;
}
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, "Liberation Mono", monospace; }
figure { margin: .8rem 0 1.2rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
svg { width: 100%; max-width: 34rem; height: auto; display: block; }
svg text { fill: var(--quiet); font-size: 11px; }
svg .axis { stroke: var(--line); fill: none; }
svg .best { stroke: var(--guide); stroke-dasharray: 3 3; fill: none; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.key {
  display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .35em;
  vertical-align: -.05em; -webkit-print-color-adjust: exact; print-color-adjust: exact;
}
.columns {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr));
  gap: 0 2rem;
}
figcaption { color: var(--quiet); font-size: .9rem; overflow-wrap: anywhere; }
.mark { font-weight: 650; white-space: nowrap; margin-right: .5em; }
article { margin: 1.4rem 0; padding-left: .9rem; border-left: 4px solid var(--line); }
.error-side { border-color: var(--error); }
.warning-side { border-color: var(--warning); }
h3 { font-size: 1rem; margin: 0 0 .3rem; font-weight: 600; overflow-wrap: anywhere; }
.error { color: var(--error); }
.warning { color: var(--warning); }
.note { color: var(--note); }
.good { color: var(--good); }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .2rem 0; }
@media (max-width: 480px) { dl div { grid-template-columns: 1fr; } h1 { font-size: 1.4rem; } }
@media print {
  nav { display: none; }
  section { break-inside: avoid-page; }
  body { max-width: none; }
  .wide, pre { overflow-x: visible; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  table { font-size: .72rem; }
  th, td { padding-right: .5rem; }
  thead th { white-space: normal; }
  tbody th { min-width: 6rem; }
}
"""
