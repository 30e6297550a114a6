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
let provider;

function newKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

// The first key of a provider's set signs; a provider never changes, so a rotation is another one.
function start() {
  provider = new Provider(issuer, {
    jwks: { keys },
    clients: [{
      client_id: 'pipeline', client_secret: 'a-secret-of-the-tests', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_post', id_token_signed_response_alg: 'ES256',
    }, {
      client_id: 'nightly', client_secret: 'a-secret-of-the-tests', grant_types: ['client_credentials'],
      redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_basic', id_token_signed_response_alg: 'ES256',
    }, {
      client_id: 'bulkhead-cli', application_type: 'native', token_endpoint_auth_method: 'none', id_token_signed_response_alg: 'ES256',
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'],
    }],
    scopes: ['openid', 'offline_access', 'chat', 'models'],
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    cookies: { keys: ['of the tests'] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => 'https://bulkhead.test',
        useGrantedResource: () => true,
        getResourceServerInfo: () => ({
          scope: 'chat models', audience: AUDIENCE, accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: 'ES256' } },
        }),
      },
    },
    // Access tokens of people say how they logged in (RFC 9470 §6); those of pipelines have nobody who did.
    extraTokenClaims: ({ oidc }) => {
      const { acr, amr, authTime } = oidc.entities.AuthorizationCode ?? oidc.entities.RefreshToken ?? {};
      return { tenant: 'acme', ...(amr && { acr, amr, auth_time: authTime }) };
    },
  });
  app = provider.callback();
}

// Alice is whoever asks, and agrees to everything; who says `mallory` is declined.
async function interact(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (params.login_hint === 'mallory') {
    return provider.interactionFinished(request, response, { error: 'access_denied', error_description: 'not today' });
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: 'alice', acr: 'phrh', amr: ['pwd', 'hwk'] } });
  }
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope('openid offline_access chat models');
  grant.addResourceScope('https://bulkhead.test', 'chat models');
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
}

const doors = {
  '/test/publish': () => { keys = [...keys, newKey()]; },
  '/test/sign': () => { keys = [keys.at(-1), ...keys.slice(0, -1)]; },
  '/test/remove': () => { keys = [keys[0]]; },
};

const server = createServer((request, response) => {
  if (request.url.startsWith('/interaction/')) return interact(request, response);
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
