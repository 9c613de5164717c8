/**
 * What looks like a secret and is none. What is masked of it all the same is counted: the numbers below are ceilings,
 * and the README says them. A digest of 32 hex digits or more cannot be told from a key by what it looks like.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import { logLine } from '../../bench/log-lines.js';
import { lineByLine, searchThatKnows, streamed } from './streams.js';

let made = 0;

/** The same at each run. */
function digest(algorithm: 'md5' | 'sha1' | 'sha256'): Buffer {
  made++;
  return createHash(algorithm).update(String(made)).digest();
}

const hex = (digits: number): string => digest('sha256').toString('hex').slice(0, digits);
const uuid = (): string => `${hex(8)}-${hex(4)}-4${hex(3)}-a${hex(3)}-${hex(12)}`;
const number = (below: number): number => digest('sha256').readUInt32BE() % below;
const of = <T>(choices: readonly T[]): T => choices[number(choices.length)]!;
const pod = (length: number): string =>
  [...digest('sha256')]
    .slice(0, length)
    .map((byte) => 'bcdfghjklmnpqrstvwxz2456789'[byte % 27])
    .join('');

const MODELS = [
  'meta-llama/Meta-Llama-3-8B-Instruct',
  'TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ',
  'Qwen/Qwen2.5-Coder-32B-Instruct-AWQ',
  'mistralai/Mistral-7B-Instruct-v0.3',
  'deepseek-ai/DeepSeek-R1-Distill-Qwen-32B',
  'google/gemma-2-27b-it',
  'microsoft/Phi-3-mini-128k-instruct-onnx',
  'stabilityai/stable-diffusion-xl-base-1.0',
  'sentence-transformers/all-MiniLM-L6-v2',
  'bartowski/Meta-Llama-3.1-8B-Instruct-GGUF/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf',
  'openai/whisper-large-v3-turbo',
  'NousResearch/Hermes-3-Llama-3.1-405B-FP8',
  'BAAI/bge-reranker-v2-m3',
  'HuggingFaceH4/zephyr-7b-beta',
  'black-forest-labs/FLUX.1-dev',
];

const PATHS = [
  '/usr/lib/python3.11/site-packages/vllm/engine/async_llm_engine.py',
  '/home/rbee/.cache/huggingface/hub/models--meta-llama--Meta-Llama-3-8B-Instruct/snapshots',
  '/var/lib/containers/storage/overlay/l',
  'C:\\Users\\Administrator\\AppData\\Local\\Programs\\Python\\Python311\\python.exe',
  '/opt/cuda-12.4.1/targets/x86_64-linux/lib/libcublasLt.so.12.4.5.8',
  'src/bin/queen-rbee/http/routes/job_submission_handler.rs:1234:56',
  '/nix/store/y1j3gjkqv2xq4bq1c8h7d8w6r0nqkz6a-python3-3.11.9/bin/python3',
  'node_modules/@typescript-eslint/eslint-plugin/dist/rules/no-unnecessary-type-assertion.js',
  '/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/hwmon/hwmon3/temp1_input',
  '/static/js/vendors~main.8f3a5b1c.chunk.js',
];

