// The certified `oidc-provider` on a loopback port, with a door for tests: POST /test/publish adds a key that does not sign
// yet, /test/sign signs with the newest one, /test/remove takes all but that one away. Prints its port. Run by the tests.
//
//   node provider.mjs MODULES
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const entry = `${process.argv[2]}/node_modules/oidc-provider/lib/index.js`;
const { Provider } = await import(pathToFileURL(entry).href);
const AUDIENCE = 'bulkhead';

let issuer;
let keys = [newKey()];
let app;

function newKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

// The first key of a provider's set signs; a provider never changes, so a rotation is another one.
function start() {
  const provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'pipeline', client_secret: 'a-secret-of-the-tests', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_post', id_token_signed_response_alg: 'ES256',
    }],
    scopes: ['chat', 'models'],
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'https://bulkhead.test',
        getResourceServerInfo: () => ({
          scope: 'chat models', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    extraTokenClaims: () => ({ tenant: 'acme' }),
  });
  app = provider.callback();
}

const doors = {
  '/test/publish': () => { keys = [...keys, newKey()]; },
  '/test/sign': () => { keys = [keys.at(-1), ...keys.slice(0, -1)]; },
  '/test/remove': () => { keys = [keys[0]]; },
};

const server = createServer((request, response) => {
  const door = request.method === 'POST' && doors[request.url];
  if (!door) return app(request, response);
  door();
  start();
  response.end('{}');
});
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  issuer = `http://127.0.0.1:${port}`;
  start();
  console.log(`listening on ${port}`);
});
