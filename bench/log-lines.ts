/**
 * Lines as services write them, for `bench/redact.ts` and for tests: nginx, Rust's tracing with its colours, Python's
 * logging and a traceback, vLLM, JSON, llama.cpp. One in a hundred holds a secret, and one in fifty is masked for what
 * it looks like: trace identifiers and digests.
 */
import { createHash } from 'node:crypto';

/** Numbers that look like chance and are the same each time: how often something is masked does not depend on luck. */
class Chance {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    // xorshift32
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % limit;
  }

  hex(digits: number): string {
    let text = '';
    while (text.length < digits) text += this.below(0x1000000).toString(16).padStart(6, '0');
    return text.slice(0, digits);
  }

  uuid(): string {
    return `${this.hex(8)}-${this.hex(4)}-4${this.hex(3)}-a${this.hex(3)}-${this.hex(12)}`;
  }

  of<T>(choices: readonly T[]): T {
    const chosen = choices[this.below(choices.length)];
    if (chosen === undefined) throw new RangeError('nothing to choose from');
    return chosen;
  }
}

const AGENTS = [
  'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36',
  'python-requests/2.31.0',
  'OpenAI/Python 1.35.3',
  'curl/8.5.0',
];
const MODELS = ['meta-llama/Meta-Llama-3-8B-Instruct', 'Qwen/Qwen2.5-7B-Instruct-GGUF', 'mistralai/Mixtral-8x7B-v0.1'];
const MODULES = ['queen_rbee::http::jobs', 'hyper::proto::h1::io', 'worker_orcd::scheduler', 'hive::registry'];
const PATHS = ['/v1/models', '/health', '/v1/chat/completions', '/static/js/main.chunk.js', '/metrics'];

/** @param number the same number makes the same line. */
export function logLine(number: number): string {
  const chance = new Chance((number + 1) * 0x9e3779b1);
  for (let warm = 0; warm < 3; warm++) chance.below(2);
  const ms = chance.below(1_000_000);
  const time = `2026-07-29T12:${String(chance.below(60)).padStart(2, '0')}:07.${String(ms).padStart(6, '0')}`;
  const address = `192.168.1.${String(chance.below(250))}`;
  if (number % 100 === 99) return secretLine(number, time);
  if (number % 50 === 48) return `${time} DEBUG trace_id=${chance.hex(32)} model blob sha256:${chance.hex(64)} ready`;
  switch (chance.below(9)) {
    case 0:
      return `${address} - - [29/Jul/2026:12:00:${String(chance.below(60))} +0000] "GET /v1/jobs/job-${chance.uuid()}/stream HTTP/1.1" 200 ${String(ms)} "-" "${chance.of(AGENTS)}"`;
    case 1:
      return `${address} - - [29/Jul/2026:12:00:${String(chance.below(60))} +0000] "POST ${chance.of(PATHS)}?limit=20&order=desc HTTP/1.1" 200 ${String(ms)} "https://queen.lan/ui/" "${chance.of(AGENTS)}"`;
    case 2:
      return `\u001b[2m${time}Z\u001b[0m \u001b[32m INFO\u001b[0m \u001b[2m${chance.of(MODULES)}\u001b[0m\u001b[2m:\u001b[0m request finished \u001b[3mlatency_ms\u001b[0m\u001b[2m=\u001b[0m${String(ms)} \u001b[3mstatus\u001b[0m\u001b[2m=\u001b[0m200`;
    case 3:
      return `2026-07-29 12:00:07,${String(ms)} - ${chance.of(['vllm.engine.metrics', 'uvicorn.access', 'asyncio'])} - INFO - Avg prompt throughput: ${String(chance.below(900))}.3 tokens/s, Avg generation throughput: 34.5 tokens/s, Running: 1 reqs, GPU KV cache usage: 12.3%`;
    case 4:
      return JSON.stringify({
        timestamp: `${time}Z`,
        level: 'INFO',
        target: chance.of(MODULES),
        fields: { message: 'job finished', job_id: `job-${chance.uuid()}`, model: chance.of(MODELS), tokens: ms },
      });
    case 5:
      return `  File "/usr/lib/python3.11/site-packages/vllm/engine/async_llm_engine.py", line ${String(chance.below(999))}, in _log_task_completion`;
    case 6:
      return `llama_model_loader: - tensor  ${String(chance.below(300))}:              blk.${String(chance.below(80))}.attn_q.weight q4_K     [  4096,  4096,     1,     1 ]`;
    case 7:
      return `2026/07/29 12:00:07 [error] 31#31: *${String(ms)} connect() failed (111: Connection refused) while connecting to upstream, client: ${address}, server: queen.lan, request: "GET ${chance.of(PATHS)} HTTP/1.1", upstream: "http://127.0.0.1:7833${chance.of(PATHS)}", host: "queen.lan"`;
    default:
      return `INFO 07-29 12:00:07 model_runner.py:${String(chance.below(2000))}] Loading model weights of ${chance.of(MODELS)} took ${String(ms)} ms — größer als erwartet`;
  }
}

/** Made here, so that no scanner finds it in the repository. */
function secretLine(number: number, time: string): string {
  const secret = createHash('sha256').update(String(number)).digest('base64url');
  switch (Math.floor(number / 100) % 4) {
    case 0:
      return `> Authorization: Bearer ${secret}`;
    case 1:
      return `${time} WARN config dump: {"hf_token":"${'hf' + '_'}${secret.replace(/[-_]/g, 'x')}","port":7833}`;
    case 2:
      return `${time} ERROR cannot connect to postgres://rbee:${secret}@db.lan:5432/rbee`;
    default:
      return `export OPENAI_API_KEY=${secret}`;
  }
}

/** Lines from `from` on, until there are `bytes` of them; each begins with its number. */
export function* logChunks(bytes: number, chunkBytes = 1 << 20): Generator<Buffer> {
  let left = bytes;
  for (let number = 0; left > 0;) {
    let text = '';
    while (text.length < Math.min(chunkBytes, left)) {
      text += `${String(number)} ${logLine(number)}\n`;
      number++;
    }
    const chunk = Buffer.from(text);
    left -= chunk.length;
    yield chunk;
  }
}
