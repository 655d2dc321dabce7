/*
 * A token of dtm_pg with every request that DTM's SDK sends to the server, and with no other.
 * axios is the one that the SDK has, dtm the address that the SDK is given.  Call it before
 * anything of the SDK is made.
 */
module.exports = function useToken(axios, dtm, token) {
  const given = axios.defaults.adapter;
  const adapter = typeof given === 'function' ? given : axios.getAdapter(given);

  axios.defaults.adapter = (config) => {
    const url = config.url.startsWith('http') ? config.url : (config.baseURL || '') + config.url;

    if (url.startsWith(`${dtm}/`)) config.headers.Authorization = `Bearer ${token}`;
    return adapter(config);
  };
};
