import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  type CredentialResult,
  carrierField,
  readCredential,
  withoutCredential,
} from '../../src/identity/credential.js';
import { TOKEN_CARRIERS, type Carrier } from '../../src/policy/policy.js';
import { handshake, head1, read } from '../http/heads.js';

const TOKEN = 'gb_0123456789abcdef-ABCDEF~+/=';
const ALL: ReadonlySet<Carrier> = new Set(TOKEN_CARRIERS);

/** What was read, with the credential's parts laid open. */
type Read =
  | Exclude<CredentialResult, { kind: 'shown' }>
  | { readonly kind: 'shown'; readonly credential: Readonly<Record<string, string | number>> };

const shown = (carrier: Carrier, token: string): Read => {
  const sha256 = createHash('sha256').update(token).digest('hex');
  const fingerprint = sha256.slice(0, 6);
  return { kind: 'shown', credential: { carrier, sha256, fingerprint, length: token.length, token } };
};
const NONE: Read = { kind: 'none' };
const MALFORMED: Read = { kind: 'refused', reason: 'credential_malformed' };
const AMBIGUOUS: Read = { kind: 'refused', reason: 'credential_ambiguous' };

const open = (result: CredentialResult): Read => {
  if (result.kind !== 'shown') return result;
  const { carrier, sha256, fingerprint, length } = result.credential;
  return { kind: 'shown', credential: { carrier, sha256, fingerprint, length, token: result.credential.reveal() } };
};
const ofRequest = (lines: readonly string[], carriers = ALL): Read =>
  open(readCredential(read(head1({}, ...lines)), carriers));
const ofHandshake = (lines: readonly string[], carriers = ALL): Read =>
  open(readCredential(read(handshake(...lines)), carriers));

