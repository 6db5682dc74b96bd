// The stylesheet, the icon and the one script of the demo. They are served as files of their own, so that the
// Content-Security-Policy needs no inline exception.

export const stylesheet = `
:root{color-scheme:light dark;--ground:#f5f6fb;--card:#fff;--ink:#1d2136;--soft:#5c637e;--line:#e1e4f0;--brand:#4c4ddc;--brand-ink:#fff;
--good:#0b7a53;--good-bg:#e1f5ec;--new:#3f40c4;--new-bg:#e8e8fd;--warn:#8a5a00;--warn-bg:#fdf0d5;--bad:#b3263a;--bad-bg:#fde7ea;--shade:0 1px 2px #1d21360d,0 8px 28px #1d21360f}
@media(prefers-color-scheme:dark){:root{--ground:#12131d;--card:#1b1d2b;--ink:#e9eaf5;--soft:#a1a7c3;--line:#2d3044;--brand:#8a8bff;--brand-ink:#12131d;
--good:#6fdcae;--good-bg:#12352a;--new:#b3b4ff;--new-bg:#272864;--warn:#f3c66b;--warn-bg:#3b2e12;--bad:#ff9aa8;--bad-bg:#43202a;--shade:0 1px 2px #0006}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif}
a{color:var(--brand)}
:focus-visible{outline:2px solid var(--brand);outline-offset:2px}
.top,main,footer{max-width:64rem;margin:0 auto;padding:0 1.25rem}
.top{display:flex;align-items:center;gap:1.25rem;flex-wrap:wrap;padding-top:1.1rem;padding-bottom:1.1rem}
.top form{margin-left:auto}.top nav{display:flex;gap:1.1rem}.top a{color:var(--soft);text-decoration:none;font-size:.95rem}.top a:hover,.top a[aria-current]{color:var(--ink)}
.top .brand{display:flex;align-items:center;gap:.6rem;color:var(--ink);font-weight:650;font-size:1.05rem;margin-right:auto}
.brand i{width:1.7rem;height:1.7rem;border-radius:.5rem;background:conic-gradient(from 210deg,#4c4ddc,#b04de0,#f0857d,#4c4ddc)}
.top .button{font-size:.92rem;padding:.4rem .9rem}
@media(max-width:30rem){.top{gap:.7rem}.top a{font-size:.9rem}.top .brand{gap:.45rem;font-size:.95rem}.top .button{font-size:.88rem;padding:.25rem .55rem}}
footer{color:var(--soft);font-size:.85rem;padding-top:2.5rem;padding-bottom:2rem}
h1{font-size:clamp(1.6rem,4.5vw,2.15rem);line-height:1.2;letter-spacing:-.02em;margin:1.4rem 0 .35rem;overflow-wrap:anywhere}
h2{font-size:1.05rem;margin:0 0 .8rem}
.lead{color:var(--soft);margin:0 0 1.6rem;max-width:42rem}
.soft{color:var(--soft)}small,.small{font-size:.875rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:1rem;padding:1.25rem;box-shadow:var(--shade);margin:0 0 1.1rem}
.columns{display:grid;grid-template-columns:minmax(0,1fr);gap:1.1rem;align-items:start}
@media(min-width:54rem){.columns{grid-template-columns:minmax(0,1fr) minmax(0,1fr)}.columns.wide-right{grid-template-columns:minmax(0,5fr) minmax(0,6fr)}}
.button{display:inline-block;font:inherit;font-weight:600;border:0;border-radius:.7rem;padding:.55rem 1.1rem;background:var(--brand);color:var(--brand-ink);text-decoration:none;cursor:pointer}
.button.quiet{background:transparent;color:var(--ink);border:1px solid var(--line);font-weight:500}
.button:hover{filter:brightness(1.08)}.button.quiet:hover{border-color:var(--brand);filter:none}
.button.small{font-size:.875rem;padding:.28rem .7rem;border-radius:.55rem;white-space:nowrap}
select,.act input{font:inherit;font-size:.9rem;color:inherit;min-width:0;padding:.28rem .55rem;border:1px solid var(--line);border-radius:.55rem;background:var(--ground)}
.act{display:flex;gap:.5rem;flex-wrap:wrap}.act input[type=email]{flex:1 1 11rem}
.line{display:flex;gap:.4rem 1rem;align-items:center;flex-wrap:wrap}.line>:first-child{flex:1 1 11rem;min-width:0;overflow-wrap:anywhere}
.deeds{display:grid;gap:.7rem;justify-items:start}
.filters{display:flex;gap:.6rem;flex-wrap:wrap;align-items:center;margin:0 0 1rem}.filters select{max-width:100%}.filters .button{font-size:.9rem;padding:.28rem .9rem;border-radius:.55rem}
.tabs{display:flex;gap:.9rem;margin-left:auto;font-size:.9rem}.tabs a{color:var(--soft);text-decoration:none}.tabs a[aria-current]{color:var(--ink);font-weight:600}
.scroll{overflow-x:auto}table{width:100%;border-collapse:collapse;font-size:.9rem}th{text-align:left;color:var(--soft);font-weight:500;font-size:.85rem}
th,td{padding:.4rem 1rem .4rem 0;vertical-align:baseline}td{border-top:1px solid var(--line)}td:last-child{width:99%}td:not(:last-child),td time,td code{white-space:nowrap}
.heading{margin:1.4rem 0 .8rem}.card>:last-child{margin-bottom:0}
.button.block{display:block;width:100%;text-align:center;margin-top:.6rem}
.address{display:flex;gap:.6rem;flex-wrap:wrap}.address input[type=email]{flex:1 1 13rem;min-width:0;font:inherit;padding:.55rem .8rem;border:1px solid var(--line);border-radius:.7rem;background:var(--ground);color:inherit}
.or{display:flex;align-items:center;gap:.8rem;color:var(--soft);font-size:.875rem;margin:1rem 0 0}.or::before,.or::after{content:'';flex:1;border-top:1px solid var(--line)}
.ways{display:grid;grid-template-columns:minmax(0,1fr);gap:.65rem}
.way{display:flex;align-items:center;gap:.9rem;padding:.8rem .9rem;border:1px solid var(--line);border-radius:.85rem;color:inherit;text-decoration:none}
.way:hover{border-color:var(--brand);background:var(--ground)}
.way>span{min-width:0;overflow-wrap:anywhere}.way>.tag{flex:none;margin-left:auto}.way b{display:block}.way small{display:block;line-height:1.35}
.face{flex:none;display:grid;place-items:center;width:2.5rem;height:2.5rem;border-radius:.75rem;color:#fff;font-weight:650;font-size:.95rem}
.face.round{border-radius:50%}
.f0{background:#4c4ddc}.f1{background:#a13fc4}.f2{background:#c2473e}.f3{background:#0f7f7a}.f4{background:#a45c0a}.f5{background:#2e6fbf}
.tag{display:inline-block;border-radius:.45rem;padding:.08rem .5rem;font-size:.8rem;font-weight:600;background:var(--line);color:var(--soft);white-space:nowrap}
.created{background:var(--new-bg);color:var(--new)}.linked,.active{background:var(--good-bg);color:var(--good)}
.updated{background:var(--warn-bg);color:var(--warn)}.denied{background:var(--bad-bg);color:var(--bad)}
.people{list-style:none;margin:0;padding:0}
.people li{display:flex;gap:.9rem;padding:.7rem 0;border-top:1px solid var(--line)}.people li:first-child{border:0;padding-top:0}.people li:last-child{padding-bottom:0}
.people p{margin:.1rem 0 0}
.head{display:flex;gap:.7rem;align-items:center;flex-wrap:wrap;margin-bottom:.9rem}.head h2{margin:0}.head .tag{margin-left:auto}
.roles{list-style:none;margin:0;padding:0}.roles li{padding:.6rem 0;border-top:1px solid var(--line)}.roles li:first-child{border:0;padding-top:0}.roles li:last-child{padding-bottom:0}
.roles p{margin:.2rem 0 0}.roles form{margin:.4rem 0 0}.line form{margin:0}.roles+.roles,.act+.roles{border-top:1px solid var(--line);margin-top:.6rem;padding-top:.6rem}.roles+p{margin:1rem 0 0}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35rem 1rem;margin:0}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}code{overflow-wrap:anywhere}
.trace{font-size:.875rem;margin-top:.8rem}
.trace code{font:.92em ui-monospace,'Cascadia Mono',Menlo,monospace}
.log{list-style:none;margin:0;padding:0}
.log>li{background:var(--card);border:1px solid var(--line);border-radius:.85rem;margin:0 0 .6rem;scroll-margin-top:1rem}
.log>li:target{border-color:var(--brand)}
.log summary{display:grid;grid-template-columns:5rem 5.4rem minmax(0,3fr) minmax(0,2fr);gap:.3rem 1rem;align-items:baseline;padding:.75rem 1rem;cursor:pointer;list-style:none}
.log summary::-webkit-details-marker{display:none}
.log details[open] summary{border-bottom:1px solid var(--line)}
.log .inside{padding:.9rem 1rem}.log .inside p{margin:0}.log b,.log summary span{overflow-wrap:anywhere}
.log summary .tag{justify-self:start}
@media(max-width:44rem){.log summary{grid-template-columns:minmax(0,1fr) auto}.log summary>.who{order:-2;grid-column:1}.log summary .tag{order:-1;justify-self:end}.log summary time{text-align:right}}
.live::before{content:'';display:inline-block;width:.55rem;height:.55rem;border-radius:50%;background:var(--good);margin-right:.45rem}
.live.lost::before{background:var(--bad)}
.warnings{border-left:.3rem solid var(--warn)}.warnings li{overflow-wrap:anywhere}
.mail{padding:1rem}.mail .head{margin:0}.mail .head>:last-child{margin-left:auto}.mail p{margin:0 0 .8rem}
.mail iframe{width:100%;height:24rem;border:1px solid var(--line);border-radius:.6rem;background:#fff}
.mail pre{margin:0;padding:.2rem 0;font:.82rem/1.5 ui-monospace,'Cascadia Mono',Menlo,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
.empty{text-align:center;padding:2.5rem 1rem}
.refusal{max-width:36rem;margin:8vh auto 0}.refusal .button{margin-top:.6rem}.refusal .ways{margin-bottom:1rem}
`

export const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><defs><linearGradient id="g" x2="1" y2="1"><stop stop-color="#4c4ddc"/><stop offset=".6" stop-color="#b04de0"/><stop offset="1" stop-color="#f0857d"/></linearGradient></defs><rect width="32" height="32" rx="9" fill="url(#g)"/></svg>
`

/** Adds new entries to a list as they are made; neither a decision nor a mail ever changes, so the old ones stay. */
export const liveScript = `
const list = document.getElementById('log')
const light = document.getElementById('live')
async function look() {
  try {
    const answer = await fetch(location.pathname + location.search, { headers: { accept: 'text/html' } })
    if (!answer.ok) throw new Error(answer.statusText)
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html')
    const fresh = [...page.querySelectorAll('#log > li')].filter((item) => !document.getElementById(item.id))
    if (fresh.length) document.getElementById('empty')?.remove()
    list.prepend(...fresh)
    light.classList.remove('lost')
  } catch {
    light.classList.add('lost')
  }
  setTimeout(look, 1500)
}
setTimeout(look, 1500)
`
