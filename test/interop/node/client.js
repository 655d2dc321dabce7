#!/usr/bin/env node
/*
 * Transactions as a program with DTM's SDK for Node makes them, one a run.
 *
 *   client.js DTM SERVICE SCENARIO [NAME=VALUE ...]
 *
 * DTM is http://host:port/api/dtmsvr.  DTM_NODE_SDK names a built copy of the SDK itself
 * (its folder); without it dtm.js takes its place.  The last line of stdout is a JSON object.
 */
const sdk = require(process.env.DTM_NODE_SDK || './dtm.js');

const useToken = require('./dtm_token.js');

const [dtm, service, scenario, ...rest] = process.argv.slice(2);
const options = Object.fromEntries(rest.map((argument) => argument.split(/=(.*)/s)));
const payload = { amount: 30, memo: 'Gebühr a/b' };
const result = {};

if (options.token) {
  const axios = require(require.resolve('axios', { paths: [process.env.DTM_NODE_SDK || __dirname] }));

  useToken(axios, dtm, options.token);
}

async function gid() {
  result.gid = options.gid || await sdk.mustGenGid(dtm);
  return result.gid;
}

async function saga() {
  return new sdk.Saga(dtm, await gid())
    .add(`${service}/out`, `${service}/out_undo`, payload)
    .add(`${service}/in`, `${service}/in_undo`, payload);
}

async function msg() {
  return new sdk.Msg(dtm, await gid()).add(`${service}/in`, payload);
}

async function transfer(tcc) {
  result.gid = tcc.gid;
  await tcc.callBranch(payload, `${service}/out_try`, `${service}/out_confirm`, `${service}/out_cancel`);
  if (options.nested) tcc = await sdk.tccFromReq(dtm, tcc.gid, '01');
  await tcc.callBranch(payload, `${service}/in_try`, `${service}/in_confirm`, `${service}/in_cancel`);
  if (options.fail) throw new Error('changed my mind');
}

const scenarios = {
  async saga() {
    await (await saga()).submit();
  },
  async saga_twice() {
    const s = await saga();

    await s.submit();
    await s.submit();
  },
  async saga_concurrent() {
    const s = (await saga()).add(`${service}/mail`, '', payload);

    await s.addBranchOrder(2, [0, 1]).enableConcurrent().submit();
  },
  // one after the other, over connections that are kept
  async many() {
    result.gids = [];
    for (let i = 0; i < Number(options.count); i++) {
      await (await saga()).submit();
      result.gids.push(result.gid);
    }
  },
  async msg() {
    const m = await msg();

    await m.prepare(`${service}/check`);
    await m.submit();
  },
  async msg_delay() {
    const m = (await msg()).setDelay(1);

    await m.prepare(`${service}/check`);
    await m.submit();
  },
  // milliseconds for the SDK's own call, seconds for the server
  async msg_timeout() {
    const m = await msg();

    m.requestTimeout = 5000;
    await m.submit();
  },
  async tcc() {
    result.returned = await sdk.tccGlobalTransaction(dtm, transfer);
  },
  async tcc_late() {
    await transfer(await sdk.tccFromReq(dtm, options.gid, '03'));
  },
};

console.error = () => {};
scenarios[scenario]()
  .catch((error) => {
    result.raised = error.message;
    result.status = error.response && error.response.status;
    result.answer = error.response && error.response.data;
  })
  .finally(() => console.log(JSON.stringify(result)));