describe('credentials are counted before they are read', () => {
  const ROWS: readonly (readonly [lines: readonly string[], result: Read])[] = [
    [[], NONE],
    [[`Authorization: Bearer ${TOKEN}`], shown('authorization', TOKEN)],
    [[`Authorization: bearer ${TOKEN}`], shown('authorization', TOKEN)],
    [[`AUTHORIZATION: BEARER ${TOKEN}`], shown('authorization', TOKEN)],
    [[`Authorization: Bearer    ${TOKEN}`], shown('authorization', TOKEN)],
    [[`X-API-Key: ${TOKEN}`], shown('x_api_key', TOKEN)],
    [[`x-api-key: !"#$%&'()*+,-./:;<=>?@[\\]^_\`{|}~`], shown('x_api_key', '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~')],
    [[`X-Guardbee-Token: ${TOKEN}`], shown('x_guardbee_token', TOKEN)],
    [['X-Api-Key: a'], shown('x_api_key', 'a')],
    [[`X-Api-Key: ${'a'.repeat(8192)}`], shown('x_api_key', 'a'.repeat(8192))],
    // Other schemes are nobody's here, and are not counted.
    [['Authorization: Basic eDp5'], NONE],
    [['Authorization: Digest a=b'], NONE],
    [['Authorization:'], NONE],
    [[`Authorization: ${TOKEN}`], NONE],
    [[`Authorization: Bearer\t${TOKEN}`], NONE],
    [[`Authorization: Bearer:${TOKEN}`], NONE],
    [[`Authorization: Bearer=${TOKEN}`], NONE],
    [[`Authorization: XBearer ${TOKEN}`], NONE],
    [[`Authorization: Token ${TOKEN}`], NONE],
    [['Authorization: Basic eDp5', `X-Api-Key: ${TOKEN}`], shown('x_api_key', TOKEN)],
    [[`X_Api_Key: ${TOKEN}`], NONE],
    [[`Proxy-Authorization: Bearer ${TOKEN}`], NONE],
    [[`Cookie: token=${TOKEN}`], NONE],
    // Not a token.
    [['Authorization: Bearer'], MALFORMED],
    [['Authorization: Bearer '], MALFORMED],
    [[`Authorization: Bearer ${TOKEN} `], MALFORMED],
    [[`Authorization: Bearer ${TOKEN}, Bearer ${TOKEN}`], MALFORMED],
    [[`Authorization: Bearer a b`], MALFORMED],
    [[`Authorization: Bearer ${TOKEN}\u00a0`], MALFORMED],
    [[`Authorization: Bearer caf\u00e9`], MALFORMED],
    [['X-Api-Key:'], MALFORMED],
    [['X-Api-Key: a b'], MALFORMED],
    [[`X-Api-Key: ${'a'.repeat(8193)}`], MALFORMED],
    [['X-Guardbee-Token: \u00ff'], MALFORMED],
    // Two: whichever we took, somebody else would take the other. Equal ones too.
    [[`Authorization: Bearer ${TOKEN}`, `X-Api-Key: ${TOKEN}`], AMBIGUOUS],
    [[`Authorization: Bearer ${TOKEN}`, `X-Guardbee-Token: other`], AMBIGUOUS],
    [[`X-Api-Key: ${TOKEN}`, `X-Guardbee-Token: ${TOKEN}`], AMBIGUOUS],
    [[`X-Api-Key: ${TOKEN}`, `X-Api-Key: ${TOKEN}`], AMBIGUOUS],
    [[`X-Api-Key: ${TOKEN}`, 'x-api-key:'], AMBIGUOUS],
    [[`X-Guardbee-Token: a`, 'X-GUARDBEE-TOKEN: b'], AMBIGUOUS],
    [['Authorization: Bearer', 'X-Api-Key:'], AMBIGUOUS],
    [[`X-Api-Key: ${TOKEN}, ${TOKEN}`], MALFORMED],
  ];
  for (const [lines, result] of ROWS)
    test(JSON.stringify(lines).slice(0, 120), () => {
      assert.deepEqual(ofRequest(lines), result);
      // A handshake is no different.
      assert.deepEqual(ofHandshake(lines), result);
    });

  describe('in the list of subprotocols', () => {
    const PROTOCOLS: readonly (readonly [list: string, result: Read, left: readonly string[]])[] = [
      ['chat', NONE, ['chat']],
      [`bearer, ${TOKEN.replace('+', '')}`, shown('subprotocol', TOKEN.replace('+', '')), []],
      ['bearer, a+b/c==', shown('subprotocol', 'a+b/c=='), []],
      ['chat, bearer, token, v2', shown('subprotocol', 'token'), ['chat', 'v2']],
      ['bearer', MALFORMED, []],
      ['chat, bearer', MALFORMED, ['chat']],
      // Names of subprotocols are compared with regard to case.
      ['Bearer, token', NONE, ['Bearer', 'token']],
      ['bearer.token', NONE, ['bearer.token']],
    ];
    for (const [list, result, left] of PROTOCOLS) {
      test(list, () => {
        const lines = [`Sec-WebSocket-Protocol: ${list}`];
        assert.deepEqual(ofHandshake(lines), result);
        assert.deepEqual(ofRequest(lines), NONE, 'only in a handshake');
        assert.deepEqual(withoutCredential(read(handshake(...lines)).webSocket?.subprotocols ?? []), left);
      });
    }

    test('over two fields', () => {
      const lines = ['Sec-WebSocket-Protocol: chat, bearer', 'Sec-WebSocket-Protocol: token'];
      assert.deepEqual(ofHandshake(lines), shown('subprotocol', 'token'));
    });

    test('beside another', () => {
      for (const other of [`Authorization: Bearer ${TOKEN}`, `X-Api-Key: ${TOKEN}`, `X-Guardbee-Token: ${TOKEN}`])
        assert.deepEqual(ofHandshake(['Sec-WebSocket-Protocol: bearer, token', other]), AMBIGUOUS);
    });
  });

  describe('only enabled carriers count', () => {
    const lines = [
      `Authorization: Bearer of-authorization`,
      `X-Api-Key: of-x_api_key`,
      `X-Guardbee-Token: of-x_guardbee_token`,
      `Sec-WebSocket-Protocol: bearer, of-subprotocol`,
    ];
    test('none of them', () => assert.deepEqual(ofHandshake(lines, new Set()), NONE));
    for (const carrier of TOKEN_CARRIERS) {
      test(`${carrier} alone`, () =>
        assert.deepEqual(ofHandshake(lines, new Set([carrier])), shown(carrier, `of-${carrier}`)));
      test(`two with ${carrier}`, () => {
        for (const other of TOKEN_CARRIERS.filter((one) => one !== carrier))
          assert.deepEqual(ofHandshake(lines, new Set([carrier, other])), AMBIGUOUS);
      });
    }
    test('and what is malformed elsewhere is not looked at', () => {
      const bad = ['Authorization: Bearer a b', 'X-Api-Key:', 'X-Guardbee-Token: good'];
      assert.deepEqual(ofRequest(bad, new Set(['x_guardbee_token'])), shown('x_guardbee_token', 'good'));
    });
  });

  test('every carrier has its field, but for the list of subprotocols', () => {
    assert.deepEqual(TOKEN_CARRIERS.map(carrierField), ['authorization', 'x-api-key', 'x-guardbee-token', null]);
  });

  test('what is taken out of the list of subprotocols is the credential, and nothing else', () => {
    const name = fc.constantFrom('chat', 'v2', 'bearer', 'Bearer', 'token', 'a');
    fc.assert(
      fc.property(fc.uniqueArray(name), (list) => {
        const left = withoutCredential(list);
        assert.ok(!left.includes('bearer'));
        const at = list.indexOf('bearer');
        const token = at === -1 ? undefined : list[at + 1];
        assert.deepEqual(
          left,
          list.filter((one) => one !== 'bearer' && one !== token),
        );
      }),
    );
  });
});
