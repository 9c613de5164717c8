import { SEEN, type RefusalSeen } from './table.js';

/**
 * Bytes on a connection of HTTP/1.1 and what becomes of them. `{token}` stands for a good token and `SMUGGLED` for a
 * second request that some reader somewhere would see in the first one's body.
 */
export interface Bytes {
  readonly name: string;
  readonly bytes: string;
  readonly expect:
    /** Refused before anything went upstream; the connection ends, so that what follows is read by nobody. */
    | { readonly refused: RefusalSeen }
    /** What the lenient upstream gets: these bytes, with the fields that guardbee adds taken out. */
    | { readonly forwarded: string }
    /** The head was good and went on, the body was not: both sides are cut, and no second request comes of it. */
    | { readonly cut: 'body' };
}

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n';

/** A head of a request that would be let through, and whatever follows. */
const post = (fields: string, body = ''): string =>
  `POST /write HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n${fields}\r\n${body}`;

const CHUNKED = 'Transfer-Encoding: chunked\r\n';
const FIVE = 'Content-Length: 5\r\n';
const LAST = '0\r\n\r\n';

const refused = (seen: RefusalSeen): Bytes['expect'] => ({ refused: seen });
const CUT: Bytes['expect'] = { cut: 'body' };

const FRAMING = refused(SEEN.ambiguousFraming);
const HEAD = refused(SEEN.malformedHead);
const REQUEST = refused(SEEN.malformedRequest);
const TARGET = refused(SEEN.malformedTarget);

const forwarded = (line: string, fields: string, body: string): Bytes['expect'] => ({
  forwarded: `${line} HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n${fields}\r\n${body}`,
});

