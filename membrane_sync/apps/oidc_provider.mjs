// An OAuth 2.0 provider on loopback, and beside it `/api`, a resource server for its access tokens.
import http from 'node:http';
import Provider from 'oidc-provider';

const options = JSON.parse(process.env.PROVIDER_OPTIONS);
const base = `http://127.0.0.1:${options.port}`;
const scope = options.scopes.join(' ');
const apiScope = 'api:read api:write';
const secretOf = (id) => `${id}-secret-0123456789abcdef0123456789`;
const grants = {
  code: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
  machine: ['client_credentials'],
};

function client(id, method, extra = {}) {
  const secret = method.startsWith('client_secret') ? { client_secret: secretOf(id) } : {};
  return {
    client_id: id,
    token_endpoint_auth_method: method,
    redirect_uris: options.redirectUris,
    response_types: ['code'],
    grant_types: grants.code,
    application_type: 'native',
    scope,
    ...secret,
    ...extra,
  };
}

const clients = [
  client('basic', 'client_secret_basic'),
  client('post', 'client_secret_post'),
  client('public', 'none'),
  client('machine', 'client_secret_basic', {
    grant_types: grants.machine, response_types: [], redirect_uris: [], scope: apiScope,
  }),
];
if (options.publicKey) {
  clients.push(client('key', 'private_key_jwt', {
    jwks: { keys: [options.publicKey] }, grant_types: [...grants.code, ...grants.machine],
  }));
}

const provider = new Provider(base, {
  clients,
  scopes: options.scopes,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, email: `${id}@example.org`, email_verified: true, name: id }),
  }),
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
  },
  pkce: { required: (_, found) => found.clientId === 'public' },
  rotateRefreshToken: options.rotate,
  issueRefreshToken: async (_, found) => found.grantTypeAllowed('refresh_token'),
  ttl: {
    AccessToken: options.accessTokenSeconds,
    ClientCredentials: options.accessTokenSeconds,
    RefreshToken: options.refreshTokenSeconds,
    AuthorizationCode: 60,
    DeviceCode: 600,
    Grant: 1209600,
    IdToken: 3600,
    Interaction: 3600,
    Session: 1209600,
  },
  cookies: { keys: ['loopback-only'] },
});
provider.on('server_error', (_, error) => console.error(error));

const note = (entry) => console.log(`REQUEST ${JSON.stringify(entry)}`);

provider.use(async (ctx, next) => {
  await next();
  if (ctx.path === '/token') {
    const { params, client: found } = ctx.oidc ?? {};
    note({ path: ctx.path, grant: params?.grant_type, client: found?.clientId, status: ctx.status });
  }
});

async function subjectOf(header = '') {
  const value = header.replace(/^Bearer /i, '');
  if (!value || value === header) return undefined;
  const token = await provider.AccessToken.find(value);
  if (token && !token.isExpired) {
    const grant = await provider.Grant.find(token.grantId);
    return grant ? token.accountId : undefined;
  }
  const machine = await provider.ClientCredentials.find(value);
  return machine && !machine.isExpired ? machine.clientId : undefined;
}

async function api(request, response) {
  const sub = await subjectOf(request.headers.authorization);
  const status = sub ? 200 : 401;
  note({ path: request.url, subject: sub, status });
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(sub ? { sub, records: [] } : { error: 'invalid_token' }));
}

const oauth = provider.callback();
http
  .createServer((request, response) => {
    if (request.url.startsWith('/api')) api(request, response).catch((error) => console.error(error));
    else oauth(request, response);
  })
  .listen(options.port, '127.0.0.1');
