// How a tuning report looks, light and dark. Shades of the heat map have an ink each that can be read on them, and
// every colour has a shape, a word or a number beside it.
#pragma once

#include <string_view>

namespace tilewright::cli {

/// The hatching of cells that were not measured.
inline constexpr std::string_view kReportPatterns =
    R"html(<svg width="0" height="0" aria-hidden="true" class="defs"><defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" class="hatch-ground"/><line x1="0" y1="0" x2="0" y2="6" class="hatch-line"/></pattern>
</defs></svg>
)html";

inline constexpr std::string_view kReportStyle = R"css(:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1a2027; --quiet: #56616e; --rule: #dde2e8; --grid: #e9edf1;
  --chosen: #b8420a; --peer: #7a5aa6; --noise: #1a20270f; --hatch: #d3d9e0; --bad: #a3202a;
  --s0: #eaf2fa; --s1: #cfe2f4; --s2: #aacbea; --s3: #7fb1de; --s4: #5595d0; --s5: #2d6fae; --s6: #164d86;
  --t0: #1a2027; --t1: #1a2027; --t2: #1a2027; --t3: #10202f; --t4: #0b1826; --t5: #ffffff; --t6: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1a2027; --ink: #e7ebf0; --quiet: #a0acb9; --rule: #313a45; --grid: #262e37;
    --chosen: #ff9a4d; --peer: #b99be3; --noise: #ffffff14; --hatch: #3a4450; --bad: #ff8a8a;
    --s0: #17293d; --s1: #1c3c5c; --s2: #22517d; --s3: #2c699f; --s4: #4b8bc4; --s5: #7db0dd; --s6: #b9d7f0;
    --t0: #e7ebf0; --t1: #e7ebf0; --t2: #f2f5f8; --t3: #ffffff; --t4: #0a121b; --t5: #0a121b; --t6: #0a121b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
header, main, footer { max-width: 1180px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 28px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 6px; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 0 0 2px; overflow-wrap: anywhere; }
h3 { font-size: 15px; margin: 0 0 8px; }
h4 { font-size: 14px; margin: 14px 0 4px; color: var(--quiet); font-weight: 600; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 0.88em; }
code { overflow-wrap: anywhere; }
a { color: inherit; }
.defs { position: absolute; }
.where { color: var(--quiet); margin: 0 0 14px; overflow-wrap: anywhere; }
.verdict { font-size: 17px; margin: 0 0 16px; max-width: 62em; }
.notes ul, nav ol { margin: 0 0 14px; padding-left: 20px; }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 22px 24px; margin: 18px 0; }
.tiles { display: flex; flex-wrap: wrap; gap: 10px 32px; margin: 0 0 22px; }
.tile b { display: block; font-size: 23px; line-height: 1.2; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--quiet); font-size: 13px; line-height: 1.35; max-width: 14em; }
h2 small { font-weight: 400; color: var(--quiet); }
.charts { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
figure { margin: 0 0 24px; min-width: 0; }
.charts figure { flex: 1 1 440px; }
figcaption { font-size: 13px; color: var(--quiet); margin-bottom: 10px; max-width: 76em; }
figcaption b { color: var(--ink); }
.wide { overflow-x: auto; }
svg { display: block; max-width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; font-variant-numeric: tabular-nums; }
svg .tick, svg .label { fill: var(--quiet); }
svg .axis-name { fill: var(--quiet); font-style: italic; }
svg .strong { fill: var(--ink); font-weight: 600; }
.grid { stroke: var(--grid); }
.leader { fill: none; stroke: var(--quiet); stroke-width: 0.8; }
.roof { fill: none; stroke: var(--ink); stroke-width: 2; }
.peer { stroke: var(--peer); stroke-dasharray: 5 4; }
.whisker { stroke: var(--ink); stroke-width: 1.4; }
.whisker.cold, .dot.cold { stroke: var(--quiet); stroke-width: 1; }
.dot { fill: var(--ink); }
.dot.cold { fill: var(--card); }
.ring { fill: var(--card); stroke: var(--ink); stroke-width: 2; }
.star { fill: var(--chosen); stroke: var(--card); stroke-width: 0.8; }
.noise { fill: var(--noise); }
.cell { stroke: var(--card); }
.s0 { fill: var(--s0); } .s1 { fill: var(--s1); } .s2 { fill: var(--s2); } .s3 { fill: var(--s3); } .s4 { fill: var(--s4); } .s5 { fill: var(--s5); } .s6 { fill: var(--s6); }
svg .t0 { fill: var(--t0); } svg .t1 { fill: var(--t1); } svg .t2 { fill: var(--t2); } svg .t3 { fill: var(--t3); } svg .t4 { fill: var(--t4); } svg .t5 { fill: var(--t5); } svg .t6 { fill: var(--t6); }
.none { fill: none; stroke: var(--rule); stroke-dasharray: 2 3; }
.pruned { fill: url(#hatch); stroke: var(--rule); }
.broken { fill: none; stroke: var(--bad); }
.hatch-ground { fill: var(--card); }
.hatch-line { stroke: var(--hatch); stroke-width: 2; }
svg .cell-number { font-size: 15px; font-weight: 600; }
svg .cell-note { font-size: 11px; }
svg .cell-mark { font-size: 11px; font-weight: 700; }
.mark-rules { fill: none; stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 4 3; }
.mark-chosen { fill: none; stroke: var(--chosen); stroke-width: 3; }
.words { display: flex; flex-wrap: wrap; gap: 12px 40px; margin-bottom: 18px; }
.words > div { flex: 1 1 400px; min-width: 0; }
.words ul { margin: 0; padding-left: 20px; }
table { border-collapse: collapse; font-size: 13px; }
th { text-align: left; font-weight: 600; color: var(--quiet); }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
.n { text-align: right; font-variant-numeric: tabular-nums; }
.dense td { white-space: nowrap; }
.dense td:last-child { white-space: normal; min-width: 22em; }
.chosen td { font-weight: 650; }
details { border-top: 1px solid var(--rule); padding: 10px 0 4px; }
summary { cursor: pointer; font-weight: 600; }
details > .wide, .asm { margin: 10px 0 0; max-height: 32em; overflow: auto; }
.asm { background: var(--page); border: 1px solid var(--rule); border-radius: 6px; padding: 12px; line-height: 1.4; tab-size: 8; }
footer { color: var(--quiet); font-size: 13px; padding-bottom: 36px; }
@media print { section { break-inside: avoid-page; border-color: #999; } }
)css";

}  // namespace tilewright::cli