export const CORPUS: readonly Bytes[] = [
  // Two statements of one length (RFC 9112 §6.3).
  { name: 'a length, then chunks', bytes: post(FIVE + CHUNKED, LAST + SMUGGLED), expect: FRAMING },
  { name: 'chunks, then a length', bytes: post(CHUNKED + FIVE, LAST + SMUGGLED), expect: FRAMING },
  { name: 'two lengths', bytes: post(`${FIVE}Content-Length: 0\r\n`, `hello${SMUGGLED}`), expect: FRAMING },
  { name: 'the same length twice', bytes: post(FIVE + FIVE, `hello${SMUGGLED}`), expect: FRAMING },
  { name: 'a list of lengths', bytes: post('Content-Length: 5, 5\r\n', `hello${SMUGGLED}`), expect: FRAMING },
  // Lengths that are none.
  ...['+5', '-5', '0x5', '5a', '5 5', '1e1', '5,', '', '99999999999999999999', '\u00b2'].map((length) => ({
    name: `the length ${JSON.stringify(length)}`,
    bytes: post(`Content-Length: ${length}\r\n`, `hello${SMUGGLED}`),
    expect: FRAMING,
  })),
  // Encodings of which chunked is not the one and only.
  ...[
    'identity',
    'chunked, identity',
    'identity, chunked',
    'gzip, chunked',
    'chunked, chunked',
    'xchunked',
    'chunkedx',
    'chunked;q=1',
    '"chunked"',
    'chunk\u00e9d',
    '',
  ].map((encoding) => ({
    name: `the encoding ${JSON.stringify(encoding)}`,
    bytes: post(`Transfer-Encoding: ${encoding}\r\n`, LAST + SMUGGLED),
    expect: FRAMING,
  })),
  {
    name: 'two encodings in two fields',
    bytes: post(`${CHUNKED}Transfer-Encoding: identity\r\n`, LAST + SMUGGLED),
    expect: FRAMING,
  },
  { name: 'chunked twice in two fields', bytes: post(CHUNKED + CHUNKED, LAST + SMUGGLED), expect: FRAMING },
  {
    name: 'chunks in HTTP/1.0',
    bytes: post(CHUNKED, LAST + SMUGGLED).replace('HTTP/1.1', 'HTTP/1.0'),
    expect: FRAMING,
  },
  {
    name: 'an encoding in disguise: a vertical tab',
    bytes: post('Transfer-Encoding: \x0bchunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a NUL',
    bytes: post('Transfer-Encoding: chunked\0\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a blank before the colon',
    bytes: post('Transfer-Encoding : chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a tab before the colon',
    bytes: post('Transfer-Encoding\t: chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a folded line',
    bytes: post('Transfer-Encoding:\r\n chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: folded into another field',
    bytes: post('X: y\r\n Transfer-Encoding: chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a bare LF before it',
    bytes: post('X: y\nTransfer-Encoding: chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'an encoding in disguise: a bare CR before it',
    bytes: post('X: y\rTransfer-Encoding: chunked\r\n', LAST + SMUGGLED),
    expect: HEAD,
  },
  {
    name: 'a length in disguise: a blank before the colon',
    bytes: post('Content-Length : 5\r\n', `hello${SMUGGLED}`),
    expect: HEAD,
  },
  {
    name: 'an encoding of the underscore kind is dropped',
    bytes: post(`${FIVE}Transfer_Encoding: chunked\r\nContent_Length: 0\r\nContent.Length: 0\r\n`, 'hello'),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'more fields than Node counts, the encoding last',
    bytes: post(`${Array.from({ length: 2100 }, () => 'a:\r\n').join('')}${CHUNKED}`, LAST + SMUGGLED),
    expect: refused(SEEN.tooManyFields),
  },

  // Fields that are none.
  { name: 'a field without a name', bytes: post(': x\r\n'), expect: HEAD },
  { name: 'a field without a colon', bytes: post('X\r\n'), expect: HEAD },
  { name: 'a name with a blank in it', bytes: post('X Y: z\r\n'), expect: HEAD },
  { name: 'a name with a byte above ASCII', bytes: post('X\u00e9: z\r\n'), expect: HEAD },
  { name: 'a NUL in a name', bytes: post('X\0: y\r\n'), expect: HEAD },
  { name: 'a NUL in a value', bytes: post('X: y\0z\r\n'), expect: HEAD },
  { name: 'a DEL in a value', bytes: post('X: y\x7fz\r\n'), expect: HEAD },
  { name: 'a bare CR in a value', bytes: post('X: y\rz\r\n'), expect: HEAD },
  { name: 'a folded value', bytes: post('X: y\r\n z\r\n'), expect: HEAD },
  { name: 'a value folded with a tab', bytes: post('X: y\r\n\tz\r\n'), expect: HEAD },
  {
    name: 'a blank before the first field',
    bytes: 'POST /write HTTP/1.1\r\n Host: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: HEAD,
  },
  {
    name: 'a head of bare LF',
    bytes: 'POST /write HTTP/1.1\nHost: h\nAuthorization: Bearer {token}\n\n',
    expect: refused(SEEN.version),
  },

  // Request lines.
  {
    name: 'no version',
    bytes: 'GET /read\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: refused(SEEN.version),
  },
  { name: 'the version HTTP/0.9', bytes: 'GET /read HTTP/0.9\r\nHost: h\r\n\r\n', expect: refused(SEEN.version) },
  { name: 'the version HTTP/2.0', bytes: 'GET /read HTTP/2.0\r\nHost: h\r\n\r\n', expect: refused(SEEN.version) },
  { name: 'the version HTTP/1.2', bytes: 'GET /read HTTP/1.2\r\nHost: h\r\n\r\n', expect: refused(SEEN.version) },
  { name: 'the version HTTP/3.0', bytes: 'GET /read HTTP/3.0\r\nHost: h\r\n\r\n', expect: refused(SEEN.version) },
  { name: 'the version in lower case', bytes: 'GET /read http/1.1\r\nHost: h\r\n\r\n', expect: REQUEST },
  {
    name: 'a blank in the target',
    bytes: 'GET /read x HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: REQUEST,
  },
  {
    name: 'a tab in the request line',
    bytes: 'GET\t/read HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: refused(SEEN.method),
  },
  {
    name: 'a blank before the method',
    bytes: ' GET /read HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: refused(SEEN.method),
  },
  {
    name: 'a method in lower case',
    bytes: 'get /read HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: refused(SEEN.method),
  },
  { name: 'a NUL in the target', bytes: 'GET /re\0ad HTTP/1.1\r\nHost: h\r\n\r\n', expect: TARGET },
  { name: 'a byte above ASCII in the target', bytes: 'GET /r\u00e9ad HTTP/1.1\r\nHost: h\r\n\r\n', expect: TARGET },
  { name: 'a DEL in the target', bytes: 'GET /read\x7f HTTP/1.1\r\nHost: h\r\n\r\n', expect: TARGET },
  { name: 'the preface of HTTP/2', bytes: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', expect: REQUEST },
  { name: 'a hello of TLS', bytes: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', expect: refused(SEEN.method) },
  {
    name: 'no host',
    bytes: 'GET /read HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n',
    expect: refused(SEEN.noHost),
  },
  {
    name: 'two hosts, one of them empty',
    bytes: 'GET /read HTTP/1.1\r\nHost: h\r\nHost:\r\n\r\n',
    expect: refused(SEEN.twoHosts),
  },
  { name: 'two hosts in one field', bytes: 'GET /read HTTP/1.1\r\nHost: h, i\r\n\r\n', expect: HEAD },
  { name: 'a host with a blank', bytes: 'GET /read HTTP/1.1\r\nHost: h i\r\n\r\n', expect: HEAD },
  {
    name: 'a target that names another host',
    bytes: 'GET http://i/read HTTP/1.1\r\nHost: h\r\n\r\n',
    expect: refused(SEEN.twoHosts),
  },
  {
    name: 'a target that names another port',
    bytes: 'GET http://h:81/read HTTP/1.1\r\nHost: h\r\n\r\n',
    expect: refused(SEEN.twoHosts),
  },
  { name: 'a target with an empty host', bytes: 'GET http:///read HTTP/1.1\r\nHost: h\r\n\r\n', expect: TARGET },
  { name: 'a target without a path', bytes: 'GET read HTTP/1.1\r\nHost: h\r\n\r\n', expect: TARGET },

  // Chunks that are none: seen only when the head has gone on.
  ...['g', '-5', '+5', '0x5', ' 5', '5_0', 'fffffffffffffffff', ''].map((size) => ({
    name: `the chunk size ${JSON.stringify(size)}`,
    bytes: post(CHUNKED, `${size}\r\nhello\r\n${LAST}${SMUGGLED}`),
    expect: CUT,
  })),
  { name: 'a chunk longer than its size', bytes: post(CHUNKED, `3\r\nhello\r\n${LAST}${SMUGGLED}`), expect: CUT },
  { name: 'a chunk that ends with a bare LF', bytes: post(CHUNKED, `5\r\nhello\n${LAST}${SMUGGLED}`), expect: CUT },
  {
    name: 'a chunk size that ends with a bare LF',
    bytes: post(CHUNKED, `5\nhello\r\n${LAST}${SMUGGLED}`),
    expect: CUT,
  },
  {
    name: 'a chunk size that ends with a bare CR',
    bytes: post(CHUNKED, `5\rhello\r\n${LAST}${SMUGGLED}`),
    expect: CUT,
  },
  {
    name: 'a chunk extension that ends with a bare LF',
    bytes: post(CHUNKED, `5;a=b\nhello\r\n${LAST}${SMUGGLED}`),
    expect: CUT,
  },
  {
    name: 'a chunk extension with a bare CR',
    bytes: post(CHUNKED, `5;a=b\rx\r\nhello\r\n${LAST}${SMUGGLED}`),
    expect: CUT,
  },
  { name: 'a last chunk that is none', bytes: post(CHUNKED, `5\r\nhello\r\n0\r\n${SMUGGLED}`), expect: CUT },

  // What may pass, passes framed by us and by nobody else.
  {
    name: 'a body of stated length',
    bytes: post(FIVE, 'hello'),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'chunks',
    bytes: post(CHUNKED, `2\r\nhe\r\n3\r\nllo\r\n${LAST}`),
    expect: forwarded('POST /write', 'transfer-encoding: chunked\r\n', '{chunks:hello}'),
  },
  {
    name: 'chunks with extensions and a trailer lose both',
    bytes: post(CHUNKED, '5;a=b;c="d"\r\nhello\r\n0;last\r\nX-Auth-User: keeper\r\nX-Trailer: t\r\n\r\n'),
    expect: forwarded('POST /write', 'transfer-encoding: chunked\r\n', '{chunks:hello}'),
  },
  {
    name: 'chunked in capitals',
    bytes: post('TRANSFER-ENCODING: Chunked\r\n', `5\r\nhello\r\n${LAST}`),
    expect: forwarded('POST /write', 'transfer-encoding: chunked\r\n', '{chunks:hello}'),
  },
  {
    name: 'a chunk size with zeros before it',
    bytes: post(CHUNKED, `0005\r\nhello\r\n000\r\n\r\n`),
    expect: forwarded('POST /write', 'transfer-encoding: chunked\r\n', '{chunks:hello}'),
  },
  ...['GET', 'DELETE', 'OPTIONS', 'PATCH', 'QUERY'].flatMap((method): Bytes[] => [
    {
      name: `${method} with a body of stated length that looks like a request`,
      bytes: post(`Content-Length: ${String(SMUGGLED.length)}\r\n`, SMUGGLED).replace('POST', method),
      expect: forwarded(`${method} /write`, `content-length: ${String(SMUGGLED.length)}\r\n`, SMUGGLED),
    },
    {
      name: `${method} with chunks that look like a request`,
      bytes: post(CHUNKED, `${SMUGGLED.length.toString(16)}\r\n${SMUGGLED}\r\n${LAST}`).replace('POST', method),
      expect: forwarded(`${method} /write`, 'transfer-encoding: chunked\r\n', `{chunks:${SMUGGLED}}`),
    },
  ]),
  {
    name: 'POST without a body states that',
    bytes: post(''),
    expect: forwarded('POST /write', 'content-length: 0\r\n', ''),
  },
  {
    name: 'empty lines before the request',
    bytes: `\r\n\r\n${post(FIVE, 'hello')}`,
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'an absolute target becomes a path',
    bytes: post(FIVE, 'hello').replace('/write', 'http://h/write?q=1'),
    expect: forwarded('POST /write?q=1', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'a query goes on byte for byte',
    bytes: post(FIVE, 'hello').replace('/write', '/write?a=%2e%2e/..//;%00"<>|^`{}[]\\'),
    expect: forwarded('POST /write?a=%2e%2e/..//;%00"<>|^`{}[]\\', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'fields named by Connection are dropped, but for ours',
    bytes: post(
      `Connection: X-Drop, X-Forwarded-For, X-Auth-User, Host, Content-Length\r\nX-Drop: 1\r\nX-Keep: 2\r\n${FIVE}`,
      'hello',
    ),
    expect: forwarded('POST /write', 'x-keep: 2\r\ncontent-length: 5\r\n', 'hello'),
  },
  {
    name: 'connection fields stay here',
    bytes: post(
      `Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: X\r\nProxy-Authorization: Basic eDp5\r\n${FIVE}`,
      'hello',
    ),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'fields that rename the request stay here',
    bytes: post(
      `X-Original-URL: /dev/x\r\nX-Rewrite-URL: /dev/x\r\nX-HTTP-Method-Override: DELETE\r\nForwarded: for=1.2.3.4\r\nX_Forwarded_For: 1.2.3.4\r\nX.Auth.User: keeper\r\nX-Guardbee-Anything: x\r\nProxy: evil\r\n${FIVE}`,
      'hello',
    ),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'bytes above ASCII in a value go on as they are',
    bytes: post(`X-Latin: caf\u00e9\r\n${FIVE}`, 'hello'),
    expect: forwarded('POST /write', 'x-latin: caf\u00e9\r\ncontent-length: 5\r\n', 'hello'),
  },
  {
    // RFC 9112 §3: a recipient may read the request line word by word; what goes on has one blank again.
    name: 'two blanks before the target',
    bytes: post(FIVE, 'hello').replace('POST ', 'POST  '),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
  {
    name: 'HTTP/1.0',
    bytes: post(FIVE, 'hello').replace('HTTP/1.1', 'HTTP/1.0'),
    expect: forwarded('POST /write', 'content-length: 5\r\n', 'hello'),
  },
];
