import { objectClientContract } from '@podway/kube/testing';
import { ApiServer, MemoryStore } from '../src/apiserver/index.js';
import { running } from './apiserver-fixture.js';

objectClientContract('in process', async () => {
  const api = await ApiServer.open({ lab: 'test', store: new MemoryStore() });
  return { client: api.inProcessClient(), close: () => api.close() };
});

objectClientContract('remote, over HTTPS', async () => {
  const r = await running();
  return { client: await r.remote(), close: () => r.close() };
});
