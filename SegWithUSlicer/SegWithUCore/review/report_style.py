"""How the report looks, on screen and on A4."""

STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#fff;color:#1a1a1a;font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
"Noto Sans","Liberation Sans",Arial,sans-serif}
main{max-width:60rem;margin:0 auto;padding:2rem 1.5rem 3rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .7rem;padding-bottom:.25rem;border-bottom:2px solid #1a1a1a}
h3{font-size:1.02rem;margin:0 0 .25rem}
small{font-weight:400;color:#555;font-size:.85em}
p{margin:.25rem 0 .6rem}
.lead{font-size:1.05rem;max-width:46rem}
.note{color:#555;border-left:3px solid #888;padding-left:.7rem;max-width:46rem}
ul{margin:.3rem 0;padding-left:0;list-style:none}
.flags li{border-left:4px solid #d55e00;background:#fdf3ec;padding:.35rem .8rem;margin:.35rem 0}
.flags b{display:block;font-size:.8rem;color:#8a3c00;text-transform:capitalize}
table{border-collapse:collapse;width:100%;margin:.4rem 0 1rem;font-size:.92rem}
th{text-align:left;font-weight:600;border-bottom:1px solid #1a1a1a;padding:.3rem .8rem .3rem 0;vertical-align:bottom}
td{border-bottom:1px solid #ddd;padding:.3rem .8rem .3rem 0;vertical-align:top;overflow-wrap:break-word}
.n{text-align:right;font-variant-numeric:tabular-nums;}
td.n{white-space:nowrap}
td small{display:block}
.facts th{border-bottom:1px solid #ddd;width:12rem;font-weight:400;color:#555;vertical-align:top}
code{font:.85em ui-monospace,Menlo,Consolas,"Liberation Mono",monospace;overflow-wrap:anywhere}
.planes{display:grid;grid-template-columns:repeat(3,1fr);gap:.6rem;margin:.5rem 0}
figure{margin:0}
figure svg{display:block;width:100%;background:#000}
figcaption{font-size:.8rem;color:#555;text-align:center}
.side{fill:#fff;stroke:#000;stroke-width:2.5px;paint-order:stroke;font-weight:600;font-family:inherit}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.4rem;font-size:.85rem;align-items:center}
.legend span{display:inline-flex;align-items:center;gap:.45rem}
.key{width:2.2rem}.bar{width:9rem}.bar text{font-size:9px;fill:#1a1a1a}
article{border-top:1px solid #bbb;padding:1rem 0 .6rem;break-inside:avoid}
article:first-of-type{border-top:0;padding-top:.2rem}
.figures{color:#444;font-variant-numeric:tabular-nums;font-size:.92rem}
.verdicts li{padding:.15rem 0 .15rem .7rem;border-left:3px solid #56b4e9;margin:.2rem 0}
q{font-style:italic;overflow-wrap:anywhere;white-space:pre-line}
.trail{font-size:.8rem}
.trail td:first-child{white-space:nowrap}
@media screen and (max-width:45rem){
main{padding:1.2rem 1rem 2rem}
section{overflow-x:auto}
th,td{padding-right:.45rem}
td.n{white-space:normal}
}
@page{size:A4;margin:15mm 14mm}
@media print{
html{font-size:9.5pt}
body{font-size:9.5pt;-webkit-print-color-adjust:exact;print-color-adjust:exact}
main{max-width:none;padding:0}
h1{font-size:18pt}h2{font-size:12.5pt;margin-top:14pt;break-after:avoid}h3{break-after:avoid}
tr,li,figure,.legend{break-inside:avoid}
thead{display:table-header-group}
.planes{max-width:132mm}
article{padding:.6rem 0 .3rem;display:grid;grid-template-columns:132mm 1fr;column-gap:5mm}
article>*{grid-column:1/-1}
article>p,article>.planes{margin:.1rem 0 .25rem}
article>.planes{grid-column:1}
article>.planes+.verdicts{grid-column:2;align-self:start}
}
"""
