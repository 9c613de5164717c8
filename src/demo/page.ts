import { createHash } from 'node:crypto';

const STYLE = `
:root { color-scheme: light dark; }
body { font: 1.05rem/1.6 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }
section { margin-block: 2rem; }
label { display: block; }
input, button { font: inherit; padding: 0.3rem 0.6rem; }
input { width: 100%; box-sizing: border-box; margin-block: 0.3rem; }
output { display: block; min-height: 3.2em; margin-top: 0.6rem; padding: 0.6rem; border: 1px solid; white-space: pre-wrap;
  overflow-wrap: anywhere; font-family: ui-monospace, monospace; }
:focus-visible { outline: 3px solid #1a73e8; outline-offset: 2px; }
`;

// EventSource can't carry an Authorization field, so with a token the stream is read with fetch.
const SCRIPT = `
const at = (id) => document.getElementById(id);
const token = () => at('token').value.trim();
const headers = () => (token() === '' ? {} : { authorization: 'Bearer ' + token() });
const say = (id, text) => { at(id).textContent = text; };
const add = (id, text) => { at(id).textContent += text; };
let stopStream = () => {};
let socket = null;

at('hello').addEventListener('click', async () => {
  try {
    const response = await fetch('/api/hello', { headers: headers() });
    say('hello-out', response.status + ' ' + response.statusText + '\\n' + (await response.text()));
  } catch (error) {
    say('hello-out', String(error));
  }
});

at('stream').addEventListener('click', () => {
  stopStream();
  say('stream-out', '');
  if (token() === '') streamByEventSource();
  else streamByFetch();
});
at('stop').addEventListener('click', () => stopStream());

function streamByEventSource() {
  const source = new EventSource('/api/stream');
  stopStream = () => source.close();
  source.onmessage = (event) => {
    if (event.data === '[DONE]') source.close();
    else add('stream-out', event.data);
  };
  source.onerror = () => {
    source.close();
    add('stream-out', '\\n(refused or broken off)');
  };
}

async function streamByFetch() {
  const abort = new AbortController();
  stopStream = () => abort.abort();
  try {
    const response = await fetch('/api/stream', { headers: headers(), signal: abort.signal });
    if (!response.ok) return say('stream-out', response.status + '\\n' + (await response.text()));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      text += piece.value;
      const events = text.split('\\n\\n');
      text = events.pop();
      for (const event of events) {
        const data = event.replace(/^data: /, '');
        if (data !== '[DONE]') add('stream-out', data);
      }
    }
  } catch (error) {
    if (!abort.signal.aborted) say('stream-out', String(error));
  }
}

at('echo').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = at('message').value;
  if (socket !== null && socket.readyState === WebSocket.OPEN) return socket.send(text);
  const protocols = token() === '' ? [] : ['bearer', token()];
  socket = new WebSocket(location.origin.replace(/^http/, 'ws') + '/ws', protocols);
  say('echo-out', '');
  socket.onopen = () => socket.send(text);
  socket.onmessage = (message) => add('echo-out', message.data + '\\n');
  socket.onclose = (end) => add('echo-out', '(closed, code ' + end.code + ')\\n');
});
`;

/** The demo's page: one document, nothing fetched from anywhere. */
export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>guardbee demo service</title>
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<main>
<h1>The service behind the bee</h1>
<p>This page, its API, its event stream and its WebSocket are answered by a small service that trusts everyone. guardbee
stands in front of it and lets through what the policy allows.</p>
<section aria-labelledby="credential">
<h2 id="credential">Your token</h2>
<label for="token">Token, as printed at the start (it stays in this page)</label>
<input id="token" type="password" autocomplete="off" spellcheck="false">
</section>
<section aria-labelledby="api">
<h2 id="api">API</h2>
<button id="hello" type="button">GET /api/hello</button>
<output id="hello-out" aria-live="polite" aria-label="Answer of the API"></output>
</section>
<section aria-labelledby="events">
<h2 id="events">Event stream</h2>
<button id="stream" type="button">GET /api/stream</button>
<button id="stop" type="button">Stop</button>
<output id="stream-out" aria-live="polite" aria-label="Tokens received"></output>
</section>
<section aria-labelledby="websocket">
<h2 id="websocket">WebSocket</h2>
<form id="echo">
<label for="message">Message to send to /ws</label>
<input id="message" value="hello, hive">
<button>Send</button>
</form>
<output id="echo-out" aria-live="polite" aria-label="Echoes received"></output>
</section>
</main>
<script>${SCRIPT}</script>
</body>
</html>
`;

const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

/** Exactly this page's script and style run, and it talks to its own origin only. */
export const PAGE_CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  `script-src ${hash(SCRIPT)}`,
  `style-src ${hash(STYLE)}`,
  'img-src data:',
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');
