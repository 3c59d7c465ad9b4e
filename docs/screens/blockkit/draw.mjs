// Draws what the story "incident" kept of Slack (go test ./cmd/bgbot -args -dump DIR) at the width of a phone:
//
//	node draw.mjs DIR OUT
//
// Blocks are drawn by slack-blocks-to-jsx and not by Slack's own clients; the frame around them is ours.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createElement as h } from "react";
import { renderToStaticMarkup } from "react-dom/server";
import { Message } from "slack-blocks-to-jsx";

const [kept, out] = process.argv.slice(2).map((dir) => resolve(dir));
const css = readFileSync(createRequire(import.meta.url).resolve("slack-blocks-to-jsx/dist/style.css"), "utf8");
const width = 390;

const face = (letter, color) =>
  "data:image/svg+xml," +
  encodeURIComponent(
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 36 36"><rect width="36" height="36" rx="6" fill="${color}"/>` +
      `<text x="18" y="25" font-family="Lato" font-size="20" font-weight="700" fill="#fff" text-anchor="middle">${letter}</text></svg>`,
  );
const people = { true: { name: "bgbot", logo: face("b", "#1d6f5f") }, false: { name: "operator", logo: face("o", "#6b5b95") } };

// Files are no blocks: Slack draws them itself, below the message.
const file = (f) =>
  f.Type.startsWith("image/")
    ? h("figure", { key: f.Name }, h("img", { src: `data:${f.Type};base64,${f.Data}` }), h("figcaption", null, f.Name))
    : h("div", { className: "file", key: f.Name }, "📄 ", f.Name);

// Where the renderer differs from Slack's documents: "verbatim" turns off links and not the markup, and what is between two
// colons is an emoji only if there is one of that name (else the time 10:20:30 would lose its colons).
const blocks = (all) => all.map((b) => (b.text?.verbatim ? { ...b, text: { ...b.text, verbatim: false } } : b));
const hooks = { emoji: (e, parse) => (parse(e) === e.name ? `:${e.name}:` : parse(e)) };

const said = (m) => (m.blocks.length ? blocks(m.blocks) : [{ type: "section", text: { type: "plain_text", text: m.text } }]);
const message = (m, i) =>
  h(
    "article",
    { key: i, className: m.bot ? "bot" : "person" },
    h(Message, { blocks: said(m), time: new Date(m.at), hooks, ...people[m.bot] }),
    ...(m.files ?? []).map(file),
  );

const page = (title, body) => `<!doctype html><meta charset="utf-8"><style>${css}</style><style>
html { background: #fff; } body { margin: 0; width: ${width}px; font-family: Lato, "Noto Color Emoji"; }
header { font-weight: 700; font-size: 17px; padding: 12px 16px; border-bottom: 1px solid #ddd; }
header small { display: block; font-weight: 400; font-size: 13px; color: #616061; }
article, main { padding: 8px 16px 4px; } main .slack_blocks_to_jsx > :first-child, main .slack_blocks_to_jsx--header { display: none !important; }
.person h3 + div { display: none !important; }
.slack_blocks_to_jsx :not(code, pre, pre *) { font-family: Lato, "Noto Color Emoji"; }
.slack_blocks_to_jsx__markdown_block { white-space: normal !important; } .slack_blocks_to_jsx__markdown_block p { margin: 0 0 8px !important; }
code.slack_code_inline { display: inline !important; -webkit-box-decoration-break: clone; }
button { height: 36px !important; font-size: 15px !important; padding: 0 12px !important; }
.file, figure { margin: 4px 0 4px 44px; padding: 10px; border: 1px solid #ddd; border-radius: 8px; font-weight: 700; font-size: 14px; }
figure img { width: 100%; border-radius: 4px; } figcaption { padding-top: 6px; }
</style><header>${title}</header>${renderToStaticMarkup(body)}`;

const chromium = (...args) => {
  const profile = mkdtempSync(join(tmpdir(), "screens-"));
  try {
    return execFileSync(
      "chromium",
      ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-device-scale-factor=2", `--user-data-dir=${profile}`, ...args],
      { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"], maxBuffer: 1 << 26, timeout: 120_000 },
    );
  } finally {
    rmSync(profile, { recursive: true, force: true });
  }
};

// draw asks the page for its height first.
function draw(name, html) {
  const source = join(kept, name + ".html");
  writeFileSync(source, html + `<script>document.title = Math.ceil(document.body.getBoundingClientRect().height)</script>`);
  const height = Number(/<title>(\d+)<\/title>/.exec(chromium("--dump-dom", `--window-size=${width},800`, `file://${source}`))[1]);
  chromium(`--screenshot=${join(out, `slack-${name}.png`)}`, `--window-size=${width},${height}`, `file://${source}`);
}

// The card is the thread when the agent asks; what the thread shows is how it went on from there.
const read = (name) => JSON.parse(readFileSync(join(kept, name + ".json"), "utf8"));
const thread = "Thread<small>#devvm-breakglass</small>";
const asked = read("card");
draw("card", page(thread, asked.map(message)));
draw("thread", page(thread, read("thread").slice(asked.length - 1).map(message)));
draw("home", page("bgbot<small>Home</small>", h("main", null, h(Message, { blocks: blocks(read("home").blocks), time: new Date(), hooks, ...people.true }))));