/** A kind of text, what makes it, and how many of 200 may be masked. */
const KINDS: readonly (readonly [kind: string, make: () => string, ceiling: number])[] = [
  ['UUIDs', () => `request ${uuid()} done`, 0],
  ['UUIDs after a word', () => `GET /v1/jobs/job-${uuid()}/stream`, 0],
  ['identifiers of GPUs', () => `GPU 0: NVIDIA GeForce RTX 3090 (UUID: GPU-${uuid()})`, 0],
  ['short git hashes', () => `checked out ${hex(7 + number(6))} on main`, 0],
  ['git hashes', () => `commit ${digest('sha1').toString('hex')}`, 200],
  ['digests of models', () => `pulling sha256:${hex(64)} done`, 200],
  ['identifiers of traces', () => `trace_id=${hex(32)} span_id=${hex(16)}`, 200],
  ['MD5 sums', () => `${digest('md5').toString('hex')}  model.bin`, 200],
  ['etags', () => `etag: W/"${hex(8)}-${hex(11)}"`, 0],
  [
    'images in data URLs',
    () =>
      `<img src="data:image/png;base64,iVBORw0KGgo${Buffer.concat([digest('sha256'), digest('sha256'), digest('sha256')]).toString('base64')}">`,
    200,
  ],
  ['paths of files', () => `open ${of(PATHS)}: ENOENT (attempt ${number(99)})`, 20],
  ['hugging face models', () => `Loading ${of(MODELS)} took ${number(999)} ms`, 12],
  [
    'snapshots of hugging face',
    () => `/hub/models--Qwen--Qwen2.5-7B/snapshots/${digest('sha1').toString('hex')}/config.json`,
    200,
  ],
  ['pods of Kubernetes', () => `pod/queen-rbee-${pod(9)}-${pod(5)} Running`, 0],
  ['containers', () => `container ${hex(12)} started`, 0],
  [
    'times',
    () =>
      `2026-07-29T12:${10 + number(50)}:07.${hex(0)}${100_000_000 + number(899_999_999)}Z 29/Jul/2026:12:00:07 +0000`,
    0,
  ],
  ['epochs in nanoseconds', () => `ts=17537904${10_000_000_000 + number(899_999_999)} dur=${number(1e9)}`, 0],
  [
    'names of tensors',
    () =>
      `model.layers.${number(80)}.self_attn.rotary_emb.inv_freq blk.${number(80)}.ffn_gate_exps.weight [4096, 14336]`,
    0,
  ],
  ['versions', () => `torch-2.3.${number(9)}+cu121-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl`, 0],
  [
    'addresses',
    () =>
      `peer [2001:db8:85a3::8a2e:${hex(4)}:${hex(4)}]:443 from 10.0.${number(255)}.${number(255)}:${1024 + number(60_000)} mac 02:42:ac:11:${hex(2)}:${hex(2)}`,
    0,
  ],
  [
    'browsers',
    () =>
      `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.${number(9)} Safari/605.1.15`,
    0,
  ],
  [
    'modules of Rust',
    () =>
      `tokio::runtime::scheduler::multi_thread::worker::Context::run${number(9)} core::ops::function::FnOnce::call_once`,
    0,
  ],
  ['mangled names', () => `_ZN4core3ops8function6FnOnce9call_once17h${hex(16)}E`, 200],
  [
    'metrics',
    () => `http_request_duration_seconds_bucket{le="0.${number(99)}",path="/v1/chat/completions"} ${number(1e6)}`,
    0,
  ],
  [
    'usage of tokens',
    () =>
      `{"usage":{"prompt_tokens":${number(9999)},"completion_tokens":${number(99)},"total_tokens":${number(9999)}},"finish_reason":"stop"}`,
    0,
  ],
  [
    'sentences about secrets',
    () =>
      of([
        'the key is missing',
        'no token was shown',
        'password: expected a string',
        'a bearer token is needed',
        'API key not found',
        'cookie dropped',
        'the secret of a good log',
      ]),
    29,
  ],
  ['identifiers of completions', () => `"id":"chatcmpl-${hex(24)}","object":"chat.completion"`, 190],
  [
    'hostnames',
    () =>
      `ip-10-0-${number(255)}-12.eu-central-1.compute.internal ec2-18-185-${number(255)}-7.eu-central-1.compute.amazonaws.com`,
    0,
  ],
  ['addresses of memory', () => `thread 0x00007f${hex(10)} at 0x${hex(16)}`, 0],
  ['certificates', () => `serial ${hex(16)} CN=queen.lan,O=rbee notAfter=2027-07-29`, 0],
];

const EACH = 200;
const LINES = 4_000;
const search = searchThatKnows();
const masks = (text: string): number => {
  const bytes = Buffer.from(text);
  const out = streamed(search, [bytes]);
  assert.ok(out.equals(lineByLine(search, bytes)));
  return out.equals(bytes) ? 0 : 1;
};

describe('of innocent text no more is masked than is said here', () => {
  for (const [kind, make, ceiling] of KINDS) {
    test(kind, (t) => {
      let masked = 0;
      let example = '';
      for (let index = 0; index < EACH; index++) {
        const text = make();
        if (masks(text) === 0) continue;
        masked++;
        example = text;
      }
      t.diagnostic(`${String(masked)} of ${String(EACH)}`);
      assert.ok(masked <= ceiling, `${String(masked)} of ${String(EACH)}, such as ${example}`);
      // A ceiling that is never reached tells nobody anything.
      assert.ok(ceiling === 0 || masked > 0.8 * ceiling, `${String(masked)} of ${String(EACH)}`);
    });
  }
});

test('of a log of services one line in fifty, that with the digests, is masked and holds no secret', () => {
  let innocent = 0;
  let masked = 0;
  for (let index = 0; index < LINES; index++) {
    if (index % 100 === 99) continue;
    innocent++;
    masked += masks(logLine(index));
  }
  assert.equal(masked, LINES / 50);
  assert.ok(innocent > 0.95 * LINES);
});
