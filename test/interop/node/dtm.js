/*
 * A stand-in for DTM's SDK for Node, "dtmcli", which its registry does not have (any more).
 *
 * Our own words for the same requests: the members, their order and the routes are those of
 * dtmcli 0.0.10, the last one whose sources we have seen, and so is what is made of an answer.
 * axios sends them, as there.  Only what client.js needs is here.
 */
const axios = require('axios');

const headers = { 'Content-Type': 'application/json' };

async function mustGenGid(dtm) {
  const { data } = await axios.get(`${dtm}/newGid`);

  if (!data.gid) throw new Error(`no gid in ${JSON.stringify(data)}`);
  return data.gid;
}

class Saga {
  constructor(dtm, gid) {
    this.dtm = dtm;
    this.body = { gid, trans_type: 'saga', steps: [], payloads: [] };
    this.orders = {};
  }

  add(action, compensate, payload) {
    this.body.steps.push({ action, compensate });
    this.body.payloads.push(JSON.stringify(payload));
    return this;
  }

  addBranchOrder(branch, before) {
    this.orders[branch] = before;
    return this;
  }

  enableConcurrent() {
    this.concurrent = true;
    return this;
  }

  async submit() {
    if (this.concurrent) this.body.custom_data = JSON.stringify({ concurrent: true, orders: this.orders });
    await axios.create({ baseURL: this.dtm }).post('/submit', this.body);
  }
}

class Msg {
  constructor(dtm, gid) {
    this.dtm = dtm;
    this.gid = gid;
    this.steps = [];
    this.payloads = [];
  }

  add(action, payload) {
    this.steps.push({ action });
    this.payloads.push(JSON.stringify(payload));
    return this;
  }

  setDelay(seconds) {
    this.delay = seconds;
    return this;
  }

  // its own text, and not axios's; the word FAILURE in a 200 is an error here
  async call(route) {
    const body = {
      request_timeout: this.requestTimeout, gid: this.gid, trans_type: 'msg', custom_data: this.customData,
      steps: this.steps, payloads: this.payloads, query_prepared: this.queryPrepared,
    };
    const { data } = await axios.request({
      url: `${this.dtm}/${route}`, method: 'POST', headers, data: JSON.stringify(body), timeout: this.requestTimeout,
    });

    if (JSON.stringify(data).includes('FAILURE')) throw new Error(JSON.stringify(data));
  }

  async prepare(queryPrepared) {
    this.queryPrepared = queryPrepared;
    await this.call('prepare');
  }

  async submit() {
    if (this.delay > 0) this.customData = `{"delay": ${this.delay}}`;
    await this.call('submit');
  }
}

class Tcc {
  constructor(dtm, gid, parent = '') {
    Object.assign(this, { dtm, gid, parent, count: 0 });
  }

  async callBranch(payload, tryUrl, confirm, cancel) {
    const branch_id = this.parent + String(++this.count).padStart(2, '0');

    await axios.post(`${this.dtm}/registerTccBranch`, {
      gid: this.gid, branch_id, trans_type: 'tcc', status: 'prepared', data: JSON.stringify(payload),
      try: tryUrl, confirm, cancel,
    });
    return axios.post(tryUrl, payload, {
      params: { gid: this.gid, trans_type: 'tcc', branch_id, branch_type: 'try' },
    });
  }
}

async function tccGlobalTransaction(dtm, callback) {
  const gid = await mustGenGid(dtm);
  const body = { gid, trans_type: 'tcc' };

  try {
    await axios.post(`${dtm}/prepare`, body);
    await callback(new Tcc(dtm, gid));
    await axios.post(`${dtm}/submit`, body);
  } catch (error) {
    await axios.post(`${dtm}/abort`, body);
    return '';
  }
  return gid;
}

async function tccFromReq(dtm, gid, parent) {
  return new Tcc(dtm, gid, parent);
}

module.exports = { mustGenGid, Saga, Msg, Tcc, tccGlobalTransaction, tccFromReq };
